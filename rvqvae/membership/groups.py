"""Many small groups, and how far each stands from the one part that holds most of the data."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import linkage, to_tree
from scipy.spatial.distance import squareform
from sklearn.cluster import KMeans, MiniBatchKMeans

Vector = NDArray[np.float64]
Labels = NDArray[np.int64]


def cluster(z: NDArray[np.floating], k: int, seed: int) -> tuple[Labels, NDArray[np.float32]]:
    """k-means of ``z`` (N, d): labels (N,), each sample's nearest centroid, and the centroids (k, d)."""
    method = KMeans if len(z) <= 20_000 else MiniBatchKMeans
    found = method(k, n_init=1, random_state=seed).fit(z)
    return found.labels_.astype(np.int64), found.cluster_centers_.astype(np.float32)


def members(labels: Labels, k: int, fewest: int) -> tuple[NDArray[np.int64], list[NDArray[np.int64]]]:
    """The groups of at least ``fewest`` samples, and the rows of each."""
    rows = [np.flatnonzero(labels == group) for group in range(k)]
    large = [group for group in range(k) if len(rows[group]) >= fewest]
    return np.array(large, np.int64), [rows[group] for group in large]


def part_from_majority(
    gap: Vector, mass: NDArray[np.int64], total: int, most: float = 0.5
) -> tuple[Vector, float]:
    """Single linkage of G groups by their gaps (G, G), read from the top along the heavier side.

    Returns the height (G,) at which each group of ``mass`` samples parts from what holds more than the
    share ``most`` of the ``total``, and the height at which that majority itself falls apart (0 if it is
    one group).
    """
    heights = np.zeros(len(mass))
    root = to_tree(linkage(squareform(gap, checks=False), "single"))
    while not root.is_leaf():
        parts = [np.array(side.pre_order()) for side in (root.left, root.right)]
        smaller, larger = sorted((0, 1), key=lambda i: mass[parts[i]].sum())
        if mass[parts[larger]].sum() <= most * total:  # no side is a majority: nobody parts from it
            return heights, float(root.dist)
        heights[parts[smaller]] = root.dist
        root = (root.left, root.right)[larger]
    return heights, 0.0
