"""The codebooks' evidence about samples, and the decision for one of the two sets."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class CodebookEvidence(NamedTuple):
    """Evidence of both codebooks about N samples after an epoch; all float64 (N,), lower = fits better."""

    inlier_distance: NDArray[np.float64]
    """Mean squared weighted distance to the inlier codebook."""
    outlier_distance: NDArray[np.float64]
    """The same for the outlier codebook."""
    inlier_surprise: NDArray[np.float64]
    """Mean negative log frequency of its inlier codes at their positions among the *other* inliers, nats."""
    outlier_surprise: NDArray[np.float64]
    """The same for its outlier codes among the other outliers."""


class Membership(NamedTuple):
    """Log odds of N training samples, from which their sets follow."""

    log_odds: NDArray[np.float64]
    """(N,) of being an outlier, nats."""

    @property
    def is_outlier(self) -> NDArray[np.bool_]:
        """(N,) whether each is in the outliers' set."""
        return self.log_odds > 0

    @property
    def score(self) -> NDArray[np.float64]:
        """(N,) higher = more normal, as scikit-learn's ``score_samples``."""
        return -self.log_odds
