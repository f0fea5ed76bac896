"""One digit is normal, the other nine are not: AUROC on the held-out digits, by reconstruction error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch import nn

from pipelines.autoencoders.bench import Bench, Images, Method, Row
from rvqvae.family import VAE, Autoencoder, Network

PUBLISHED = (0.976, 0.983, 0.854, 0.867, 0.865, 0.782, 0.946, 0.923, 0.865, 0.904)
"""A convolutional autoencoder with a code of 32 and 150 epochs, digits 0 to 9 (Ruff et al. 2018, table 1)."""
WITHIN = 0.02


@dataclass(repr=False, eq=False, kw_only=True)
class PublishedAE(Autoencoder):
    """The network that the published row is of; rows of 784 values in [0, 1]."""

    epochs: int = 16
    batch_size: int = 50

    def _network(self, shape: tuple[int, ...]) -> Network:
        encoder = nn.Sequential(
            nn.Unflatten(1, (1, 28, 28)), *_block(1, 8, 2), nn.MaxPool2d(2), *_block(8, 4, 2),
            nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4 * 7 * 7, self.latent_dim, bias=False),
        )  # fmt: skip
        decoder = nn.Sequential(
            nn.Unflatten(1, (self.latent_dim // 16, 4, 4)), nn.LeakyReLU(), nn.Upsample(scale_factor=2),
            *_block(self.latent_dim // 16, 4, 2), nn.Upsample(scale_factor=2),
            *_block(4, 8, 1), nn.Upsample(scale_factor=2),
            nn.Conv2d(8, 1, 5, padding=2, bias=False), nn.Flatten(),
        )  # fmt: skip
        return Network(encoder, decoder, bounded=True)


def _block(inputs: int, outputs: int, padding: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(inputs, outputs, 5, padding=padding, bias=False)
    return convolution, nn.BatchNorm2d(outputs, affine=False), nn.LeakyReLU()


def contrast_normalised(images: Images) -> NDArray[np.float32]:
    """(N, 784) less the mean of the image, over its mean absolute value."""
    flat = images.reshape(len(images), -1) / np.float32(255)
    flat = flat - flat.mean(1, keepdims=True)
    return flat / np.abs(flat).mean(1, keepdims=True)


def published(bench: Bench) -> Iterator[Row]:
    """Contrast-normalised and brought to [0, 1] by the extremes of the normal digit's training images."""
    (images, labels), (new, truth) = (
        (contrast_normalised(images), labels) for images, labels in (bench.train, bench.test)
    )
    found = []
    for digit, figure in enumerate(PUBLISHED):
        normal = images[labels == digit]
        low, high = normal.min(), normal.max()
        model = bench.fit_rounded(PublishedAE(), (normal - low) / (high - low))
        scores = model.score_samples((new - low) / (high - low))
        found.append(float(roc_auc_score(truth == digit, scores)))
        yield Row(f"AUROC, digit {digit}", found[-1], f"{figure:.3f}", figure - WITHIN, figure + WITHIN)
    yield Row("AUROC, mean", float(np.mean(found)), f"{np.mean(PUBLISHED):.3f}", low=0.88)


def one_class(make: Callable[[], Autoencoder]) -> Method:
    def method(bench: Bench) -> Iterator[Row]:
        (images, labels), (new, truth) = bench.train, bench.test
        found = []
        for digit in range(10):
            model = bench.fit(make(), images[labels == digit])
            found.append(float(roc_auc_score(truth == digit, model.score_samples(new))))
            yield Row(f"AUROC, digit {digit}", found[-1])
        yield Row("AUROC, mean", float(np.mean(found)))

    return method


METHODS: dict[str, Method] = {
    "convolutional AE": published,
    "VAE": one_class(lambda: VAE(hidden=(400,), latent_dim=10, epochs=5)),
}
