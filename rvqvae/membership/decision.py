"""From log odds to decisions: who is dropped, the contamination's interval, and the verdict on the set."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

Floats = NDArray[np.float64]
Verdict = Literal["clean", "contaminated", "undecided"]

CAUTION = 2.0
"""Default cost of a thrown-out inlier, where an outlier left in costs 1. Ours: to lose good images harms more
than to keep a few bad ones, which the review page still shows."""
FEWEST = 100
"""Fewest samples for a verdict: the judge was trained on sets of 100 and more."""
SEEN = 0.8
"""Share of the planted foreign samples that must stand out before a set is called clean."""
CLEAN = 0.03
"""Largest high end of the interval at which a set may be called clean."""


class Interval(NamedTuple):
    """95 % interval of the contamination."""

    low: float
    high: float


def cut_of(caution: float) -> float:
    """Log odds above which dropping costs less than keeping: where p > caution (1 - p)."""
    return float(np.log(caution))


def cut_at(log_odds: Floats, contamination: float) -> float:
    """Log odds that the given share of the samples (N,) exceeds, half-way between two neighbours."""
    ordered = np.sort(log_odds)
    kept = len(ordered) - round(contamination * len(ordered))
    if kept in (0, len(ordered)):
        return float(ordered[-1]) if kept else float(ordered[0]) - 1
    return float((ordered[kept - 1] + ordered[kept]) / 2)


def rate_interval(log_odds: Floats, doubt: tuple[float, float]) -> Interval:
    """95 % interval of the contamination, if all log odds (N,) may be wrong together by ``doubt`` nats.

    Ours: where a judge errs on a set, it errs on many samples at once. So the width comes from whole sets
    that it was not trained on, not from the number of samples. The low end is the share of samples with
    positive log odds, the high end the mean probability, each after its shift.
    """
    low = float((log_odds + doubt[0] > 0).mean())
    high = float(expit(log_odds + doubt[1]).mean())
    return Interval(min(low, 0.5), min(max(low, high), 0.5))


def doubt_of(log_odds: Floats, is_outlier: NDArray[np.bool_]) -> tuple[float, float]:
    """The largest low and the least high shift with which `rate_interval` contains a set's true rate."""
    n, true = len(log_odds), int(is_outlier.sum())
    ordered = np.sort(log_odds)[::-1]
    low = -float(ordered[true]) if true < n else np.inf
    below, above = -30.0, 30.0
    for _ in range(40):
        middle = (below + above) / 2
        below, above = (middle, above) if expit(log_odds + middle).mean() < true / n else (below, middle)
    return low - 1e-6, above


def verdict_of(interval: tuple[float, float], n: int, seen: float) -> Verdict:
    """The verdict on ``n`` samples: "undecided" below FEWEST; "clean" only if the share ``seen`` of planted
    foreign samples that stood out is at least SEEN."""
    low, high = interval
    if n < FEWEST:
        return "undecided"
    if low > 0.005:
        return "contaminated"
    return "clean" if high <= CLEAN and seen >= SEEN else "undecided"
