"""The soft VQ-VAE as a member of the family: its loss term by term, its parameters, saving."""

import numpy as np
import pytest
import torch
from sklearn.utils.estimator_checks import parametrize_with_checks

from data.recipes import load
from rvqvae.errors import InputError
from rvqvae.family import SoftVQVAE
from rvqvae.family.soft import SoftQuantizing
from rvqvae.vqvae.networks import to_float
from rvqvae.vqvae.soft_codebook import nearest_weights, posterior

QUICK = {"latent_dim": 4, "hidden": (32,), "n_codes": 8, "epochs": 1, "batch_size": 32, "random_state": 0}


def quick(**changes):
    return SoftVQVAE(**QUICK | changes)


@pytest.fixture(scope="module")
def digits():
    """33 of 14 x 14 pixels: a batch and one sample."""
    return load("mnist")[0][:33, ::2, ::2].copy()


@pytest.fixture(scope="module")
def network(digits) -> SoftQuantizing:
    return quick().fit(digits).network_


def in_single_precision(estimator):
    return {"check_methods_subset_invariance": "it asks for 7 digits, as many as float32 has"}


@parametrize_with_checks([quick()], expected_failed_checks=in_single_precision)
@pytest.mark.filterwarnings("ignore")  # of the checks, about what they try
def test_scikit_learn_agrees(estimator, check):
    check(estimator)


def test_the_defaults_are_the_authors():
    model = SoftVQVAE()
    assert (model.hidden, model.latent_dim, model.n_codes) == ((500, 500, 2000), 64, 128)
    assert (model.strength, model.commitment, model.learning_rate, model.batch_size) == (3.0, 2.5, 3e-4, 64)
    assert model.weighting == "posterior" and model.epochs == round(40_000 * 64 / 60_000)


def test_the_loss_is_the_authors(digits, network):
    """Each term anew, in numpy, from codes and weights."""
    x = to_float(torch.as_tensor(digits[:, None]))
    with torch.no_grad():
        terms = {name: float(value) for name, value in network.losses(x, torch.Generator()).items()}
        z, log_sigma = network.encoder(x).split([4, 8], 1)
        vectors = (posterior(z, network.codewords, log_sigma) @ network.codewords).numpy()
        made = network.decode(torch.as_tensor(vectors)).numpy()
    error = np.mean((made - x.numpy()) ** 2) / np.var(x.numpy())
    distance = np.mean((vectors - z.numpy()) ** 2)
    assert terms["error"] == pytest.approx(error, rel=1e-2)
    assert terms["commitment"] == pytest.approx(distance, rel=1e-4)
    assert terms["loss"] == pytest.approx(terms["error"] + 3.0 * (1 + 2.5) * distance, rel=1e-4)


def test_each_part_learns_from_its_own_term(digits, network):
    """sigma and codewords from the codebook loss alone; the decoder from the error alone."""
    x = to_float(torch.as_tensor(digits[:, None]))
    network.zero_grad()
    network.losses(x, torch.Generator())["error"].backward()
    last = network.encoder[-1]
    assert network.codewords.grad is None
    assert float(last.weight.grad[:4].abs().sum()) > 0 == float(last.weight.grad[4:].abs().sum())
    network.zero_grad()
    network.losses(x, torch.Generator())["commitment"].backward()
    assert network.codewords.grad is None and float(last.weight.grad[4:].abs().sum()) == 0
    network.zero_grad()
    network.losses(x, torch.Generator())["loss"].backward()
    assert float(network.codewords.grad.abs().sum()) > 0 < float(last.weight.grad[4:].abs().sum())
    network.zero_grad()


@pytest.mark.parametrize("weighting", ["posterior", "released", "nearest"])
def test_every_weighting_trains_and_survives_saving(weighting, digits, tmp_path):
    model = quick(weighting=weighting, epochs=3, learning_rate=1e-2).fit(digits)
    assert model.history_[-1]["error"] < model.history_[0]["error"]
    weights = model.weights(digits)
    assert weights.shape == (33, 8) and weights.dtype == np.float32
    np.testing.assert_allclose(weights.sum(1), 1, rtol=1e-5)
    assert (set(np.unique(weights)) == {0, 1}) == (weighting == "nearest")
    assert model.codes(digits).dtype == np.int64 and len(model.codes(digits)) == 33
    assert 1 <= model.history_[-1]["perplexity"] <= 8.001
    model.save(tmp_path)
    loaded = SoftVQVAE.load(tmp_path)
    assert loaded.weighting == weighting
    np.testing.assert_array_equal(loaded.weights(digits), weights)
    np.testing.assert_array_equal(loaded.reconstruct(digits), model.reconstruct(digits))
    np.testing.assert_allclose(
        model.encode(digits[::-1][:1]), model.encode(digits)[-1:], rtol=1e-4, atol=1e-6
    )


def test_codes_come_before_the_quantiser_and_reconstructions_after(digits):
    model = quick().fit(digits)
    centroids = model.network_.codewords.detach()
    z = torch.as_tensor(model.encode(digits))
    assert not torch.allclose(z, torch.as_tensor(model.weights(digits)) @ centroids, atol=1e-3)
    made = model.network_.decode(torch.as_tensor(model.weights(digits)) @ centroids).detach().numpy()
    np.testing.assert_allclose(model.reconstruct(digits) / 255, made[:, 0], atol=0.51 / 255)


def test_training_helps():
    images, held_out = load("mnist")[0][:500], load("mnist", train=False)[0][:200]
    settings = {"latent_dim": 16, "hidden": (128,), "n_codes": 32, "learning_rate": 3e-3}
    trained = quick(**settings, epochs=12).fit(images)
    untrained = quick(**settings | {"learning_rate": 1e-9}).fit(images)
    better, worse = trained.score_samples(held_out), untrained.score_samples(held_out)
    assert better.mean() > 0.7 * worse.mean() and better.std() > 1e-3
    assert len(np.unique(trained.codes(held_out))) > 1
    hard = quick(**settings, epochs=12, weighting="nearest").fit(images)
    z = torch.as_tensor(hard.encode(held_out))
    assert torch.equal(
        nearest_weights(z, hard.network_.codewords.detach(), torch.empty(0)).argmax(1),
        torch.as_tensor(hard.codes(held_out)),
    )


@pytest.mark.parametrize(
    "change", [{"n_codes": 5}, {"strength": 0.1}, {"commitment": 30.0}, {"weighting": "released"}], ids=str
)
def test_every_argument_counts(change, digits):
    models = [quick(epochs=3, **c).fit(digits) for c in ({}, change)]
    assert not np.array_equal(*(model.score_samples(digits) for model in models))


@pytest.mark.parametrize(
    "change, message",
    [({"n_codes": 1}, "n_codes=1"), ({"strength": -1}, "strength=-1"),
     ({"commitment": float("nan")}, "commitment=nan"), ({"weighting": "soft"}, "'soft'")],
    ids=str,
)  # fmt: skip
def test_bad_parameters_are_named(change, message, digits):
    with pytest.raises(InputError, match=message):
        quick(**change).fit(digits)


def test_constant_images_and_vectors_train_too():
    assert np.isfinite(quick().fit(np.full((9, 8, 8), 7, np.uint8)).history_[0]["loss"])
    x = np.random.default_rng(0).normal(size=(40, 6))
    assert quick().fit(x).reconstruct(x).shape == x.shape
