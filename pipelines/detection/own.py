"""Our own method as the study sees it: whole, and in parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from rvqvae.detector import detect

Images = NDArray[np.uint8]
Vector = NDArray[np.float64]
OWN = "rvqvae"
BACKBONE = "efficientnet_lite0"
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


def whole(images: Images, seed: int, epochs: int, backbone: str = BACKBONE) -> Detection:
    """The judge's log odds; no network is trained for them, whatever the ``epochs``."""
    found = detect(images, seed=seed, backbone=backbone)
    odds = found.judged.log_odds
    return Detection(
        -odds, odds > found.cut, expit(odds), found.interval, found.verdict,
        lambda new: -found.scorer(new).log_odds,
    )  # fmt: skip


def learned(images: Images, seed: int, epochs: int) -> Detection:
    """Nothing pretrained: features learned from the images themselves."""
    return whole(images, seed, epochs, "learned")


METHODS: dict[str, Callable[[Images, int, int], Detection]] = {
    OWN: whole,
    "learned": learned,
}
