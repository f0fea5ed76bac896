"""Clusters of images that look alike, by IMSAT on the joint view.

Ours: not on pixels, as in the paper. On 5,000 digits and 10 clusters, k-means agrees with the digits at .46
on pixels and at .71 on the joint view; IMSAT on the joint view at .96 (pipelines/imsat.py prints these).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rvqvae.clustering.estimators import IMSAT
from rvqvae.progress import Progress

MAX_CLUSTERS, MIN_CLUSTER = 20, 25
"""Clusters by default, and images for each at least."""
WIDTH, STEPS, MIN_EPOCHS, MAX_EPOCHS = 200, 600, 4, 150
"""Of the two layers of the network; steps of the training, and its epochs, at least and at most. On 2,500
digits and clothes, 20 clusters in seconds: more of each finds nothing better."""


class ClusterLabels(NamedTuple):
    """Which cluster each of N images belongs to."""

    labels: NDArray[np.int64]
    """(N,) from 0, the largest cluster."""
    probability: NDArray[np.float32]
    """(N,) of that cluster."""


def default_clusters(n: int) -> int:
    """How many clusters ``n`` images are divided into unless something else is asked for."""
    return max(2, min(MAX_CLUSTERS, n // MIN_CLUSTER))


def find_clusters(
    vectors: NDArray[np.float32],
    n_clusters: int,
    *,
    most: int | None = None,
    seed: int = 0,
    device: str | None = None,
    progress: Progress | None = None,
) -> ClusterLabels:
    """``n_clusters`` clusters of N images, from ``vectors`` (N, d) such as `JointView` makes.

    If there are more than ``most``, so many are drawn at random to learn from, and the others are assigned.
    Clusters come out about equally large: a small kind shares one with what is most like it, unless there are
    many clusters. Two or three clusters of a few hundred images are arbitrary. Raises InputError for more
    clusters than images, and if all images are equal.
    """
    n = len(vectors)
    rows = np.sort(np.random.default_rng(seed).permutation(n)[:most])
    batch = max(MIN_CLUSTER, min(250, len(rows) // 5))
    model = IMSAT(
        n_clusters=n_clusters, hidden=(WIDTH, WIDTH), learning_rate=5e-3, batch_size=batch,
        epochs=min(MAX_EPOCHS, max(MIN_EPOCHS, round(STEPS / max(1, len(rows) // batch)))),
        random_state=seed, device=device, progress=progress,
    )  # fmt: skip
    p = model.fit(vectors[rows]).predict_proba(vectors)
    labels = p.argmax(1)
    order = np.argsort(-np.bincount(labels, minlength=n_clusters), kind="stable")
    return ClusterLabels(np.argsort(order)[labels], p.max(1))
