"""The metric that membership compares images by: learned on many domains, the same for every set.

Within-class covariance normalisation (Hatch, Kajarekar and Stolcke 2006): every view is turned and scaled so
that images of one kind vary equally in all directions, on average over the domains; then each row is scaled
to unit length. Directions in which images of one kind differ anyway count less, those that tell kinds apart
count more.

Measured on every second of 153 sets, the families of each left out (AUROC of the ellipsoid alone): pixels,
features, style and statistics as they are .936 (far .942, near .919, defects .678); the last three in this
metric .966 (.976, .925, .814), in it but without unit length .942, with pixels beside them .943. RIDGE 1 gave
.944, .1 .959, .02 .962, .003 .966. Texture beside them, on 60 of these sets: .970 for .961, near .935 for
.926.

`pipelines.train_judge` makes metric.npz from a folder of domains.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

from rvqvae.features.pretrained import unit_rows

FILE = Path(__file__).with_name("metric.npz")
DIRECTIONS = (160, 64, 38, 96)
"""Principal directions kept of features, style, statistics and texture."""
RIDGE = 0.003
"""Added to the variance within kinds in each direction, as a share of its mean."""
FEWEST = 8
"""Images of a kind from which its variance is taken."""

Floats = NDArray[np.float64]
Views = Sequence[NDArray[np.generic]]


class Scatter(NamedTuple):
    """Sums over domains, each counting alike, of what the metric needs to know of one view, (N, d)."""

    mean: Floats
    """(d,)"""
    moment: Floats
    """(d, d) mean of the outer products of rows."""
    within: Floats
    """(d, d) covariance within a kind, the mean of all kinds; 0 for a domain of fewer than two."""
    domains: int
    varied: int
    """Domains of two kinds or more."""

    @classmethod
    def of(cls, view: NDArray[np.generic], kinds: NDArray[np.integer]) -> Scatter:
        """Of one domain: a ``view`` (N, d) whose rows are of the ``kinds`` (N,)."""
        x = np.asarray(view, np.float64)
        parts = [x[kinds == kind] for kind in np.unique(kinds) if (kinds == kind).sum() >= FEWEST]
        within = np.zeros((x.shape[1], x.shape[1]))
        if len(parts) > 1:
            centred = np.concatenate([(part - part.mean(0)) / np.sqrt(len(part) - 1) for part in parts])
            within = centred.T @ centred / len(parts)
        return cls(x.mean(0), x.T @ x / len(x), within, 1, int(len(parts) > 1))

    def plus(self, other: Scatter, times: int = 1) -> Scatter:
        """With the domains of ``other``; ``times=-1`` takes them away."""
        return Scatter(
            self.mean + times * other.mean,
            self.moment + times * other.moment,
            self.within + times * other.within,
            self.domains + times * other.domains,
            self.varied + times * other.varied,
        )


class Metric(NamedTuple):
    """One linear map for each view."""

    means: tuple[NDArray[np.float32], ...]
    """(d,) of each view."""
    axes: tuple[NDArray[np.float32], ...]
    """(d, k) of each view."""

    def __call__(self, views: Views) -> list[NDArray[np.float32]]:
        """(N, k) of each of the ``views``, (N, d); rows have unit length."""
        mapped = []
        for view, mean, axes in zip(views, self.means, self.axes, strict=True):
            mapped.append(unit_rows(np.asarray(view, np.float32) @ axes - mean @ axes))
        return mapped

    @classmethod
    def fit(cls, views: Sequence[Scatter]) -> Metric:
        """From the scatter of each view over many domains."""
        means, axes = [], []
        for view, k in zip(views, DIRECTIONS, strict=True):
            mean, d = view.mean / view.domains, len(view.mean)
            total = view.moment / view.domains - np.outer(mean, mean)
            basis = eigh(total, subset_by_index=(max(0, d - k), d - 1))[1][:, ::-1]
            variances, turn = np.linalg.eigh(basis.T @ (view.within / view.varied) @ basis)
            scale = np.sqrt(np.maximum(variances, 0) + RIDGE * variances.mean())
            means.append(mean.astype(np.float32))
            axes.append((basis @ turn / scale).astype(np.float32))
        return cls(tuple(means), tuple(axes))

    def save(self, path: Path) -> None:
        """In half precision, which moves no distance by a thousandth."""
        arrays: dict[str, Any] = {}
        for i, (mean, axes) in enumerate(zip(self.means, self.axes, strict=True)):
            scale = np.linalg.norm(axes, axis=0)  # apart, so that no column underflows
            arrays |= {f"mean {i}": mean.astype(np.float16), f"axes {i}": (axes / scale).astype(np.float16)}
            arrays[f"scale {i}"] = scale.astype(np.float32)
        np.savez_compressed(path, **arrays)

    @classmethod
    def load(cls, path: Path) -> Metric:
        """The inverse of `save`."""
        with np.load(path) as file:
            views = range(len(file.files) // 3)
            return cls(
                tuple(file[f"mean {i}"].astype(np.float32) for i in views),
                tuple(file[f"axes {i}"].astype(np.float32) * file[f"scale {i}"] for i in views),
            )


@cache
def learned_metric() -> Metric:
    """The metric that travels with the package, of features, style, statistics and texture."""
    return Metric.load(FILE)
