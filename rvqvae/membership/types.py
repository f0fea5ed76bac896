"""What the codebooks know of samples, and the two sets."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class CodebookEvidence(NamedTuple):
    """What the two codebooks know of each of N samples after an epoch; all float64 (N,), low = fits well."""

    inlier_distance: NDArray[np.float64]
    """Mean squared weighted distance to the inlier codebook."""
    outlier_distance: NDArray[np.float64]
    """The same for the outlier codebook."""
    inlier_surprise: NDArray[np.float64]
    """Mean negative log frequency of its inlier codes at their positions among the *other* inliers, nats."""
    outlier_surprise: NDArray[np.float64]
    """The same for its outlier codes among the other outliers."""


class Membership(NamedTuple):
    """The decision over N training samples."""

    log_odds: NDArray[np.float64]
    """(N,) of being an outlier, nats; the sets, the scores and the probabilities all follow from it."""

    @property
    def is_outlier(self) -> NDArray[np.bool_]:
        """(N,) the two sets."""
        return self.log_odds > 0

    @property
    def score(self) -> NDArray[np.float64]:
        """(N,) higher = more normal, as scikit-learn's ``score_samples``."""
        return -self.log_odds
