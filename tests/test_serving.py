"""Models in MLflow: logged, loaded, and served to a client on this machine. Nothing leaves it."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import warnings
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rvqvae import InputError, RobustVQVAE, log_model
from rvqvae.tracking.serving import ServedModel

# Newer Pythons report SQLite connections that MLflow's pool leaves to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning")
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
N = 60


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory):
    """The working directory, with MLflow's store in it; nothing here may connect to another machine."""
    folder = tmp_path_factory.mktemp("home")
    # MLflow would keep these with a model.
    (folder / "pyproject.toml").write_text("[project]\nname = 'other'\nversion = '1'\n")
    (folder / "uv.lock").write_text("version = 1\n")
    connect, elsewhere = socket.socket.connect, []

    def connect_here(self: socket.socket, address: object) -> None:
        if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "::1", "localhost"):
            elsewhere.append(address)
            raise ConnectionRefusedError(address)
        connect(self, address)

    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
            patch.delenv(name)
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        patch.setenv("MLFLOW_LOGGING_LEVEL", "WARNING")
        patch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
        patch.setattr(socket.socket, "connect", connect_here)
        patch.chdir(folder)
        yield folder
    assert not elsewhere


@pytest.fixture(scope="module")
def mlflow(home):
    """Imported only now: the import itself would report usage to MLflow's makers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's, about its own code
        pytest.importorskip("mlflow.pyfunc")
        import mlflow
    return mlflow


@pytest.fixture(scope="module")
def model():
    return fitted(images("nhwc"))


@pytest.fixture(scope="module")
def uri(mlflow, model):
    return logged(model, "model")


def images(layout: str) -> np.ndarray:
    """60 images of which 6 are inverted."""
    shape = {"nhw": (N, 12, 16), "nhwc": (N, 12, 16, 3), "nchw": (N, 1, 12, 16)}[layout]
    pixels = np.random.default_rng(0).normal(60, 15, shape).clip(0, 255).astype("uint8")
    pixels[:6] = 255 - pixels[:6]
    return pixels


def fitted(samples: np.ndarray) -> RobustVQVAE:
    tiny = RobustVQVAE(epochs=1, prior_epochs=0, channels=8, code_dim=4, inlier_codes=8, outlier_codes=4)
    return tiny.set_params(random_state=0, device="cpu").fit(samples)


def logged(model: RobustVQVAE, folder: str, **options) -> str:
    model.save(folder)
    # As `rvqvae train` leaves there.
    Path(folder, ".work").mkdir()
    Path(folder, ".work", "run.json").write_text("where the images lie")
    return log_model(folder, **options)


def assert_same(table, model: RobustVQVAE, samples: np.ndarray) -> None:
    assert list(table.columns) == ["score", "outlier_probability", "is_outlier"]
    np.testing.assert_allclose(table["score"], model.score_samples(samples), rtol=0, atol=1e-6)
    np.testing.assert_allclose(table["outlier_probability"], model.outlier_probability(samples), atol=1e-6)
    np.testing.assert_array_equal(table["is_outlier"], model.predict(samples) == -1)


@pytest.mark.parametrize("kind", ["nhw", "nchw", "vectors"])
def test_a_logged_model_takes_what_it_was_trained_on(mlflow, kind):
    vectors = np.random.default_rng(0).normal(size=(N, 5))
    samples = vectors if kind == "vectors" else images(kind)
    model = fitted(samples)
    loaded = mlflow.pyfunc.load_model(logged(model, kind))
    (spec,) = loaded.metadata.signature.inputs.inputs
    assert spec.type == samples.dtype and spec.shape == (-1, *samples.shape[1:])
    names = loaded.metadata.signature.outputs.input_names()
    assert names == ["score", "outlier_probability", "is_outlier"]
    assert loaded.input_example.shape == (1, *samples.shape[1:])
    assert_same(loaded.predict(samples), model, samples)


def test_the_artifact_is_the_model_and_nothing_else(mlflow, uri, tmp_path):
    root = Path(mlflow.artifacts.download_artifacts(uri, dst_path=tmp_path))
    files = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
    described = {"MLmodel", "conda.yaml", "python_env.yaml", "requirements.txt", "registered_model_meta"}
    examples = {"input_example.json", "serving_input_example.json"}
    data = {"data/model/model.json", "data/model/model.safetensors"}
    assert data < files <= data | described | examples


def test_results_of_clean_are_logged_by_name_in_the_active_run(mlflow, model):
    with mlflow.start_run() as run:
        model.save("cleaned/model")
        uri = log_model("cleaned", "photos", registered_model_name="photos")
    info = mlflow.models.get_model_info(uri)
    assert info.name == "photos" and info.run_id == run.info.run_id
    assert_same(mlflow.pyfunc.load_model("models:/photos/1").predict(images("nhwc")), model, images("nhwc"))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (images("nhwc")[:, :8], r"\(60, 8, 16, 3\) does not match expected shape \(-1, 12, 16, 3\)"),
        (images("nhw"), r"\(60, 12, 16\) does not match"),
        (images("nhwc") / 255, "dtype of input float64 does not match expected dtype uint8"),
    ],
)
def test_wrong_images_are_refused(mlflow, model, uri, wrong, message):
    with pytest.raises(mlflow.MlflowException, match=message):
        mlflow.pyfunc.load_model(uri).predict(wrong)
    with pytest.raises(InputError):
        ServedModel(model).predict(wrong)


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(InputError, match="not a folder"):
        log_model(tmp_path / "nothing")
    with pytest.raises(InputError, match=r"has no model\.json"):
        log_model(tmp_path)


@contextmanager
def server(uri: str):
    """`mlflow models serve` as a user starts it; gives the address and ends it with all its processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    serve = [sys.executable, "-m", "mlflow", "models", "serve", "-m", uri, "--env-manager", "local"]
    with Path("server.log").open("wb") as log:
        process = subprocess.Popen(
            [*serve, "--host", "127.0.0.1", "--port", str(port)],
            stdout=log, stderr=log, start_new_session=True,
            # The command finds uvicorn by its name.
            env=os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"},
        )  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    try:
        end = time.monotonic() + 120
        while not answers(f"{address}/ping"):
            assert process.poll() is None and time.monotonic() < end, Path("server.log").read_text()
            time.sleep(0.2)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(10)
        # The command may end before the server that it started.
        end = time.monotonic() + 10
        while answers(f"{address}/ping") and time.monotonic() < end:
            time.sleep(0.1)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def answers(url: str) -> bool:
    try:
        with OPENER.open(url, timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


def post(address: str, content: object) -> tuple[int, dict]:
    request = urllib.request.Request(
        f"{address}/invocations", json.dumps(content).encode(), {"Content-Type": "application/json"}
    )
    try:
        with OPENER.open(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


@pytest.mark.skipif(sys.platform == "win32", reason="ends the server by its process group")
def test_a_server_scores_images_sent_as_json(model, uri):
    samples = images("nhwc")
    with server(uri) as address:
        for key in ("inputs", "instances"):
            status, answer = post(address, {key: samples.tolist()})
            assert status == 200
            assert_same(pd.DataFrame(answer["predictions"]), model, samples)

        for wrong, message in [
            (samples[:, :8].tolist(), "does not match expected shape (-1, 12, 16, 3)"),
            ((samples[:1].astype(int) + 300).tolist(), "out of bounds for uint8"),
        ]:
            status, answer = post(address, {"inputs": wrong})
            assert status == 400 and message in json.dumps(answer)
    assert not answers(f"{address}/ping")
