"""The main job, end to end, at a tiny size."""

import json
import shutil
from csv import DictReader

import numpy as np
import pytest
from PIL import Image

from pipelines import robust_generation
from pipelines.common.store import read_rows
from pipelines.common.tables import as_markdown
from pipelines.generation import reference
from pipelines.generation.sources import pair
from pipelines.generation.table import COLUMNS, sheet
from rvqvae.tracking.runs import Tracker

# Newer Pythons report SQLite connections that MLflow's pool leaves to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning")

METHODS = ["oracle", "robust", "literal", "plain"]
TINY = ["--total=200", "--samples=32", "--train.epochs=2", "--train.warmup_epochs=1", "--prior.epochs=1"]
TINY += ["--model.channels=8", "--prior.channels=8"]


def run(out, *flags, tracking=False):
    return robust_generation.main([*TINY, f"--out={out}", f"--tracking={str(tracking).lower()}", *flags])


def rows(out):
    """Results without the times."""
    times = ("seconds", "stages", "resumed")
    kept = json.loads((out / "results.json").read_text())["rows"]
    return [{key: value for key, value in row.items() if key not in times} for row in kept]


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Few steps and features; all runs share the classifiers, as the held-out images are always the same."""
    load, extract, made = robust_generation.load_reference, reference.extract_features, {}

    def load_once(inliers, outliers, samples):
        if samples not in made:
            made[samples] = load(inliers, outliers, samples)
        return made[samples]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reference, "STEPS", 60)
        patch.setattr(reference, "extract_features", lambda images: extract(images)[:, :64])
        patch.setattr(robust_generation, "load_reference", load_once)
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("pipeline") / "run"
    assert run(out) == 0
    return out


@pytest.fixture
def copy(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "copy")


def test_every_method_is_in_every_table(finished):
    assert [row["method"] for row in rows(finished)] == ["real", *METHODS]
    with (finished / "table.csv").open() as file:
        lines = list(DictReader(file))
    assert [line["method"] for line in lines] == ["real", *METHODS]
    blank = {line["method"]: line["auroc"] == "" for line in lines}
    assert blank == {"real": True, "oracle": True, "robust": False, "literal": False, "plain": True}
    table = (finished / "table.md").read_text()
    assert all(title in table for title, _ in COLUMNS.values())


def test_numbers_are_in_range(finished):
    for row in rows(finished):
        for key in ("purity", "legibility", "kinds_shift", "precision", "recall", "coverage"):
            assert 0 <= row[key] <= 1
        assert row["frechet_distance"] > 0
    real = rows(finished)[0]
    assert real["purity"] > 0.95 and real["nearest"] == 0 <= real["kinds_shift"] < 0.5
    assert all(row["nearest"] > 0 and row["reconstruction_frechet"] > 0 for row in rows(finished)[1:])
    assert all(row["frechet_distance"] > real["frechet_distance"] for row in rows(finished)[1:])


def test_filters_train_on_what_they_keep(tmp_path):
    """The forest sees Fashion-MNIST among digits better than chance, and is told how many to drop."""
    assert run(tmp_path / "run", "--methods=[iforest,knn,judge]", "--train.epochs=1") == 0
    forest, neighbours, judge = rows(tmp_path / "run")[1:]
    for row in (forest, neighbours):
        assert row["auroc"] is None
        assert row["outlier_precision"] == row["outlier_recall"] != 0
    assert forest["outlier_recall"] > 0.6 and forest["frechet_distance"] != neighbours["frechet_distance"]
    assert judge["outlier_precision"] != judge["outlier_recall"] > 0.6


def test_domains_of_a_file_take_the_inliers_form_and_hold_a_third_out(tmp_path):
    rng = np.random.default_rng(0)
    icons, digits = tmp_path / "icons.npz", tmp_path / "digits.npz"
    colour = rng.integers(256, size=(30, 12, 16, 3)).astype(np.uint8)
    np.savez(icons, x=colour, y=np.arange(30) % 3)
    np.savez(digits, x=np.zeros((9, 28, 28), np.uint8), y=np.full(9, 5))
    inliers, outliers = pair(str(icons), str(digits), None)
    (x, y), (held_out, kinds) = inliers
    assert x.shape == (20, 3, 12, 16) and held_out.shape == (10, 3, 12, 16)
    # No image is in both halves, and each keeps its kind.
    found = [next(i for i in range(30) if np.array_equal(colour[i].transpose(2, 0, 1), image))
             for image in np.concatenate([x, held_out])]  # fmt: skip
    assert sorted(found) == list(range(30))
    np.testing.assert_array_equal(np.concatenate([y, kinds]), np.array(found) % 3)
    assert [len(half[0]) for half in outliers] == [6, 3] and outliers.training[0].shape[1:] == (3, 12, 16)
    tiles = pair(str(icons), "flower", None).outliers
    assert tiles.training[0].shape == tiles.held_out[0].shape == (1000, 3, 12, 16)
    assert not set(map(bytes, tiles.training[0])) & set(map(bytes, tiles.held_out[0]))
    small = pair(str(digits), str(icons), None, side=8)
    assert small.inliers.training[0].shape == (6, 1, 8, 8) and small.outliers.held_out[0].shape[1:] == (
        1,
        8,
        8,
    )


def test_artifacts(finished):
    truth = read_rows(finished / "manifest-seed0.csv", robust_generation.Truth)
    assert (len(truth), sum(row.is_outlier for row in truth)) == (200, 60)
    for method in METHODS:
        folder = finished / f"{method}-seed0"
        names = {"originals.png", "reconstructions.png", "samples.png", "curves.png", "metrics.jsonl"}
        assert names <= {path.name for path in folder.iterdir()}
        assert (folder / "scores.png").exists() == (method in ("robust", "literal"))
        with np.load(folder / "samples.npz") as arrays:
            assert (arrays["x"].shape, arrays["x"].dtype) == ((32, 1, 28, 28), np.uint8)
    with Image.open(finished / "generation.png") as picture:
        assert min(picture.size) > 500
    assert not list(finished.rglob("*.partial*"))


def test_the_same_command_does_nothing_twice(finished, monkeypatch):
    before = rows(finished)
    monkeypatch.setattr(robust_generation, "run_method", None)
    monkeypatch.setattr(robust_generation, "load_reference", None)
    assert run(finished) == 0
    assert rows(finished) == before


def test_an_interrupted_run_continues(finished, copy, monkeypatch, capsys):
    shutil.rmtree(copy / "robust-seed0")
    (copy / "results.json").unlink()

    def interrupt(self, values, step=None):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Tracker, "metrics", interrupt)
        assert run(copy) == 130
    assert (copy / "robust-seed0" / "training.pt").exists()
    assert not (copy / "robust-seed0" / "results.json").exists()
    assert run(copy) == 0
    assert rows(copy) == rows(finished)


def test_another_experiment_in_the_same_folder(finished, capsys):
    before = sorted(finished.rglob("*"))
    assert run(finished, "--rate=0.2") == 2
    assert "holds another experiment" in one_line(capsys)
    assert sorted(finished.rglob("*")) == before


def test_tracking_keeps_a_child_for_each_model(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert run(tmp_path / "run", "--methods=[robust]", "--rate=0", tracking=True) == 0
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("robust_generation")
    child, parent = client.search_runs([experiment.experiment_id], order_by=["start_time DESC"])
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert child.data.params["model.channels"] == "8"
    assert len(client.get_metric_history(child.info.run_id, "loss")) == 2
    kept = {file.path for file in client.list_artifacts(parent.info.run_id)}
    assert {"config.yaml", "manifest-seed0.csv", "table.md", "generation.png"} <= kept
    kept = {file.path for file in client.list_artifacts(child.info.run_id)}
    assert {"originals.png", "reconstructions.png", "samples.png", "scores.png"} <= kept
    purity = rows(tmp_path / "run")[1]["purity"]
    assert parent.data.metrics["robust.purity"] == pytest.approx(purity)
    assert not any(name.endswith("auroc") for name in parent.data.metrics)
    # A clean set has no AUROC.
    assert rows(tmp_path / "run")[1]["auroc"] is None


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--rate=1"], "rate=1.0"),
        (["--rate=x"], "rate"),
        (["--total=99999999"], "inliers"),
        (["--outliers=mnist"], "two data sets"),
        (["--inliers=cifar"], "cifar"),
        (["--model.decay=3"], "decay=3.0"),
        (["--train.membership=all"], "methods"),
        (["--methods=[fancy]"], "methods"),
        (["--methods=[]"], "methods"),
        (["--seed=[0,0]"], "seed"),
        (["--seed=-1"], "seed"),
        (["--colour=red"], "colour"),
        (["--inliers=nowhere.npz"], "nowhere.npz"),
        (["--side=7"], "side=7"),
        (["--root=nowhere"], "nowhere"),
        (["--root=."], "torchvision"),
        (["--config=nowhere.yaml"], "nowhere.yaml"),
    ],
)
def test_bad_flags(tmp_path, capsys, flags, message):
    assert run(tmp_path / "run", *flags) == 2
    assert message in one_line(capsys)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("rat: 0.2", "rat"),
        ("model: {channls: 8}", "channls"),
        ("train: {epochs: 0}", "epochs=0"),
        ("prior: {dropout: 2}", "dropout=2"),
        ("rate: [", "config"),
        ("rate: high", "rate"),
    ],
)
def test_bad_configs(tmp_path, capsys, content, message):
    config = tmp_path / "bad.yaml"
    config.write_text(content)
    assert robust_generation.main([f"--config={config}", f"--out={tmp_path / 'run'}"]) == 2
    assert message in one_line(capsys)
    assert not (tmp_path / "run").exists()


def test_a_folder_of_something_else_is_left_alone(tmp_path, capsys):
    (tmp_path / "thesis.tex").write_text("dear")
    assert run(tmp_path) == 2
    assert "not empty" in one_line(capsys)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_several_seeds_give_mean_and_spread():
    table = as_markdown([sheet([{"method": "robust", "auroc": x} for x in (0.9, 1.0)], "note")])
    assert "| AUROC | 0.950 ±0.071 |" in table
    assert "| purity |  |" in table


def one_line(capsys):
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    return error
