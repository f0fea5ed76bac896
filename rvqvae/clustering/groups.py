"""Groups of images that look alike, by IMSAT on the joint view.

Ours: not on pixels, as in the paper. On 2,500 digits and 10 clusters, k-means agrees with the digits at .52
on pixels and at .78 on the joint view; IMSAT on the joint view at .94 (pipelines/imsat.py prints these).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rvqvae.clustering.estimators import IMSAT
from rvqvae.detector import Progress
from rvqvae.membership.view import JointView

MOST, FEWEST = 20, 25
"""Groups by default, and images for each at least."""
STEPS, SLOWEST, MANY = 1500, 4, 150
"""Steps of the training; epochs, at least and at most."""


class Groups(NamedTuple):
    """Which group each of N images belongs to."""

    labels: NDArray[np.int64]
    """(N,) from 0, the largest group."""
    probability: NDArray[np.float32]
    """(N,) of that group."""


def default_groups(n: int) -> int:
    """How many groups ``n`` images are divided into unless something else is asked for."""
    return max(2, min(MOST, n // FEWEST))


def find_groups(
    views: Sequence[NDArray[np.generic]],
    n_groups: int,
    *,
    seed: int = 0,
    device: str | None = None,
    progress: Progress | None = None,
) -> Groups:
    """``n_groups`` groups of N images, from their views as `extract_views` gives them, each (N, d).

    Groups come out about equally large, so that a small kind shares one with what is most like it, unless
    there are many groups; two or three groups of a few hundred images are arbitrary. Raises InputError for
    more groups than images, and if all images are equal.
    """
    n = len(views[0])
    joint = JointView.fit(views, seed)(views)
    batch = max(FEWEST, min(250, n // 5))
    model = IMSAT(
        n_clusters=n_groups, hidden=(400, 400), learning_rate=5e-3, batch_size=batch,
        epochs=min(MANY, max(SLOWEST, round(STEPS / max(1, n // batch)))),
        random_state=seed, device=device, progress=progress,
    )  # fmt: skip
    p = model.fit(joint).predict_proba(joint)
    order = np.argsort(-np.bincount(model.labels_, minlength=n_groups), kind="stable")
    return Groups(np.argsort(order)[model.labels_], p.max(1))
