"""All feature metrics of one set of generated images at once, with or without intervals."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rvqvae.metrics.bootstrap import mean_interval
from rvqvae.metrics.distances import (
    frechet_contributions,
    frechet_distance,
    kernel_contributions,
    kernel_distance,
)
from rvqvae.metrics.manifold import prdc_indicators, precision_recall_density_coverage

_SUBSET = 500


class GenerationMetrics(NamedTuple):
    """Distances fall, the other four rise, with the quality of the generated images."""

    frechet_distance: float
    kernel_distance: float
    precision: float
    recall: float
    density: float
    coverage: float


class Estimate(NamedTuple):
    """A metric and its interval."""

    value: float
    low: float
    high: float


class GenerationEstimates(NamedTuple):
    """`GenerationMetrics` with intervals."""

    frechet_distance: Estimate
    kernel_distance: Estimate
    precision: Estimate
    recall: Estimate
    density: Estimate
    coverage: Estimate


def generation_metrics(real: np.ndarray, generated: np.ndarray, *, k: int = 5) -> GenerationMetrics:
    """Metrics of generated (M, d) against real (N, d) features; sets below 500 rows are one subset for KD."""
    return GenerationMetrics(
        frechet_distance(real, generated),
        kernel_distance(real, generated, subset_size=_subset(real, generated)),
        *precision_recall_density_coverage(real, generated, k),
    )


def generation_estimates(
    real: np.ndarray,
    generated: np.ndarray,
    *,
    k: int = 5,
    n_resamples: int = 1000,
    level: float = 0.95,
    random_state: int = 0,
) -> GenerationEstimates:
    """`generation_metrics` with bootstrap intervals, `mean_interval` of what each image contributes.

    Distances, precision and density resample the generated images, recall and coverage the real ones.
    """
    values = (
        frechet_contributions(real, generated),
        kernel_contributions(real, generated, subset_size=_subset(real, generated)),
        *prdc_indicators(real, generated, k),
    )

    def estimate(contributions: np.ndarray) -> Estimate:
        interval = mean_interval(
            contributions, n_resamples=n_resamples, level=level, random_state=random_state
        )
        return Estimate(float(contributions.mean()), *interval)

    return GenerationEstimates(*map(estimate, values))


def _subset(real: np.ndarray, generated: np.ndarray) -> int:
    return min(_SUBSET, len(real), len(generated))
