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
FITTED = 32_768
"""Samples that principal components are found from, drawn at random from larger sets."""
BLOCK = 8192
"""Samples that are projected at a time, so that no view is ever copied whole."""


class JointView(NamedTuple):
    """Leading principal components of each view, scaled to unit variance in total, side by side."""

    means: tuple[NDArray[np.float32], ...]
    """(d,) of each view."""
    axes: tuple[NDArray[np.float32], ...]
    """(d, k) of each view, already scaled."""

    @classmethod
    def fit(cls, views: Views, seed: int = 0) -> JointView:
        """From training ``views``, each (N, d)."""
        means, axes, n = [], [], len(views[0])
        rows = (
            np.sort(np.random.default_rng(seed).choice(n, FITTED, replace=False)) if n > FITTED else slice(n)
        )
        for view in views:
            x = np.asarray(view[rows], np.float32)
            k = min(COMPONENTS, x.shape[1], len(x) - 1)
            pca = PCA(k, svd_solver="randomized", random_state=seed).fit(x)
            means.append(pca.mean_.astype(np.float32))
            scale = max(float(np.sqrt(pca.explained_variance_.sum())), 1e-12)
            axes.append((pca.components_.T / scale).astype(np.float32))
        return cls(tuple(means), tuple(axes))

    def __call__(self, views: Views) -> NDArray[np.float32]:
        """(N, k in total) of ``views``, each (N, d)."""
        widths = [axes.shape[1] for axes in self.axes]
        z = np.empty((len(views[0]), sum(widths)), np.float32)
        for view, mean, axes, end in zip(views, self.means, self.axes, np.cumsum(widths), strict=True):
            for begin in range(0, len(z), BLOCK):
                rows = slice(begin, begin + BLOCK)
                z[rows, end - axes.shape[1] : end] = (np.asarray(view[rows], np.float32) - mean) @ axes
        return z
