"""A map of the set: where each image lies among the others, in two dimensions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.manifold import TSNE
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.preprocessing import minmax_scale

LANDMARKS, MIN_FOR_TSNE = 400, 50
NEAREST = 4
BATCH = 4096


def project(vectors: NDArray[np.float32], seed: int = 0) -> NDArray[np.float32]:
    """Points (N, 2) float32 from 0 to 1, of ``vectors`` (N, d): what is alike lies together.

    Ours: t-SNE (van der Maaten and Hinton 2008) of 400 samples takes half a second for any N; each of the
    others lies between the nearest four of them, weighted by a Gaussian as wide as its own distance to the
    nearest. Fewer than 50 samples are shown by their two leading principal components.
    """
    n = len(vectors)
    rows = np.sort(np.random.default_rng(seed).permutation(n)[:LANDMARKS])
    landmarks = vectors[rows]
    start = _leading(landmarks)
    if n < MIN_FOR_TSNE or not start.any():
        return minmax_scale(start) if n else start
    # One thread, or sums in another order would give another map.
    method = TSNE(2, init=1e-4 * start / start[:, 0].std(), perplexity=min(30, len(rows) / 4), n_jobs=1)
    places = method.set_params(random_state=seed).fit_transform(landmarks)
    points = np.empty((n, 2), np.float32)
    for begin in range(0, n, BATCH):
        squares = euclidean_distances(vectors[begin : begin + BATCH], landmarks, squared=True)
        near = np.argpartition(squares, NEAREST, axis=1)[:, :NEAREST]
        close = np.take_along_axis(squares, near, 1)
        width = np.maximum(close.min(1, keepdims=True), 1e-12)
        weights = np.exp(-(close - width) / width)
        points[begin : begin + BATCH] = np.einsum(
            "nk,nkd->nd", weights / weights.sum(1, keepdims=True), places[near]
        )
    points[rows] = places
    scaled: NDArray[np.float32] = minmax_scale(points)
    return scaled


def _leading(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """The two leading principal components (N, 2); of nearly equal vectors nothing but zeros."""
    points = np.zeros((len(vectors), 2), np.float32)
    if len(vectors):
        left, strength, _ = np.linalg.svd(vectors - vectors.mean(0), full_matrices=False)
        some = strength[:2] > 1e-6
        points[:, : len(some)] = left[:, :2] * strength[:2] * some
    return points
