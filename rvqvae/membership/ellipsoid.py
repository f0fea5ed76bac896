"""How far each sample lies from the majority: a robust ellipsoid, judged out of fold.

After the minimum covariance determinant (Rousseeuw and Van Driessen 1999). Ours: the concentration starts
from majority depth (no group below half of the data can look central there), covariances are shrunk
(Ledoit and Wolf 2004), and each sample is judged by an ellipsoid fitted without it: in-sample distances
confirm their own split.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from sklearn.covariance import ledoit_wolf

CORE = 0.55
"""Share of the data that the ellipsoid is fitted to: just above half, as contamination may near it."""


def majority_depth(z: NDArray[np.floating], seed: int, anchors: int = 1000) -> NDArray[np.float64]:
    """(N,) distance from each row of ``z`` (N, d) to its median neighbour."""
    rows = np.random.default_rng(seed).permutation(len(z))[:anchors]
    k = len(rows) // 2
    blocks = [np.partition(cdist(block, z[rows]), k, axis=1)[:, k] for block in _blocks(z)]
    return np.concatenate(blocks)


def ellipsoid_distance(
    z: NDArray[np.floating], allowed: NDArray[np.bool_], seed: int, folds: int = 5, steps: int = 12
) -> NDArray[np.float64]:
    """(N,) squared Mahalanobis distance of each row of ``z`` (N, d) to the core, out of fold.

    The core is drawn from the ``allowed`` rows (N,) only.
    """
    fold = np.random.default_rng(seed).permutation(len(z)) % folds
    distance = np.empty(len(z))
    distance[allowed] = majority_depth(z[allowed], seed)
    size = max(2 * folds, int(CORE * allowed.sum()))
    for _ in range(steps):
        core = np.zeros(len(z), bool)
        core[np.argsort(np.where(allowed, distance, np.inf), kind="stable")[:size]] = True
        distance = np.empty(len(z))
        for k in range(folds):
            fitted = z[core & (fold != k)]
            centre = fitted.mean(0)
            offset = z[fold == k] - centre
            precision = np.linalg.pinv(ledoit_wolf(fitted)[0], hermitian=True)
            distance[fold == k] = np.einsum("ij,ij->i", offset @ precision, offset)
    return distance


def _blocks(z: NDArray[np.floating], rows: int = 4096) -> list[NDArray[np.floating]]:
    return [z[i : i + rows] for i in range(0, len(z), rows)]
