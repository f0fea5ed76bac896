"""Our own method as the study sees it: the one place to change when its entry changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from rvqvae.features import extract_views
from rvqvae.membership import warm_start

Images = NDArray[np.uint8]
Vector = NDArray[np.float64]
OWN = "rvqvae"
UNKNOWN = (float("nan"), float("nan"))


class Detection(NamedTuple):
    """What is said of N images; the defaults stand for what the method does not say."""

    score: Vector
    """(N,) higher = more normal."""
    is_outlier: NDArray[np.bool_]
    probability: Vector | None = None
    """(N,) of being an outlier."""
    interval: tuple[float, float] = UNKNOWN
    """95 % interval of the rate."""
    verdict: str = ""
    score_new: Callable[[Images], Vector] | None = None
    """Scores of images that were not there before."""


def detect(images: Images, seed: int) -> Detection:
    """Who belongs among the images (N, C, H, W), told nothing else."""
    start = warm_start(extract_views(images), images=images, seed=seed)
    return Detection(start.score, start.is_outlier, expit(start.log_odds))
