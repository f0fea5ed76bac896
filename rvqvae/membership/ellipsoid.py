"""Distance of each sample from the majority, by a robust ellipsoid.

After the minimum covariance determinant (Rousseeuw and Van Driessen 1999). Ours: the concentration starts
from majority depth (no group below half of the data can look central there), covariances are shrunk
(Ledoit and Wolf 2004).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

CORE = 0.55
"""Share of the data that the ellipsoid is fitted to: just above half, as contamination may come near half."""
STEPS, LAST, FEWEST, ANCHORS, ROWS = 8, 4, 8, 1000, 8192

Distances = NDArray[np.float64]
Mask = NDArray[np.bool_]


class Ellipsoid(NamedTuple):
    """Centre (d,) and precision (d, d) of the core; median and spread of the set's log squared distances."""

    centre: NDArray[np.float64]
    precision: NDArray[np.float64]
    median: float
    spread: float
    """Median absolute deviation times 1.4826: one standard deviation of a normal distribution."""

    def __call__(self, z: NDArray[np.floating]) -> Distances:
        """(N,) log squared Mahalanobis distances of ``z`` (N, d), minus the set's median, nats."""
        return np.log(_mahalanobis(z, self.centre, self.precision) + 1e-9) - self.median


def find_core(z: NDArray[np.floating], views: Sequence[slice], seed: int) -> Mask:
    """(N,) bool: the most compact CORE share of ``z`` (N, d), found from the deepest samples.

    Ours: STEPS iterations use all columns together; LAST more use the sum of the log distances in each of the
    ``views``, slices of columns. A foreign kind that is compact in one view is not so in all: over 61 sets
    the outliers in the core fell from 4.2 to 3.7 %, the sum's AUROC is .915 for .907, and clothes with 30 %
    digits, whose core had held 8 % of them, 1.000 for .899. To use the sum from the start spoils that set.
    """
    distance = majority_depth(z, seed)
    for _ in range(STEPS):
        distance = _mahalanobis(z, *_shape(z[_nearest(distance)]))
    for _ in range(LAST if len(views) > 1 else 0):
        core = _nearest(distance)
        parts = [_mahalanobis(z[:, view], *_shape(z[core][:, view])) for view in views]
        distance = np.sum([np.log(part + 1e-9) for part in parts], 0)
    return _nearest(distance)


def fit_ellipsoid(z: NDArray[np.floating], core: Mask) -> Ellipsoid:
    """Fit to the ``core`` (N,) bool of ``z`` (N, d); median and spread are of the distances of all rows."""
    centre, precision = _shape(z[core])
    log = np.log(_mahalanobis(z, centre, precision) + 1e-9)
    median = float(np.median(log))
    spread = 1.4826 * float(np.median(np.abs(log - median))) + 1e-9
    return Ellipsoid(centre, precision, median, spread)


def majority_depth(z: NDArray[np.floating], seed: int) -> Distances:
    """(N,) distance from each row of ``z`` (N, d) to its median neighbour, among at most ANCHORS."""
    rows = np.random.default_rng(seed).permutation(len(z))[:ANCHORS]
    k = len(rows) // 2
    # Copied: a column of a block would keep all of it.
    return np.concatenate([np.partition(cdist(b, z[rows]), k, axis=1)[:, k].copy() for b in _blocks(z)])


def _nearest(distance: Distances) -> Mask:
    core = np.zeros(len(distance), bool)
    core[np.argsort(distance, kind="stable")[: max(FEWEST, int(CORE * len(distance)))]] = True
    return core


def _shape(z: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    from sklearn.covariance import ledoit_wolf

    return z.mean(0, dtype=np.float64), np.linalg.pinv(ledoit_wolf(z)[0].astype(np.float64), hermitian=True)


def _mahalanobis(
    z: NDArray[np.floating], centre: NDArray[np.float64], precision: NDArray[np.float64]
) -> Distances:
    found = [np.empty(0)]
    for block in _blocks(z):  # In float64 the whole would be the largest array of all.
        offset = block - centre
        found.append(np.maximum(np.einsum("ij,ij->i", offset @ precision, offset), 0))
    return np.concatenate(found)


def _blocks(z: NDArray[np.floating]) -> list[NDArray[np.floating]]:
    return [z[i : i + ROWS] for i in range(0, len(z), ROWS)]
