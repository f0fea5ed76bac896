"""`PQVAE`: what its codes and its index keep of the data, and what lambda trades."""

import numpy as np
import pytest
import torch

from data.recipes import load
from rvqvae.errors import InputError
from rvqvae.family import PQVAE
from rvqvae.metrics import mean_average_precision

SMALL = {"latent_dim": 16, "hidden": (64,), "n_codebooks": 4, "n_codes": 16, "batch_size": 64}
SMALL |= {"epochs": 30, "learning_rate": 5e-3, "random_state": 0}


@pytest.fixture(scope="module")
def digits():
    x, y = load("mnist")
    return x[:800], y[:800]


@pytest.fixture(scope="module")
def trained(digits):
    """By lambda; never changed by a test."""
    return {strength: PQVAE(**SMALL, strength=strength).fit(digits[0]) for strength in (1e-3, 0.03, 3.0)}


def quantisation_error(model, x):
    """As a share of the encodings' variance."""
    z = model.encode(x)
    index = model.index()
    return np.square(z - index.inverse_transform(index.transform(z))).mean() / z.var(0).mean()


def test_lambda_trades_reconstruction_for_quantisation(digits, trained):
    x = digits[0]
    quantisation = [quantisation_error(model, x) for model in trained.values()]
    assert quantisation[0] > quantisation[1] > quantisation[2]
    reconstruction = [-model.score_samples(x).mean() for model in trained.values()]
    assert reconstruction[1] < reconstruction[2]


def test_codes_are_what_index_and_network_agree_on(digits, trained):
    x, model = digits[0][:65], trained[0.03]
    codes = model.codes(x)
    assert codes.shape == (65, 4) and codes.dtype == np.uint8
    index = model.index(x)
    assert len(index) == 65
    np.testing.assert_array_equal(index.codes_, codes)
    with torch.inference_mode():
        decoded = model.network_.decode(torch.as_tensor(index.inverse_transform(codes)))
    made = (decoded.clamp(0, 1) * 255).round().byte().numpy()[:, 0]
    assert np.abs(model.reconstruct(x).astype(int) - made).max() <= 1
    np.testing.assert_array_equal(model.codes(x[:1]), codes[:1])
    np.testing.assert_array_equal(model.codes(x[::-1])[::-1], codes)


def test_search_finds_the_same_digit_and_training_helps(digits, trained):
    queries, labels = (part[:200] for part in load("mnist", train=False))
    relevant = labels[:, None] == digits[1]

    def quality(model, mode):
        return mean_average_precision(model.index(digits[0]).distances(model.encode(queries), mode), relevant)

    idle = PQVAE(**SMALL | {"epochs": 1, "learning_rate": 1e-9}).fit(digits[0])
    for mode in ("asymmetric", "symmetric"):
        good = quality(trained[0.03], mode)
        assert good > 0.3 and good > quality(idle, mode) + 0.03


def test_saved_and_loaded_it_gives_the_same_codes(digits, trained, tmp_path):
    x, model = digits[0][:20], trained[0.03]
    model.save(tmp_path / "model")
    loaded = PQVAE.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.codes(x), model.codes(x))
    np.testing.assert_array_equal(loaded.encode(x), model.encode(x))
    np.testing.assert_array_equal(loaded.index().codebooks_, model.index().codebooks_)


def test_matrices_and_few_samples():
    x = np.random.default_rng(0).normal(size=(40, 6))
    model = PQVAE(**SMALL | {"epochs": 2}).fit(x)
    assert model.codes(x).shape == (40, 4) and model.reconstruct(x).shape == (40, 6)
    assert PQVAE(**SMALL | {"epochs": 1}).fit(x[:2]).codes(x[:1]).shape == (1, 4)


@pytest.mark.parametrize(
    "change, match",
    [
        ({"n_codebooks": 3}, "16 dimensions cannot be cut into 3"),
        ({"n_codebooks": 0}, "n_codebooks=0"),
        ({"n_codes": 257}, "n_codes=257.*from 2 to 256"),
        ({"strength": -1}, "strength=-1"),
        ({"commitment": float("nan")}, "commitment=nan"),
    ],
)
def test_bad_values_name_the_limit(digits, change, match):
    with pytest.raises(InputError, match=match):
        PQVAE(**SMALL | change).fit(digits[0][:10])
