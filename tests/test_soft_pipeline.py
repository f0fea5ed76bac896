"""The experiment with soft quantisation: what it measures, keeps, continues and refuses."""

import csv

import numpy as np
import pytest

from data.recipes import load
from pipelines import soft_quantization as experiment
from rvqvae.family import Autoencoder


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """Small images of 300 digits for training and 150 for the test, and a small perceptron."""

    def loaded(name, root=None, train=True):
        images, labels = load(name, root, train)
        count = 300 if train else 150
        return images[:count, ::2, ::2].copy(), labels[:count]

    monkeypatch.setattr(experiment, "load", loaded)
    small = {"hidden": (16,), "latent_dim": 4}
    made = {
        name: lambda make=make, **given: make(**given | small) for name, make in experiment.MODELS.items()
    }
    monkeypatch.setattr(experiment, "MODELS", made)


def run(out, *flags, status=0):
    given = [f"--out={out}", "--tracking=false", "--epochs=1", "--restarts=2", *flags]
    assert experiment.main(given) == status
    path = out / "rows.csv"
    return list(csv.DictReader(path.read_text().splitlines())) if path.exists() else []


def test_every_model_is_measured_once_and_the_same_command_goes_on(tmp_path, monkeypatch):
    pair = "--models=[hard VQ-VAE,soft VQ-VAE]"
    rows = run(tmp_path, pair)
    assert [row["model"] for row in rows] == ["hard VQ-VAE", "soft VQ-VAE"]
    fits, real = [], Autoencoder.fit
    monkeypatch.setattr(Autoencoder, "fit", lambda self, *args: fits.append(self) or real(self, *args))
    again = run(tmp_path)
    assert again[:2] == rows and len(again) == len(fits) + 2 == 7
    for row in again:
        assert 0.1 < float(row["accuracy"]) <= 1 and 0 < float(row["nmi"]) <= 1
        assert 0.1 < float(row["linear"]) <= 1 and 0 < float(row["error"]) < 20 and row["seen"] == "300"
    assert len({row["accuracy"] + row["error"] for row in again}) == 7
    text = (tmp_path / "table.md").read_text()
    assert "| soft VQ-VAE |" in text and "0.780" in text and "target: soft VQ-VAE" in text
    assert (tmp_path / "latents.png").stat().st_size > 5000


def test_seeds_count_and_their_spread_is_told(tmp_path):
    rows = run(tmp_path, "--models=[AE]", "--seeds=[0,1]")
    assert len(rows) == 2 and rows[0]["error"] != rows[1]["error"]
    assert "±" in (tmp_path / "table.md").read_text()


def test_half_precision_counts_and_learns_nearly_the_same(tmp_path):
    """Long enough to see that every step uses the weights of its own time."""
    flags = ["--models=[AE]", "--epochs=20", "--learning_rate=1e-2"]
    exact = run(tmp_path / "a", *flags)[0]
    coarse = run(tmp_path / "b", *flags, "--precision=bfloat16")[0]
    assert float(exact["error"]) < 0.8
    assert 0 < abs(float(exact["error"]) - float(coarse["error"])) < 0.05 * float(exact["error"])
    run(tmp_path / "a", *flags, "--precision=bfloat16", status=2)


def test_the_error_is_measured_in_variances(tmp_path):
    model = experiment.MODELS["AE"](epochs=1, random_state=0)
    halves = [experiment.load("mnist", None, train) for train in (True, False)]
    row, codes = experiment.measure("AE", model, *halves, 2)
    images = halves[1][0]
    error = ((model.reconstruct(images) / 255 - images / 255) ** 2).mean() / (images / 255).var()
    assert row.error == pytest.approx(error, rel=1e-4)
    np.testing.assert_allclose(codes, model.encode(images), rtol=1e-4, atol=1e-5)


def test_the_authors_weight_keeps_its_variance():
    model = experiment.WeightedVAE(hidden=(8,), latent_dim=2, epochs=1, random_state=0)
    network = model.fit(experiment.load("mnist")[0]).network_
    assert float(network.log_variance.exp()) == pytest.approx(0.95, rel=1e-5)
    assert float(load("mnist")[0].var() / 255**2) == pytest.approx(0.095, rel=0.05)


@pytest.mark.parametrize(
    "flag, message",
    [("--models=[GAN]", "GAN"), ("--seeds=[]", "at least one"), ("--restarts=0", "restarts=0"),
     ("--epochs=0", "epochs=0")],
)  # fmt: skip
def test_bad_arguments_are_named(tmp_path, capsys, flag, message):
    assert run(tmp_path, flag, status=2) == []
    assert message in capsys.readouterr().err


def test_a_folder_of_other_settings_is_refused(tmp_path, capsys):
    run(tmp_path, "--models=[AE]")
    run(tmp_path, "--models=[AE]", "--batch_size=64", status=2)
    assert "another --out" in capsys.readouterr().err
    (tmp_path / "rows.csv").write_text("model,seed\n")
    run(tmp_path, "--models=[AE]", status=2)
    assert "of another version" in capsys.readouterr().err


def test_the_verdict_is_plain():
    said = experiment.verdict(
        {"AE": 0.7, "hard VQ-VAE": 0.9, "soft VQ-VAE": 0.8, "soft VQ-VAE, as released": 1}
    )
    assert said == (
        "target: soft VQ-VAE 0.800, at least 0.78; above AE; NOT above hard VQ-VAE. "
        "soft VQ-VAE, as released 1.000, at least 0.78; above AE; above hard VQ-VAE"
    )
    assert "missed 0.78" in experiment.verdict({"soft VQ-VAE": 0.7})
    assert experiment.verdict({"AE": 0.7}) == ""


def test_other_images_are_judged_by_their_own_kinds(tmp_path):
    draw = np.random.default_rng(0)
    kinds = np.tile([2, 5, 7], 40)
    colours = np.array([[200, 0, 0], [0, 200, 0], [0, 0, 200]])[[0, 1, 2] * 40]
    images = (colours[:, None, None] + draw.integers(0, 40, (120, 8, 8, 3))).astype(np.uint8)
    np.savez(tmp_path / "set.npz", x=images, y=kinds)
    given = ["--models=[AE]", f"--images={tmp_path / 'set.npz'}"]
    row = run(tmp_path / "out", *given)[0]
    assert float(row["linear"]) == 1 and row["seen"] == "100"
    assert "0.780" not in (tmp_path / "out" / "table.md").read_text()
    run(tmp_path / "out", *given, "--root=elsewhere", status=2)
