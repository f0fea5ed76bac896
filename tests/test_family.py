"""The interface that the autoencoder family shares: what every member keeps, saves and refuses."""

import json

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.estimator_checks import parametrize_with_checks

from data.recipes import load
from rvqvae.errors import InputError
from rvqvae.family import Autoencoder

QUICK = {"latent_dim": 4, "hidden": (32,), "epochs": 2, "random_state": 0, "batch_size": 64}


def quick(**changes):
    return Autoencoder(**QUICK | changes)


@pytest.fixture(scope="module")
def digits():
    return load("mnist")[0][:257]


@pytest.fixture(scope="module")
def trained(digits):
    """Never changed by a test."""
    return quick(epochs=20, latent_dim=16, hidden=(64,), learning_rate=5e-3).fit(digits)


@parametrize_with_checks([quick()])
@pytest.mark.filterwarnings("ignore")  # of the checks, about what they try
def test_scikit_learn_agrees(estimator, check):
    check(estimator)


@pytest.mark.parametrize("layout", ["nhw", "nchw", "nhwc"])
@pytest.mark.parametrize("channels", [None, 8])
def test_reconstructions_have_the_layout_of_the_input(digits, layout, channels):
    x = {"nhw": digits, "nchw": digits[:, None], "nhwc": np.repeat(digits[..., None], 3, 3)}[layout][:65]
    model = quick(channels=channels, epochs=1).fit(x)
    made = model.reconstruct(x[:3])
    assert made.shape == x[:3].shape and made.dtype == np.uint8
    assert model.encode(x).shape == (65, 4) and model.encode(x).dtype == np.float32


def test_float_matrices_keep_their_dtype():
    x = np.random.default_rng(0).normal(size=(50, 6))
    for dtype in (np.float32, np.float64):
        assert quick().fit(x.astype(dtype)).reconstruct(x.astype(dtype)).dtype == dtype


def test_training_helps_and_the_scores_differ(digits, trained):
    untrained = quick(epochs=1, learning_rate=1e-9, latent_dim=16, hidden=(64,)).fit(digits)
    held_out = load("mnist", train=False)[0]
    better, worse = trained.score_samples(held_out), untrained.score_samples(held_out)
    assert better.mean() > worse.mean() / 3 and better.std() > 1e-3
    noise = np.random.default_rng(0).integers(0, 256, (50, 28, 28), dtype=np.uint8)
    assert trained.score_samples(noise).max() < np.median(better)
    assert [epoch["loss"] for epoch in trained.history_][-1] < trained.history_[0]["loss"] / 2
    assert len(trained.history_) == 20


def test_scores_are_minus_the_error_of_the_reconstruction(digits, trained):
    x = digits[:9]
    error = ((x.astype(float) - trained.reconstruct(x)) / 255) ** 2
    np.testing.assert_allclose(trained.score_samples(x), -error.mean((1, 2)), rtol=0.02, atol=1e-4)


def test_batches_and_order_change_nothing(digits, trained, monkeypatch):
    whole = trained.encode(digits)
    monkeypatch.setattr("rvqvae.family.base.BATCH", 64)  # 257 = 4 batches and one sample
    np.testing.assert_allclose(trained.encode(digits), whole, atol=1e-5)
    np.testing.assert_allclose(trained.encode(digits[::-1])[::-1], whole, atol=1e-5)
    np.testing.assert_allclose(trained.encode(digits[:1]), whole[:1], atol=1e-5)
    np.testing.assert_array_equal(trained.transform(digits), trained.encode(digits))


def test_the_seed_decides_everything_and_the_global_state_is_left_alone(digits):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, same, other = (quick(random_state=s).fit(digits).encode(digits[:5]) for s in (0, 0, 1))
    assert np.array_equal(first, same) and not np.allclose(first, other)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    "change",
    [{"latent_dim": 5}, {"hidden": (33,)}, {"hidden": ()}, {"channels": 8}, {"epochs": 3}, {"batch_size": 32},
     {"learning_rate": 2e-3}],
)  # fmt: skip
def test_every_argument_counts(digits, change):
    scores = [quick(**c).fit(digits).score_samples(digits[:20]) for c in ({}, change)]
    assert not np.allclose(*scores)


