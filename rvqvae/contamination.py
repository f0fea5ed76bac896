"""Contaminate a clean set on purpose: mix outliers in at an exact rate.

The rate is outliers / total throughout.
"""

from __future__ import annotations

import math
from numbers import Real
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rvqvae.errors import InputError, check_whole

RandomState = int | np.random.Generator | np.random.RandomState | None


class Contaminated(NamedTuple):
    """A shuffled mixture of inliers and outliers, and the truth about it."""

    images: NDArray[Any]
    """(N, ...) rows of both sources, in their dtype."""
    is_outlier: NDArray[np.bool_]
    """bool (N,)."""
    source_index: NDArray[np.int64]
    """int64 (N,): the row's index among the inliers, or among the outliers where `is_outlier`."""


def contaminate(
    inliers: ArrayLike,
    outliers: ArrayLike,
    rate: float,
    random_state: RandomState = None,
    *,
    total: int | None = None,
) -> Contaminated:
    """Mix `inliers` (n, ...) with `outliers` (m, ...) so that outliers / total = `rate` to one image.

    Without `total` every inlier is kept, and the number of outliers is the one that brings the rate
    nearest. With it, round(rate * total) outliers and total - that many inliers are drawn. All draws are
    without replacement, and the result is shuffled; equal seeds give equal mixtures. Works on images and
    on feature vectors alike. InputError if the rate is outside [0, 1), shapes or dtypes differ, or there
    are too few rows.
    """
    inliers, outliers = np.asarray(inliers), np.asarray(outliers)
    if not isinstance(rate, Real) or not 0 <= rate < 1:  # NaN fails the comparison
        raise InputError(f"rate={rate!r} is out of range: outliers / total must be at least 0 and below 1")
    if total is not None:
        check_whole("total", total)
    if inliers.ndim == 0 or outliers.ndim == 0 or inliers.shape[1:] != outliers.shape[1:]:
        raise InputError(
            f"inliers of shape {inliers.shape} and outliers of shape {outliers.shape} differ after the first "
            "axis: bring them to one size and layout"
        )
    if inliers.dtype != outliers.dtype:
        raise InputError(
            f"inliers have dtype {inliers.dtype} and outliers {outliers.dtype}: convert one to the other's"
        )
    n_outliers = _outliers_for(len(inliers), rate) if total is None else round(rate * total)
    n_inliers = len(inliers) if total is None else total - n_outliers
    for kind, needed, there in (
        ("inliers", n_inliers, len(inliers)), ("outliers", n_outliers, len(outliers)),
    ):  # fmt: skip
        if needed > there:
            raise InputError(
                f"rate={rate} needs {needed} {kind}, but there are only {there}: "
                "give more of them, another rate, or a smaller total"
            )
    if n_inliers + n_outliers == 0:
        raise InputError("there are no inliers: give at least one")

    rng = _generator(random_state)
    source_index = np.concatenate(
        [
            rng.choice(len(inliers), n_inliers, replace=False),
            rng.choice(len(outliers), n_outliers, replace=False) if n_outliers else np.empty(0, np.int64),
        ]
    ).astype(np.int64)
    is_outlier = np.arange(n_inliers + n_outliers) >= n_inliers
    order = rng.permutation(n_inliers + n_outliers)
    images = np.concatenate([inliers[source_index[:n_inliers]], outliers[source_index[n_inliers:]]])
    return Contaminated(images[order], is_outlier[order], source_index[order])


def _outliers_for(n_inliers: int, rate: float) -> int:
    """The number of outliers m that brings m / (n_inliers + m) nearest to `rate`."""
    below = math.floor(n_inliers * rate / (1 - rate))
    return min((below, below + 1), key=lambda m: abs(m / max(n_inliers + m, 1) - rate))


def _generator(random_state: RandomState) -> np.random.Generator:
    if isinstance(random_state, np.random.RandomState):
        return np.random.default_rng(random_state.randint(2**31 - 1))
    try:
        return np.random.default_rng(random_state)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"random_state={random_state!r} must be None, an integer >= 0, a numpy Generator or RandomState"
        ) from error
