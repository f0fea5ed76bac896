"""Neither the batch, nor the order, nor the processor moves what an estimator says of a sample."""

import os
import subprocess
import sys

import numpy as np
import pytest

from data.recipes import load
from rvqvae import RobustVQVAE
from rvqvae.clustering import IMSAT, IMSATHash
from rvqvae.family import (
    ALI,
    PQVAE,
    VAE,
    Autoencoder,
    DeepFeatureVAE,
    HardVQVAE,
    PixelCNNVAE,
    SoftVQVAE,
    SparseAE,
)  # fmt: skip

SIZES = (1, 2, 63, 64, 65)
SMALL = {"latent_dim": 8, "hidden": (32,), "epochs": 1, "random_state": 0}
FAMILY = [
    Autoencoder(**SMALL), Autoencoder(**SMALL, channels=8), SparseAE(**SMALL), VAE(**SMALL),
    ALI(**SMALL, critic=(16,)), DeepFeatureVAE(**SMALL), HardVQVAE(**SMALL, n_codes=16),
    PixelCNNVAE(**SMALL, pixel_channels=8, pixel_layers=1), SoftVQVAE(**SMALL, n_codes=16),
    PQVAE(**SMALL, n_codes=16),
]  # fmt: skip
CLUSTERING = [
    IMSAT(n_clusters=5, hidden=(32,), epochs=1, random_state=0),
    IMSATHash(n_bits=8, hidden=(32,), epochs=1, random_state=0),
]
ROBUST = {"epochs": 1, "prior_epochs": 0, "channels": 8, "random_state": 0}


@pytest.fixture(scope="module")
def digits():
    """70 of 14 x 14 pixels."""
    return load("mnist")[0][:70, ::2, ::2].copy()


def assert_alike(say, x, tolerance):
    """Whatever ``say`` is asked together, of ``x`` (N, ...): (N, ...) within ``tolerance``."""
    whole = say(x)
    for size in SIZES:
        parts = [say(x[begin : begin + size]) for begin in range(0, len(x), size)]
        np.testing.assert_allclose(np.concatenate(parts), whole, rtol=tolerance, atol=tolerance)
    order = np.random.default_rng(0).permutation(len(x))
    np.testing.assert_allclose(say(x[order]), whole[order], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("estimator", FAMILY, ids=str)
def test_the_family(estimator, digits):
    model = estimator.fit(digits)
    assert_alike(model.score_samples, digits, 1e-9)
    assert_alike(model.encode, digits, 1e-6)


@pytest.mark.parametrize("estimator", CLUSTERING, ids=str)
def test_clusters_and_bits(estimator, digits):
    assert_alike(estimator.fit(digits).predict_proba, digits, 1e-6)


@pytest.mark.parametrize("kind", ["matrix", "efficientnet_lite0", "learned"])
def test_robust_vqvae(digits, kind):
    x = digits if kind != "matrix" else np.random.default_rng(0).normal(size=(70, 6))
    model = RobustVQVAE(**ROBUST, features="learned" if kind == "learned" else "efficientnet_lite0").fit(x)
    assert_alike(model.score_samples, x, 1e-3)


SCORE = """
import numpy as np
from rvqvae.family import VAE, HardVQVAE
from rvqvae.clustering import IMSAT
x = np.load("x.npy")
scores = {m.__name__: m.load(m.__name__).score_samples(x) for m in (VAE, HardVQVAE)}
np.savez("scores.npz", **scores, IMSAT=IMSAT.load("IMSAT").predict_proba(x))
"""
OLDEST = {
    "ATEN_CPU_CAPABILITY": "default",
    "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
}


def test_processors(digits, tmp_path):
    """Here with the kernels for this processor, there with those for the oldest."""
    np.save(tmp_path / "x.npy", digits)
    models = [VAE(**SMALL).fit(digits), HardVQVAE(**SMALL, channels=8).fit(digits), CLUSTERING[0].fit(digits)]
    for model in models:
        model.save(tmp_path / type(model).__name__)
    subprocess.run([sys.executable, "-c", SCORE], cwd=tmp_path, env=os.environ | OLDEST, check=True)
    there = np.load(tmp_path / "scores.npz")
    for model in models[:2]:
        here = model.score_samples(digits)
        np.testing.assert_allclose(there[type(model).__name__], here, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(there["IMSAT"], models[2].predict_proba(digits), rtol=1e-6, atol=1e-6)