def test_saved_and_loaded_it_says_the_same(digits, trained, tmp_path):
    trained.save(tmp_path / "model")
    loaded = Autoencoder.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.encode(digits), trained.encode(digits))
    np.testing.assert_array_equal(loaded.reconstruct(digits), trained.reconstruct(digits))
    assert loaded.get_params() == trained.get_params()
    assert sorted(file.name for file in (tmp_path / "model").iterdir()) == [
        "README.md",
        "model.json",
        "model.safetensors",
    ]
    assert clone(loaded).get_params() == loaded.get_params()


def test_progress_is_told():
    told = []
    quick(progress=lambda *step: told.append(step)).fit(np.random.default_rng(0).normal(size=(9, 3)))
    assert told == [("train", 1, 2), ("train", 2, 2)]


@pytest.mark.parametrize(
    "key, value",
    [("estimator", "VAE"), ("shape", [1, 28, 27]), ("shape", None), ("layout", "vectors"),
     ("dtype", "no"), ("params", {"latent_dim": 10**9}), ("params", {"depth": 3}),
     ("params", {"latent_dim": -1}), ("format", 9)],
)  # fmt: skip
def test_a_damaged_folder_is_refused(trained, tmp_path, key, value):
    trained.save(tmp_path)
    facts = json.loads((tmp_path / "model.json").read_text())
    (tmp_path / "model.json").write_text(json.dumps(facts | {key: value}))
    with pytest.raises(InputError, match=str(tmp_path)):
        Autoencoder.load(tmp_path)


def test_arrays_of_another_model_are_refused(trained, tmp_path):
    trained.save(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"x")
    with pytest.raises(InputError, match="train or save it again"):
        Autoencoder.load(tmp_path)
    with pytest.raises(InputError, match="not a model folder"):
        Autoencoder.load(tmp_path / "missing")


@pytest.mark.parametrize(
    "change, message",
    [({"latent_dim": 0}, "latent_dim=0"), ({"epochs": 0}, "epochs=0"), ({"batch_size": 1.5}, "=1.5"),
     ({"hidden": (3, 0)}, "hidden"), ({"learning_rate": 0}, "learning_rate=0"), ({"channels": 2}, "channels"),
     ({"random_state": -1}, "random_state=-1"), ({"device": "abacus"}, "abacus")],
)  # fmt: skip
def test_bad_parameters_are_named(digits, change, message):
    with pytest.raises(InputError, match=message):
        quick(**change).fit(digits)


@pytest.mark.parametrize(
    "samples, message",
    [(np.zeros((3, 28, 28)), "float images"), (np.zeros((3, 4, 4), np.uint8), "8 to 256"),
     (np.zeros((1, 28, 28), np.uint8), "at least 2"), (np.full((5, 3), np.nan), "NaN"),
     (np.full((5, 3), 1e30), "1e\\+30"), (np.zeros((0, 3)), "minimum"), (np.zeros(4), "1D|dim")],
)  # fmt: skip
def test_bad_samples_are_named(samples, message):
    with pytest.raises(ValueError, match=message):
        quick().fit(samples)


def test_samples_of_another_kind_are_refused(trained):
    with pytest.raises(InputError, match="28, 28"):
        trained.encode(np.zeros((2, 32, 32), np.uint8))
    with pytest.raises(InputError, match="images"):
        trained.encode(np.zeros((2, 784)))
    with pytest.raises(InputError, match="convolutions need images"):
        quick(channels=8).fit(np.zeros((5, 3)))
    with pytest.raises(NotFittedError):
        quick().encode(np.zeros((2, 3)))
    with pytest.raises(InputError, match="no distribution"):
        trained.sample(3)
    with pytest.raises(InputError, match="n=0"):
        trained.sample(0)
