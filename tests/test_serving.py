"""Models in MLflow: logged, loaded, and served to a client on this machine. Nothing leaves it."""

import os
import re
import socket
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from rvqvae import InputError, RobustVQVAE, log_model
from rvqvae.tracking.serving import ServedModel

# Newer Pythons report SQLite connections that MLflow's pool leaves to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning")
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


@pytest.fixture(scope="module")
def client(mlflow, uri):
    return client_of(mlflow, uri)


def client_of(mlflow, uri):
    """A function from content to status and answer of the app that `mlflow models serve` runs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mlflow.pyfunc import scoring_server
        from starlette.testclient import TestClient

        app = TestClient(scoring_server.init(mlflow.pyfunc.load_model(uri)))

    def post(content: object) -> tuple[int, dict]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            answer = app.post("/invocations", json=content)
        return answer.status_code, answer.json()

    return post


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
    if kind == "vectors":
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
    data = {f"data/model/{name}" for name in ("model.json", "model.safetensors", "README.md")}
    assert data < files <= data | described | examples


def test_results_of_clean_are_logged_by_name_in_the_active_run(mlflow, model):
    with mlflow.start_run() as run:
        model.save("cleaned/model")
        uri = log_model("cleaned", "photos", registered_model_name="photos")
    info = mlflow.models.get_model_info(uri)
    assert info.name == "photos" and info.run_id == run.info.run_id
    assert_same(mlflow.pyfunc.load_model("models:/photos/1").predict(images("nhwc")), model, images("nhwc"))


WRONG = [
    (images("nhwc") / 255, "floats from 0 to 0.996 are no pixels: send whole numbers from 0 to 255"),
    ((images("nhwc") > 60).astype(float), "floats from 0 to 1 are no pixels: send whole numbers"),
    (images("nhwc") + 0.5, "are no pixels: send whole numbers from 0 to 255"),
    (images("nhwc").astype(int) + 300, "are out of range: pixels are from 0 to 255"),
    (images("nhwc").astype(int) - 100, "are out of range: pixels are from 0 to 255"),
    (images("nhwc")[0, 0], "images have shape"),
    (images("nhw")[:, :4], "are too small: send at least 8 x 8 pixels"),
    (np.full((2, 12, 16, 3), "a"), "no array of pixels"),
    (np.full((2, 12, 16, 3), None), "no array of pixels"),
    ([[[1] * 16] * 12, [[1] * 15] * 12], "differ in shape: send images of one size"),
]


@pytest.mark.parametrize(("wrong", "message"), WRONG, ids=[message[:24] for _, message in WRONG])
def test_wrong_images_are_refused_in_one_sentence(mlflow, model, client, wrong, message):
    with pytest.raises(InputError, match=re.escape(message)):
        ServedModel(model).predict(wrong)
    for key in ("inputs", "instances"):
        status, answer = client({key: wrong if isinstance(wrong, list) else wrong.tolist()})
        assert status == 400
        assert message in answer["message"] and len(answer["message"]) < 250
        assert "\n" not in answer["message"]


def test_matrices_of_another_width_are_refused(mlflow):
    client = client_of(mlflow, logged(fitted(np.random.default_rng(0).normal(size=(N, 5))), "narrow"))
    assert client({"inputs": [[1, 2, 3, 4, 5]]})[0] == 200
    status, answer = client({"inputs": [[1, 2, 3]]})
    assert status == 400 and "(1, 3) does not match expected shape (-1, 5)" in answer["message"]
    status, answer = client({"inputs": [[1, 2, 3, 4, 1e30]]})
    assert status == 400 and answer["message"].startswith("a value of 1e+30 is out of range")


@pytest.mark.parametrize("kind", ["nhw", "nchw", "nhwc"])
def test_every_layout_and_size_of_images_is_scored(model, client, kind):
    """By a model of colour images, whatever is sent."""
    samples = images(kind)
    assert_answers(client, samples.tolist(), model, coloured(samples))
    assert_answers(client, samples.astype(float).tolist(), model, coloured(samples))
    larger = samples.repeat(2, -2 if kind != "nhwc" else 1)
    with_pillow = [Image.fromarray(image).resize((16, 12), Image.Resampling.BICUBIC, reducing_gap=2.0)
                   for image in coloured(larger)]  # fmt: skip
    assert_answers(client, larger.tolist(), model, np.stack([np.asarray(image) for image in with_pillow]))


def test_readmes_request_of_grey_images(mlflow):
    """`rvqvae clean` and `train` learn from (N,1,H,W)."""
    model = fitted(images("nchw"))
    client = client_of(mlflow, logged(model, "grey"))
    assert_answers(client, images("nchw")[:, 0].tolist(), model, images("nchw"))
    grey_in_colour = images("nchw").transpose(0, 2, 3, 1).repeat(3, 3)
    assert_answers(client, grey_in_colour.tolist(), model, images("nchw"))


def coloured(samples: np.ndarray) -> np.ndarray:
    """(N, H, W, 3) of any layout."""
    if samples.ndim == 3:
        return samples[..., None].repeat(3, 3)
    return samples if samples.shape[3] == 3 else samples.transpose(0, 2, 3, 1).repeat(3, 3)


def assert_answers(client, sent: list, model: RobustVQVAE, samples: np.ndarray) -> None:
    status, answer = client({"inputs": sent})
    assert status == 200, answer
    assert_same(pd.DataFrame(answer["predictions"]), model, samples)


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(InputError, match="not a folder"):
        log_model(tmp_path / "nothing")
    with pytest.raises(InputError, match=r"has no model\.json"):
        log_model(tmp_path)
