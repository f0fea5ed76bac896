"""The joint view: one space in which samples are compared, fitted once and applied to new samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA

Views = Sequence[NDArray[np.generic]]
COMPONENTS = 32
"""Principal components kept of each view."""


class JointView(NamedTuple):
    """Leading principal components of each view, scaled to unit variance in total, side by side."""

    means: tuple[NDArray[np.float32], ...]
    """(d,) of each view."""
    axes: tuple[NDArray[np.float32], ...]
    """(d, k) of each view, already scaled."""

    @classmethod
    def fit(cls, views: Views, seed: int = 0) -> JointView:
        """From training ``views``, each (N, d)."""
        means, axes = [], []
        for view in views:
            x = np.asarray(view, np.float32)
            k = min(COMPONENTS, x.shape[1], len(x) - 1)
            pca = PCA(k, svd_solver="randomized", random_state=seed).fit(x)
            means.append(pca.mean_.astype(np.float32))
            scale = max(float(np.sqrt(pca.explained_variance_.sum())), 1e-12)
            axes.append((pca.components_.T / scale).astype(np.float32))
        return cls(tuple(means), tuple(axes))

    def __call__(self, views: Views) -> NDArray[np.float32]:
        """(N, k in total) of ``views``, each (N, d)."""
        parts = (
            (np.asarray(view, np.float32) - mean) @ axes
            for view, mean, axes in zip(views, self.means, self.axes, strict=True)
        )
        return np.concatenate(list(parts), 1).astype(np.float32)
