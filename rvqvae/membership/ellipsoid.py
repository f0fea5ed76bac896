"""How far each sample lies from the majority: a robust ellipsoid.

After the minimum covariance determinant (Rousseeuw and Van Driessen 1999). Ours: the concentration starts
from majority depth (no group below half of the data can look central there), covariances are shrunk
(Ledoit and Wolf 2004), and in every step each sample is judged by an ellipsoid fitted without it: in-sample
distances confirm their own split.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from sklearn.covariance import ledoit_wolf

CORE = 0.55
"""Share of the data that the ellipsoid is fitted to: just above half, as contamination may near it."""


class Ellipsoid(NamedTuple):
    """The core's ellipsoid, and what distance from it is usual."""

    centre: NDArray[np.float64]
    """(d,)."""
    precision: NDArray[np.float64]
    """(d, d)."""
    usual: float
    """Median log squared distance of the samples that may belong."""
    spread: float
    """Their median absolute deviation, times 1.4826."""

    @classmethod
    def fit(cls, z: NDArray[np.floating], allowed: NDArray[np.bool_], seed: int) -> Ellipsoid:
        """To the core of the ``allowed`` rows (N,) of ``z`` (N, d)."""
        distance = ellipsoid_distance(z, allowed, seed)
        centre, precision = _shape(z[_core(distance, allowed)])
        found = cls(centre, precision, 0.0, 1.0)
        log = found(z[allowed])
        usual = float(np.median(log))
        spread = 1.4826 * float(np.median(np.abs(log - usual))) + 1e-12
        return found._replace(usual=usual, spread=spread)

    def __call__(self, z: NDArray[np.floating]) -> NDArray[np.float64]:
        """(N,) log squared Mahalanobis distance of ``z`` (N, d), in spreads above the usual."""
        log = np.log(_mahalanobis(z, self.centre, self.precision) + 1e-12)
        return np.asarray((log - self.usual) / self.spread)


def majority_depth(z: NDArray[np.floating], seed: int, anchors: int = 1000) -> NDArray[np.float64]:
    """(N,) distance from each row of ``z`` (N, d) to its median neighbour."""
    rows = np.random.default_rng(seed).permutation(len(z))[:anchors]
    k = len(rows) // 2
    # Copied: a column of a block would keep all of it.
    return np.concatenate(
        [np.partition(cdist(block, z[rows]), k, axis=1)[:, k].copy() for block in _blocks(z)]
    )


def ellipsoid_distance(
    z: NDArray[np.floating], allowed: NDArray[np.bool_], seed: int, folds: int = 5, steps: int = 12
) -> NDArray[np.float64]:
    """(N,) squared Mahalanobis distance of each row of ``z`` (N, d) to the core, out of fold.

    The core is drawn from the ``allowed`` rows (N,) only.
    """
    fold = np.random.default_rng(seed).permutation(len(z)) % folds
    distance = np.empty(len(z))
    distance[allowed] = majority_depth(z[allowed], seed)
    for _ in range(steps):
        core = _core(distance, allowed, fewest=2 * folds)
        distance = np.empty(len(z))
        for k in range(folds):
            distance[fold == k] = _mahalanobis(z[fold == k], *_shape(z[core & (fold != k)]))
    return distance


def _core(distance: NDArray[np.float64], allowed: NDArray[np.bool_], fewest: int = 2) -> NDArray[np.bool_]:
    """(N,) the CORE share of the ``allowed`` that lies nearest."""
    size = max(fewest, int(CORE * allowed.sum()))
    core = np.zeros(len(distance), bool)
    core[np.argsort(np.where(allowed, distance, np.inf), kind="stable")[:size]] = True
    return core


def _shape(z: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return z.mean(0, dtype=np.float64), np.linalg.pinv(ledoit_wolf(z)[0].astype(np.float64), hermitian=True)


def _mahalanobis(
    z: NDArray[np.floating], centre: NDArray[np.float64], precision: NDArray[np.float64]
) -> NDArray[np.float64]:
    found = [np.empty(0)]
    for block in _blocks(z):  # In float64 the whole would be the largest array of all.
        offset = block - centre
        found.append(np.einsum("ij,ij->i", offset @ precision, offset))
    return np.concatenate(found)


def _blocks(z: NDArray[np.floating], rows: int = 8192) -> list[NDArray[np.floating]]:
    return [z[i : i + rows] for i in range(0, len(z), rows)]
