"""Filter, then train: what a user would try first. Unlike any user, these know the true rate."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import NearestNeighbors

from rvqvae.contamination import Contaminated
from rvqvae.features.pretrained import extract_features

Scores = NDArray[np.floating]
NEIGHBOURS = 10


def isolation_forest(features: Scores, seed: int) -> Scores:
    """(N,) higher = more normal, of features (N, d)."""
    return IsolationForest(random_state=seed).fit(features).score_samples(features)


def nearest_neighbours(features: Scores, seed: int) -> Scores:
    """(N,) minus the distance to the tenth neighbour."""
    return -NearestNeighbors(n_neighbors=NEIGHBOURS).fit(features).kneighbors()[0][:, -1]


FILTERS: dict[str, Callable[[Scores, int], Scores]] = {
    "iforest": isolation_forest,
    "knn": nearest_neighbours,
}


def keep(name: str, mixture: Contaminated, seed: int) -> NDArray[np.bool_]:
    """(N,) the images that filter ``name`` keeps: all but as many as there are outliers, by its scores."""
    features = extract_features(mixture.images)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    order = np.argsort(FILTERS[name](features, seed), kind="stable")
    kept = np.ones(len(order), bool)
    kept[order[: int(mixture.is_outlier.sum())]] = False
    return kept
