"""The rule that the abstract of Lai, Zou and Lerman 2022 suggests: re-assign by reconstruction error.

Kept for comparison; it is poor on real data, because simple images reconstruct well whoever they are.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rvqvae.membership.types import Membership


def literal_split(error: NDArray[np.float64], contamination: float | None = None) -> Membership:
    """Split by reconstruction error (N,): the largest ``contamination`` share, or two means of the error.

    The paper's threshold is not public. Two means in one dimension (Otsu 1979) needs no rate.
    """
    threshold = _otsu(error) if contamination is None else float(np.quantile(error, 1 - contamination))
    return Membership(error - threshold)


def _otsu(values: NDArray[np.float64]) -> float:
    """The cut that maximises the variance between the two sides; exact, over all cuts."""
    ordered = np.sort(values)
    n = len(ordered)
    left = np.arange(1, n)
    sums = np.cumsum(ordered)
    mean_left = sums[:-1] / left
    mean_right = (sums[-1] - sums[:-1]) / (n - left)
    between = left * (n - left) * (mean_left - mean_right) ** 2
    best = int(np.argmax(between))
    return float((ordered[best] + ordered[best + 1]) / 2)
