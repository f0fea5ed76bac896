"""The scorer as an ONNX file: the same scores, or no file."""

import sys

import numpy as np
import pytest
import torch

import rvqvae.onnx_scorer as room
from rvqvae import RobustVQVAE
from rvqvae.commands.main import main
from rvqvae.errors import InputError
from rvqvae.features.statistics import ORIENTATIONS, edges
from rvqvae.onnx_scorer import export_scorer, open_scorer

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


def patterns(channels, side, n, seed=0):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] / side
    angle, phase = rng.random((2, n, 1, 1, 1)), rng.random((n, channels, 1, 1))
    waves = np.sin(6 * (x * angle[0] + y * angle[1]) + 3 * phase + np.arange(n)[:, None, None, None] % 5)
    return ((waves + 1) * 100 + rng.normal(0, 8, waves.shape)).clip(0, 255).astype(np.uint8)


def saved(channels, side, folder):
    images = patterns(channels, side, 150)
    model = RobustVQVAE(epochs=0, random_state=0).fit(images)
    model.metadata_ = {"size": [side, side], "channels": channels}
    model.save(folder)
    return folder, images


@pytest.fixture(scope="module")
def grey(tmp_path_factory):
    return saved(1, 28, tmp_path_factory.mktemp("grey"))


@pytest.mark.parametrize("kind", ["grey", "colour and answers"])
def test_scores_are_those_of_the_model(grey, kind, tmp_path, monkeypatch):
    monkeypatch.setattr(room, "COMPARED", 40)
    fitted = grey if kind == "grey" else saved(3, 40, tmp_path / "model")
    model, out = RobustVQVAE.load(fitted[0]), tmp_path / "a.onnx"
    new = np.concatenate([patterns(*model.shape_[:2], 60, seed=1), fitted[1][:20]])
    before = model.score_samples(new)
    if kind != "grey":
        asked = model.ask(2)
        model.answer({asked[0].id: True, asked[1].id: False, 3: True, 7: False})
        assert np.abs(model.score_samples(new) - before).max() > 0.1
    given, drawn, largest = export_scorer(model, out, fitted[1][:30])
    assert (given, drawn) == (30, 10) and largest <= 1e-4
    session, ours = open_scorer(out), model.score_samples(new)
    for batch in (slice(0, 1), slice(0, 80)):
        score, log_odds, probability = session.run(None, {"images": new[batch]})
        np.testing.assert_allclose(score, ours[batch], rtol=1e-4, atol=1e-4)
        np.testing.assert_array_equal(log_odds, -score)
        np.testing.assert_allclose(probability, 1 / (1 + np.exp(score)), rtol=1e-9)
    assert float(session.get_modelmeta().custom_metadata_map["offset"]) == model.offset_


def test_what_differs_is_not_left(grey, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(room, "COMPARED", 8)
    monkeypatch.setattr(room, "BEND", 0.71)
    out = tmp_path / "a.onnx"
    assert main(["export", str(grey[0]), "--to", "onnx", "--out", str(out), "--quiet"]) == 2
    said = capsys.readouterr().err
    assert "of drawn image " in said and "log odds differ by" in said and "another seed" in said
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError, match=r"of given image \d+, .* above 0.0001: use the model folder"):
        export_scorer(RobustVQVAE.load(grey[0]), out, grey[1][:8])


def test_a_command_a_file_of_another_version_and_no_onnx(grey, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(room, "COMPARED", 8)
    np.savez(tmp_path / "x.npz", x=grey[1][:5].transpose(0, 2, 3, 1).squeeze())
    out = tmp_path / "a.onnx"
    words = ["export", str(grey[0]), "--to", "onnx", "--images", str(tmp_path / "x.npz"), "--out", str(out)]
    assert main(words) == 0
    assert "log odds of 5 images and 3 drawn ones differ by at most" in capsys.readouterr().out
    monkeypatch.setattr(room, "FORMAT", 2)
    with pytest.raises(InputError, match="has scorer format 1, and this version of rvqvae reads 2"):
        open_scorer(out)
    out.write_bytes(b"no graph")
    with pytest.raises(InputError, match="cannot be read as ONNX"):
        open_scorer(out)
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert main(words) == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith("install the extra rvqvae[onnx]")
    assert out.read_bytes() == b"no graph"


@pytest.mark.parametrize("features", ["learned", None])
def test_other_models_are_refused(features, tmp_path):
    samples = np.random.default_rng(0).normal(size=(40, 3)) if features is None else patterns(1, 16, 30)
    model = RobustVQVAE(epochs=0, random_state=0, features=features or "efficientnet_lite0").fit(samples)
    with pytest.raises(InputError, match="cannot be exported to ONNX"):
        export_scorer(model, tmp_path / "a.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("step", [1.0, 1 / 255])
def test_orientations_are_those_of_the_angle(step):
    grey = torch.from_numpy(np.random.default_rng(0).integers(0, 5, (6, 9, 9)).astype(np.float32)) * step
    dx, dy = (grey[:, 1:, 1:] - other for other in (grey[:, 1:, :-1], grey[:, :-1, 1:]))
    size = (dx.square() + dy.square()).sqrt().flatten(1)
    index = (torch.atan2(dy, dx) % torch.pi / torch.pi * ORIENTATIONS).long().clamp(max=ORIENTATIONS - 1)
    strength = torch.zeros(6, ORIENTATIONS).scatter_add_(1, index.flatten(1), size)
    torch.testing.assert_close(edges(grey)[:, 7:], strength / (size.sum(1)[:, None] + 1e-6))
