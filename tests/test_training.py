"""Training: it learns, it resumes to the same bytes, and it says what went wrong."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from data.recipes import load
from rvqvae.config import ModelConfig, TrainConfig, usual_batch, usual_epochs
from rvqvae.errors import InputError
from rvqvae.membership import Membership
from rvqvae.vqvae.inference import (
    codebook_evidence,
    codebook_scores,
    decode_codes,
    inlier_codes,
    reconstruction_errors,
)
from rvqvae.vqvae.networks import to_float
from rvqvae.vqvae.training import fit

MODEL = ModelConfig(channels=16, residual_blocks=1, code_dim=8, inlier_codes=32, outlier_codes=16)
TRAIN = TrainConfig(epochs=3, batch_size=16, warmup_epochs=1, learning_rate=4e-3)


@pytest.fixture(scope="module")
def data():
    """400 digits, then 100 clothes, and the true split as a start."""
    images = np.concatenate([load("mnist")[0][:400], load("fashion_mnist")[0][:100]])[:, None]
    truth = np.arange(500) >= 400
    odds = np.where(truth, 5.0, -5.0)
    return images, Membership(odds)


@pytest.fixture(scope="module")
def fitted(data):
    return fit(data[0], MODEL, TRAIN, seed=0, start=data[1])


def test_it_learns(data, fitted):
    losses = [epoch["loss"] for epoch in fitted.history]
    assert losses[-1] < 0.6 * losses[0]
    x = torch.as_tensor(data[0])
    mean = float((to_float(x) - to_float(x).mean(0)).square().mean())
    assert reconstruction_errors(fitted.model, x)[:400].mean() < 0.7 * mean


def test_every_epoch_is_recorded(fitted):
    assert len(fitted.history) == TRAIN.epochs
    for epoch in fitted.history:
        assert epoch["inliers"] + epoch["outliers"] == 500
        assert 1 <= epoch["inlier_perplexity"] <= 32 and 1 <= epoch["outlier_perplexity"] <= 16
        assert 0 <= epoch["inlier_dead_share"] <= 1 and {"loss", "commitment", "flips"} <= set(epoch)


def test_the_two_codebooks_know_their_sets(data, fitted):
    """Each set lies nearer to its own codebook than the other set does."""
    found = codebook_evidence(codebook_scores(fitted.model, data[0]), data[1].is_outlier)
    log_ratio = np.log(found.inlier_distance) - np.log(found.outlier_distance)
    surprise = found.inlier_surprise - found.outlier_surprise
    truth = data[1].is_outlier
    assert log_ratio[truth].mean() > log_ratio[~truth].mean()
    assert surprise[truth].mean() > surprise[~truth].mean() + 0.5


def test_surprise_leaves_the_sample_itself_out(data, fitted):
    x, truth = torch.as_tensor(data[0]), data[1].is_outlier
    found = codebook_evidence(codebook_scores(fitted.model, x), truth).inlier_surprise
    codes = inlier_codes(fitted.model, x).flatten(1).numpy()
    for i in (0, 399, 450):
        others = [j for j in range(500) if not truth[j] and j != i]
        slow = [
            -np.log(((codes[others, p] == codes[i, p]).sum() + 1) / (len(others) + 32)) for p in range(49)
        ]
        assert found[i] == pytest.approx(np.mean(slow), rel=1e-9)


def test_codes_decode_to_the_data_s_own_form(data, fitted):
    codes = inlier_codes(fitted.model, torch.as_tensor(data[0]))
    assert codes.shape == (500, 7, 7) and 0 <= int(codes.min()) <= int(codes.max()) < 32
    decoded = decode_codes(fitted.model, codes[:3])
    assert decoded.dtype == torch.uint8 and decoded.shape == (3, 1, 28, 28)


def test_vectors_train_too():
    x = np.random.default_rng(0).normal(size=(300, 12)).astype(np.float32)
    done = fit(x, MODEL, TRAIN, seed=0, start=Membership(np.where(np.arange(300) < 30, 1.0, -1.0)))
    assert decode_codes(done.model, inlier_codes(done.model, torch.as_tensor(x))).shape == x.shape
    assert done.history[-1]["loss"] < done.history[0]["loss"]


@pytest.mark.parametrize("membership", ["literal", "all"])
def test_modes_differ(data, fitted, membership):
    done = fit(
        data[0], MODEL, TrainConfig(epochs=3, warmup_epochs=1, batch_size=16, membership=membership), seed=0
    )
    assert (done.history[-1]["outliers"] > 0) == (membership == "literal")
    assert (done.history[-1]["flips"] > 0) == (membership == "literal")


def test_a_given_rate_reaches_the_literal_rule(data):
    config = TrainConfig(epochs=1, warmup_epochs=1, membership="literal")
    assert fit(data[0], MODEL, config, seed=0, contamination=0.1).history[-1]["outliers"] == 50


@pytest.mark.parametrize("n", [1, 63, 64, 65])
def test_any_number_of_samples(data, n):
    done = fit(data[0][:n], MODEL, TrainConfig(epochs=1, batch_size=64, membership="all"), seed=0)
    assert len(inlier_codes(done.model, torch.as_tensor(data[0][:n]))) == n


def same(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    return all(
        torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    )


def test_seeds_repeat_and_differ(data, fitted):
    assert same(fit(data[0], MODEL, TRAIN, seed=0, start=data[1]).model, fitted.model)
    assert not same(fit(data[0], MODEL, TRAIN, seed=1, start=data[1]).model, fitted.model)


def test_an_interrupted_run_resumes_to_the_same_weights(data, fitted, tmp_path):
    def stop(epoch: int, _metrics: dict) -> None:
        if epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(data[0], MODEL, TRAIN, seed=0, start=data[1], directory=tmp_path, on_epoch=stop)
    epochs: list[int] = []
    again = fit(
        data[0], MODEL, TRAIN, seed=0, start=data[1], directory=tmp_path,
        on_epoch=lambda epoch, _: epochs.append(epoch),
    )  # fmt: skip
    assert epochs == [3] and same(again.model, fitted.model)
    assert again.history == fitted.history
    assert np.array_equal(again.membership.score, fitted.membership.score)


def test_another_run_s_folder_is_refused(data, tmp_path):
    config = TrainConfig(epochs=1, membership="all")
    fit(data[0], MODEL, config, seed=0, directory=tmp_path)
    with pytest.raises(InputError, match="another run"):
        fit(data[0], MODEL, config, seed=1, directory=tmp_path)
    (tmp_path / "training.pt").write_bytes(b"not a state")
    with pytest.raises(InputError, match="not a readable training state"):
        fit(data[0], MODEL, config, seed=0, directory=tmp_path)


def test_divergence_names_term_batch_and_rate(data, monkeypatch):
    from rvqvae.vqvae.model import TwoCodebookVQVAE

    loss = TwoCodebookVQVAE.loss
    monkeypatch.setattr(TwoCodebookVQVAE, "loss", lambda self, out, weight: loss(self, out) * float("nan"))
    with pytest.raises(InputError, match=r"loss is nan at batch 1 of 4, learning rate \d"):
        fit(data[0][:100], MODEL, TrainConfig(epochs=1, batch_size=32, membership="all"), seed=0)


@pytest.mark.parametrize("change", [{"outlier_weight": 1.0}, {"perceptual": 0.0}])
def test_every_weight_of_the_loss_changes_the_model(data, change):
    start = Membership(np.where(np.arange(len(data[0])) % 3 == 0, 1.0, -1.0))
    config = TrainConfig(epochs=1, warmup_epochs=5, batch_size=32)
    plain = fit(data[0], MODEL, config, seed=0, start=start)
    other = fit(data[0], MODEL, replace(config, **change), seed=0, start=start)
    assert not torch.equal(plain.model.decoder.stem.weight, other.model.decoder.stem.weight)


def test_bad_input_is_refused(data):
    x = np.full((20, 5), np.nan, np.float32)
    with pytest.raises(InputError, match="NaN"):
        fit(x, MODEL, TrainConfig(membership="all"), seed=0)
    with pytest.raises(InputError, match="warm start"):
        fit(data[0], MODEL, TRAIN, seed=0)


@pytest.mark.parametrize(
    "name, value", [("epochs", 0), ("batch_size", 0), ("learning_rate", 0), ("membership", "x")]
)
def test_values_out_of_range_name_the_limit(name, value):
    with pytest.raises(InputError, match=name):
        TrainConfig(**{name: value})


@given(n=st.integers(2, 10**7), side=st.integers(8, 256))
def test_how_much_a_training_shows_by_default(n, side):
    epochs = usual_epochs(n, (3, side, side))
    assert 2 <= usual_epochs(10 * n, (1, side, side)) <= epochs <= 20
    if 2 < epochs < 20:
        assert 0.75 < epochs * n * side**2 / 20_000_000 < 1.25  # As many pixels, whatever the set.


@pytest.mark.parametrize(
    ("n", "shape", "epochs"), [(800, (3, 64, 64), 6), (10_000, (1, 28, 28), 3), (10_000, (30,), 10)]
)
def test_the_default_passes_of_some_sets(n, shape, epochs):
    assert usual_epochs(n, shape) == epochs


@pytest.mark.parametrize(
    ("shape", "batch"), [((3, 64, 64), 16), ((1, 32, 32), 64), ((1, 256, 256), 16), ((30,), 64)]
)
def test_the_default_batch(shape, batch):
    assert usual_batch(shape) == batch
