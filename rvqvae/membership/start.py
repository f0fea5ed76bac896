"""The warm start: who looks like the majority, before any training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from rvqvae.membership.literal import literal_split
from rvqvae.membership.types import Membership


def joint_view(
    views: Sequence[NDArray[np.floating]], components: Sequence[int], seed: int
) -> NDArray[np.float32]:
    """Principal components of each view (N, d), scaled to unit variance in total, side by side."""
    parts = []
    for view, k in zip(views, components, strict=True):
        k = min(k, view.shape[1], len(view) - 1)
        z = PCA(k, svd_solver="randomized", random_state=seed).fit_transform(np.asarray(view, np.float32))
        parts.append(z / max(float(np.sqrt(z.var(0).sum())), 1e-12))
    return np.concatenate(parts, 1).astype(np.float32)


def warm_start(
    views: Sequence[NDArray[np.floating]],
    *,
    components: Sequence[int] = (32, 48),
    contamination: float | None = None,
    seed: int = 0,
) -> Membership:
    """Majority depth: distance to the .45 N-th neighbour in the joint view, cut in two means."""
    z = joint_view(views, components[-len(views) :], seed)
    k = max(1, int(0.45 * len(z)))
    rng = np.random.default_rng(seed)
    anchors = z[rng.permutation(len(z))[:4000]]
    k = max(1, int(0.45 * len(anchors)))
    depth = NearestNeighbors(n_neighbors=k).fit(anchors).kneighbors(z)[0][:, -1]
    return literal_split(depth.astype(np.float64), contamination)
