"""From log odds to a decision: who is dropped, how large the rate is, and what may be said of the set."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

Floats = NDArray[np.float64]
Verdict = Literal["clean", "contaminated", "undecided"]

CAUTION = 2.0
"""What a thrown-out inlier costs beside an outlier left in, by default: whoever loses good images is harmed
more than whoever keeps a few bad ones, which a page to review still shows."""
FEWEST = 100
"""Samples below which no verdict is given: the judge has learned on sets of 100 and more."""
SEEN = 0.8
"""Share of the planted foreign samples that must stand out before a set is called clean."""
CLEAN = 0.03
"""Contamination, by the high end of the interval, up to which a set may be called clean."""


class Interval(NamedTuple):
    """95 % interval of the contamination."""

    low: float
    high: float


def cut_of(caution: float) -> float:
    """Log odds above which dropping costs less than keeping: p > caution (1 - p)."""
    return float(np.log(caution))


def cut_at(log_odds: Floats, contamination: float) -> float:
    """The log odds above which the given share of the samples (N,) lies: half-way between two neighbours."""
    ordered = np.sort(log_odds)
    kept = len(ordered) - round(contamination * len(ordered))
    if kept in (0, len(ordered)):
        return float(ordered[-1]) if kept else float(ordered[0]) - 1
    return float((ordered[kept - 1] + ordered[kept]) / 2)


def rate_interval(log_odds: Floats, doubt: tuple[float, float]) -> Interval:
    """Of the contamination, where the log odds (N,) may all be off together by ``doubt`` nats.

    Ours: what a judge gets wrong of a set, it gets wrong of many samples at once; so the width comes from
    whole sets that it had not seen, not from counting samples. At the low end only samples that would be
    called outliers count, at the high end each by its probability.
    """
    low = float((log_odds + doubt[0] > 0).mean())
    high = float(expit(log_odds + doubt[1]).mean())
    return Interval(min(low, 0.5), min(max(low, high), 0.5))


def doubt_of(log_odds: Floats, is_outlier: NDArray[np.bool_]) -> tuple[float, float]:
    """The largest low and the least high shift with which `rate_interval` would hold the truth of a set."""
    n, true = len(log_odds), int(is_outlier.sum())
    ordered = np.sort(log_odds)[::-1]
    low = -float(ordered[true]) if true < n else np.inf
    below, above = -30.0, 30.0
    for _ in range(40):
        middle = (below + above) / 2
        below, above = (middle, above) if expit(log_odds + middle).mean() < true / n else (below, middle)
    return low - 1e-6, above


def verdict_of(interval: tuple[float, float], n: int, seen: float) -> Verdict:
    """What may be said of ``n`` samples: nothing of fewer than FEWEST; that they are clean only if the share
    ``seen`` of planted foreign samples stood out."""
    low, high = interval
    if n < FEWEST:
        return "undecided"
    if low > 0.005:
        return "contaminated"
    return "clean" if high <= CLEAN and seen >= SEEN else "undecided"
