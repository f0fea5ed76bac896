"""What a pass over the full set costs the related systems' trainings, in float32 and in bfloat16.

    OMP_NUM_THREADS=1 python -m pipelines.benchmark_passes

CPU seconds of one training of a part of the committed digits, after another one, scaled to the full set.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from time import process_time
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from jsonargparse import auto_cli
from rich.console import Console

from data.recipes import load
from pipelines.autoencoders.anomaly import PublishedAE
from pipelines.common.command import exit_status
from pipelines.common.tables import Sheet, as_rich
from rvqvae.clustering import IMSAT, training
from rvqvae.family import VAE, BiGAN, SoftVQVAE

FULL = {"IMSAT": 70_000}
"""Images of a full set; 60,000 of the others."""
Fit = Callable[[Any], Any]


def _imsat(images: Any) -> Any:
    # The distances to neighbours are no part of a pass.
    distances = np.full(len(images), 1000, np.float32)
    return IMSAT(epochs=1, random_state=0).fit(images, distances=distances)


def _one_class(batch: int) -> Fit:
    def fit(images: Any) -> Any:
        pixels = images.reshape(len(images), -1) / np.float32(255)
        return PublishedAE(epochs=1, batch_size=batch, random_state=0).fit(pixels)

    return fit


TRAININGS: dict[str, Fit] = {
    "IMSAT": _imsat,
    "one-class AE, batches of 50": _one_class(50),
    "one-class AE, batches of 200": _one_class(200),
    "BiGAN, batches of 128": BiGAN(epochs=1, batch_size=128, random_state=0).fit,
    "BiGAN, batches of 256": BiGAN(epochs=1, batch_size=256, random_state=0).fit,
    "VAE 784-400-40, batches of 100": VAE(
        hidden=(400,), latent_dim=40, likelihood="bernoulli", epochs=1, batch_size=100, random_state=0
    ).fit,
    "soft VQ-VAE, batches of 64": SoftVQVAE(epochs=1, random_state=0, weighting="released").fit,
}


def seconds(fit: Fit, images: Any, rounded: bool) -> float:
    """Of the CPU, for one training in bfloat16 if ``rounded``, else in float32."""
    with (
        patch.object(training, "bfloat16_pays", lambda kind: rounded),
        torch.autocast("cpu", torch.bfloat16, enabled=rounded and fit is not _imsat, cache_enabled=False),
    ):
        fit(images[:256])
        begin = process_time()
        fit(images)
        return process_time() - begin


def passes(images: int = 2000) -> None:
    """Measure a pass.

    Args:
        images: that each training gets
    """
    digits, lines = load("mnist")[0][:images], []
    for name, fit in TRAININGS.items():
        scale = FULL.get(name, 60_000) / len(digits)
        found = [scale * seconds(fit, digits, rounded) for rounded in (False, True)]
        lines.append([name, *(f"{value:.1f}" for value in found)])
    Console().print(as_rich(Sheet("CPU seconds a pass", ["training", "float32", "bfloat16"], lines, "")))


def main() -> int:
    return exit_status(lambda: auto_cli(passes))


if __name__ == "__main__":
    sys.exit(main())
