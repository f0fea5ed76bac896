"""The usual small tables that scikit-learn carries and PyOD generates, each made into inliers and outliers.

As their literature makes them: one class is rare among the others, or one class alone is normal.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray
from sklearn import datasets
from sklearn.preprocessing import StandardScaler

from pipelines.common.domains import Scenario

Table = tuple[NDArray[np.float64], NDArray[np.bool_]]
"""Samples (N, d), and which of them are outliers (N,)."""
RATE = 0.1


class Tables:
    """The sets by name, as `Folder` gives those of images."""

    @cached_property
    def makers(self) -> dict[str, Callable[[int], Table]]:
        made: dict[str, Callable[[int], Table]] = {}
        for name, load in LOADERS.items():
            y = load(return_X_y=True)[1]
            for kind in np.unique(y) if name != "digits" else (1, 4, 8):
                made[f"{name}, {kind} rare"] = partial(_classes, load, kind, True)
        for kind in (1, 4, 8):
            made[f"digits, {kind} normal"] = partial(_classes, datasets.load_digits, kind, False)
        return made | {"PyOD's Gaussian": _gaussian, "PyOD's clusters": _clusters}

    def scenarios(self) -> list[Scenario]:
        return [
            Scenario(name, "tabular", {"domain": name}, [], RATE, 10_000, seed)
            for seed, name in enumerate(self.makers)
        ]

    def draw(self, scenario: Scenario) -> Table:
        """Columns are standardised, as everybody does first."""
        x, truth = self.makers[scenario.id](scenario.seed)
        return StandardScaler().fit_transform(x), truth


LOADERS = {
    "breast cancer": datasets.load_breast_cancer,
    "wine": datasets.load_wine,
    "iris": datasets.load_iris,
    "digits": datasets.load_digits,
}


def _classes(load: Callable, kind: int, rare: bool, seed: int) -> Table:
    """Class ``kind`` as outliers among all others, or all others among it, at RATE."""
    x, y = load(return_X_y=True)
    rng = np.random.default_rng(seed)
    outliers = rng.permutation(np.flatnonzero((y == kind) == rare))
    inliers = rng.permutation(np.flatnonzero((y == kind) != rare))
    count = min(len(outliers), round(len(inliers) * RATE / (1 - RATE)))
    rows = rng.permutation(np.concatenate([inliers, outliers[:count]]))
    return x[rows], (y[rows] == kind) == rare


def _gaussian(seed: int) -> Table:
    from pyod.utils.data import generate_data

    x, _, y, _ = generate_data(1000, 10, n_features=10, contamination=RATE, random_state=seed)
    return x, y.astype(bool)


def _clusters(seed: int) -> Table:
    from pyod.utils.data import generate_data_clusters

    x, _, y, _ = generate_data_clusters(
        1000, 10, n_clusters=3, n_features=10, contamination=RATE, random_state=seed
    )
    return x, y.astype(bool)
