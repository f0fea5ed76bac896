"""Intervals for metrics by resampling (Efron 1979)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rvqvae.errors import InputError


def bootstrap_interval(
    metric: Callable[[np.ndarray, np.ndarray], float],
    real: np.ndarray,
    generated: np.ndarray,
    *,
    n_resamples: int = 200,
    level: float = 0.95,
    random_state: int = 0,
) -> tuple[float, float]:
    """(low, high) of ``metric(real, generated)`` when the rows of ``generated`` are resampled.

    Percentile interval, shifted to the reported value (ours: repeated rows lower the rank of the
    covariance, which moves every resampled Fréchet distance upwards, at times past the value itself).
    It serves any metric, at the cost of ``n_resamples`` evaluations. For those of this package take
    `mean_interval` of `frechet_contributions`, `kernel_contributions` or `prdc_indicators` instead: repeated
    rows have neighbours at distance 0, and span fewer directions than new images would.
    """
    _check(n_resamples, level)
    rng = np.random.default_rng(random_state)
    value = float(metric(real, generated))
    n = len(generated)
    values = np.array([metric(real, generated[rng.integers(n, size=n)]) for _ in range(n_resamples)])
    return _interval(values + (value - values.mean()), level)


def mean_interval(
    values: np.ndarray, *, n_resamples: int = 1000, level: float = 0.95, random_state: int = 0
) -> tuple[float, float]:
    """(low, high) of the mean of per-image values (N,): a field of `prdc_indicators`, or contributions.

    Precision and density resample the generated images, recall and coverage the real ones; the other
    set is held fixed, so that no neighbourhood is computed twice.
    """
    _check(n_resamples, level)
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or len(values) == 0:
        raise InputError(f"values have shape {values.shape}: give one number for each of one or more images")
    rng = np.random.default_rng(random_state)
    n = len(values)
    return _interval(np.array([values[rng.integers(n, size=n)].mean() for _ in range(n_resamples)]), level)


def _interval(values: np.ndarray, level: float) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _check(n_resamples: int, level: float) -> None:
    if n_resamples < 2:
        raise InputError(f"n_resamples={n_resamples} is out of range: it must be >= 2; use 200 or more")
    if not 0 < level < 1:
        raise InputError(f"level={level} is out of range: it must be between 0 and 1, such as 0.95")
