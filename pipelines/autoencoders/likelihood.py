"""How well the members with a likelihood describe binary digits: nats of held-out ones."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pipelines.autoencoders.bench import Bench, Images, Method, Row
from rvqvae.family import VAE, PixelCNNVAE
from rvqvae.family.variational import VariationalAutoencoder

DRAWN = 10
"""Binary versions of each digit to learn from; pixels of few are learned by heart: 92.3 nats of one after 70
passes, 91.3 of five after 30, 89.7 of ten after 30 at three times the rate."""
DRAWS, HELD_OUT = 200, 10_000
"""Importance samples for each of that many held-out images."""
AFFORDED = 20, 200
"""The same for a PixelCNN, whose likelihoods cost a pass through it each."""


def binarised(images: Images, seed: int = 0) -> Images:
    """Each pixel 0 or 255, white with its grey as probability, drawn once (Salakhutdinov and Murray 2008)."""
    return 255 * (np.random.default_rng(seed).random(images.shape) < images / 255).astype(np.uint8)


def nll(bench: Bench, model: VariationalAutoencoder, draws: int, held_out: int) -> float:
    return -float(model.log_likelihood(binarised(bench.test[0], 1)[:held_out], draws).mean())


def vae(bench: Bench) -> Iterator[Row]:
    drawn = np.concatenate([binarised(bench.train[0], seed) for seed in range(DRAWN)])
    model = VAE(hidden=(400,), latent_dim=40, likelihood="bernoulli", epochs=30)
    bench.fit_rounded(model.set_params(batch_size=500, learning_rate=3e-3), drawn)
    yield Row("nats a digit", nll(bench, model, DRAWS, HELD_OUT), "89.8", high=90.8)


def pixelcnn(bench: Bench) -> Iterator[Row]:
    model = bench.once("PixelCNNVAE", lambda: fit_pixelcnn(bench))
    yield Row("nats a digit", nll(bench, model, *AFFORDED), "81.3")


def fit_pixelcnn(bench: Bench) -> PixelCNNVAE:
    model = PixelCNNVAE(pixel_channels=16, pixel_layers=3, latent_dim=16, epochs=2, batch_size=32)
    return bench.fit(model.set_params(learning_rate=3e-3), binarised(bench.train[0][:20_000]))


METHODS: dict[str, Method] = {"VAE": vae, "PixelCNNVAE": pixelcnn}
