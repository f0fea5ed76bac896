"""The joint view: one space in which samples are compared, fitted once and applied to new samples."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Views = Sequence[NDArray[np.generic]]
COMPONENTS = 32
"""Principal components kept of each view. 64 and 128 ranked worse (measured over the suite)."""
ROWS = 2048
"""Samples that are projected at a time, so that no view is copied whole."""


class JointView(NamedTuple):
    """Leading principal components of each view, scaled to unit variance in total, side by side."""

    means: tuple[NDArray[np.float32], ...]
    """(d,) mean of each view."""
    axes: tuple[NDArray[np.float32], ...]
    """(d, k) scaled components of each view."""

    @classmethod
    def fit(cls, views: Views, seed: int = 0) -> JointView:
        """Fit to training ``views``, each (N, d)."""
        from sklearn.decomposition import PCA

        means, axes = [], []
        for view in views:
            x = np.asarray(view, np.float32)
            k = min(COMPONENTS, x.shape[1], len(x) - 1)
            pca = PCA(k, svd_solver="randomized", iterated_power=3, random_state=seed).fit(x)
            means.append(pca.mean_.astype(np.float32))
            scale = max(float(np.sqrt(pca.explained_variance_.sum())), 1e-12)
            axes.append((pca.components_.T / scale).astype(np.float32))
        return cls(tuple(means), tuple(axes))

    @property
    def parts(self) -> list[slice]:
        """The columns of each view in the joint view."""
        ends = np.cumsum([0, *(axes.shape[1] for axes in self.axes)]).tolist()
        return [slice(begin, end) for begin, end in pairwise(ends)]

    def __call__(self, views: Views) -> NDArray[np.float32]:
        """(N, k in total) projection of ``views``, each (N, d)."""
        z = np.empty((len(views[0]), self.parts[-1].stop), np.float32)
        for view, mean, axes, columns in zip(views, self.means, self.axes, self.parts, strict=True):
            for begin in range(0, len(z), ROWS):
                rows = slice(begin, begin + ROWS)
                # In float64: in float32 the product of a row depends on the other rows of its block.
                z[rows, columns] = (np.asarray(view[rows], np.float64) - mean) @ axes.astype(np.float64)
        return z
