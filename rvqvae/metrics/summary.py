"""All feature metrics of one set of generated images at once."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rvqvae.metrics.distances import frechet_distance, kernel_distance
from rvqvae.metrics.manifold import precision_recall_density_coverage

_SUBSET = 500


class GenerationMetrics(NamedTuple):
    """Distances fall, the other four rise, with the quality of the generated images."""

    frechet_distance: float
    kernel_distance: float
    precision: float
    recall: float
    density: float
    coverage: float


def generation_metrics(real: np.ndarray, generated: np.ndarray, *, k: int = 5) -> GenerationMetrics:
    """Metrics of generated (M, d) against real (N, d) features; sets below 500 rows are one subset for KD."""
    return GenerationMetrics(
        frechet_distance(real, generated),
        kernel_distance(real, generated, subset_size=min(_SUBSET, len(real), len(generated))),
        *precision_recall_density_coverage(real, generated, k),
    )
