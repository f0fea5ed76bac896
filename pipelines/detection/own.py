"""Our own method as the study sees it: whole, and in parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from rvqvae.config import ModelConfig, TrainConfig
from rvqvae.detector import detect, verdict_of, views_of
from rvqvae.membership import warm_start

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
    """Warm start, joint training of the Robust VQ-VAE, and both codebooks' say."""
    found = detect(images, ModelConfig(), TrainConfig(epochs=epochs), seed=seed, backbone=backbone)
    return Detection(
        -found.log_odds,
        found.is_outlier,
        expit(found.log_odds),
        found.interval,
        found.verdict,
        lambda new: -found.scorer(new).log_odds,
    )


def start_only(images: Images, seed: int, epochs: int) -> Detection:
    """Without the codebooks."""
    start = warm_start(views_of(images, BACKBONE), images=images, seed=seed)
    odds = start.membership.log_odds
    return Detection(
        -odds, odds > 0, expit(odds), start.interval, verdict_of(start.interval),
        lambda new: -start.rule(start.rule.view(views_of(new, BACKBONE))),
    )  # fmt: skip


def learned(images: Images, seed: int, epochs: int) -> Detection:
    """Nothing pretrained: features learned from the images themselves."""
    return whole(images, seed, epochs, "learned")


METHODS: dict[str, Callable[[Images, int, int], Detection]] = {
    OWN: whole,
    "start only": start_only,
    "learned": learned,
}
