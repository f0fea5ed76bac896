"""Groups beside the majority's one mode: a valley of density lies between them.

Ours, after projection pursuit for clusters (Fukunaga 1990; Hennig 2004). Outliers that are drawn like the
inliers (other digits among fours) still form modes of their own. The data fall into many small groups; for
each pair, its samples are projected on the direction that separates the two (linear discriminant, out of
fold), and the depth of the valley between them is taken: halves of one mode have none. Single linkage over
the valleys parts what lies beside the majority from the majority. That says something only if the majority is
one mode: in a set of ten equal classes every class lies beside the others, and no rule can tell.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.covariance import ledoit_wolf

from rvqvae.membership.groups import Vector, cluster, members, part_from_majority

SMALLEST = 10
"""A group with fewer samples shows no valley."""
FEWEST = 800
"""Samples below which equal classes may pass for one mode (digits, inside: 500 .40, 720 .50, 1,000 .58)."""
PER_GROUP = 50
GROUPS = 24
REPEATS = 24
"""One clustering's depth inside the majority strays by .10 (standard deviation): the mean of these by .02."""
FOLDS = 4
SHOWN = 200
"""Samples of a group that its density is estimated from, and GRID points between two groups."""
GRID = 15
SMOOTHING = 1.3
"""Factor on Silverman's bandwidth: with 1.0, 5 of 20 clean classes fall apart instead of 1."""
WHOLE, AT, PER_DOUBLING = 0.38, 2000, 0.08
"""Valleys inside the majority, in nats, above which it is not one mode; of how many samples; and how much
less for half as many, in which valleys look shallower.

Means of 36 clusterings at 2,000 images: digit 4 among others .34 and .36, T-shirts among others .30,
clothes in random hues .42 and .48 (with .40 and 12 clusterings, a third of them were once dropped); clean
MNIST .58 to .72, Fashion-MNIST .49 to .85. The ranges touch: tops are half of Fashion-MNIST and nearly one
mode, with shoes beside them. So the limit is on the safe side, as a clean set must stay whole. Up to 60
groups instead of 24 find rarer outliers (digit 4 at .1: 86 % rather than none) but bring the clean sets
below the near pairs (.37 to .52 against .26 to .43).

All ten digits, a little turned and shifted: .34 and .35 of 900, .34 to .41 of 1,085, .34 to .42 of 1,355,
.41 and .46 of 1,800; the near pairs at 1,000 .24 to .28, at 1,300 .26 to .29. With .38 for all sizes up to a
quarter of such digits were dropped.
"""
PARTED = 0.58
"""Above this depth it is several modes for certain; between the two nobody can tell, and the rate stays open.

Digit 4 at rate .45 (seed 1) and T-shirts at .3 lie between, as do 6 of 30 draws of the clean sets.
"""


def one_mode(inside: float, n: int) -> bool:
    """Whether ``n`` samples with valleys of depth ``inside`` among them are one mode."""
    return inside <= WHOLE - PER_DOUBLING * max(0.0, float(np.log2(AT / n)))


class Modes(NamedTuple):
    """The groups of every clustering and the valley between each and the majority."""

    centroids: NDArray[np.float32]
    """(REPEATS, K, d)."""
    valleys: NDArray[np.float64]
    """(REPEATS, K), nats."""
    inside: float
    """Mean depth of the valley at which the majority itself falls apart, nats."""

    @classmethod
    def fit(cls, z: NDArray[np.float32], seed: int) -> Modes:
        """From training samples ``z`` (N, d)."""
        found = [_clustering(z, seed + 1000 * i) for i in range(REPEATS)]
        centroids, valleys, inside = zip(*found, strict=True)
        return cls(np.stack(centroids), np.stack(valleys), float(np.mean(inside)))

    def __call__(self, z: NDArray[np.float32]) -> Vector:
        """(N,) mean depth of the valley between each row of ``z`` (N, d) and the majority, nats."""
        depth = np.zeros(len(z))
        for centroids, valleys in zip(self.centroids, self.valleys, strict=True):
            nearest = np.argmin(np.square(centroids).sum(1) - 2 * z @ centroids.T, axis=1)
            depth += valleys[nearest]
        return depth / len(self.centroids)


def _clustering(z: NDArray[np.float32], seed: int) -> tuple[NDArray[np.float32], Vector, float]:
    k = int(np.clip(len(z) // PER_GROUP, 2, GROUPS))
    labels, centroids = cluster(z, k, seed)
    kept, rows = members(labels, k, SMALLEST)
    if len(kept) < 2:
        return centroids, np.zeros(k), 0.0
    mass = np.array([len(r) for r in rows])
    heights, inside = part_from_majority(valley_gap(z, rows, seed), mass, len(z))
    # Groups too small to be judged are taken for the nearest judged one.
    nearest = np.argmin(np.square(centroids[:, None] - centroids[kept]).sum(2), axis=1)
    return centroids, np.maximum(heights, inside)[nearest], inside


def valley_gap(z: NDArray[np.float32], rows: list[NDArray[np.int64]], seed: int) -> Vector:
    """(G, G) depth of the valley between each two groups of rows of ``z``, nats; 0 = none."""
    rng = np.random.default_rng(seed)
    rows = [rng.permutation(r) for r in rows]
    # The r-th sample of its group is left out of fold r mod FOLDS: each group is in every fold.
    fold = [np.arange(len(r)) % FOLDS for r in rows]
    side = [np.empty((len(r), len(rows))) for r in rows]
    for f in range(FOLDS):
        means = np.stack([z[r[own != f]].mean(0) for r, own in zip(rows, fold, strict=True)])
        inside = [z[r[own != f]] - mean for r, own, mean in zip(rows, fold, means, strict=True)]
        within = ledoit_wolf(np.concatenate(inside), assume_centered=True)[0]
        directions = np.linalg.lstsq(within, means.T, rcond=None)[0]
        bias = 0.5 * np.einsum("gd,dg->g", means, directions)
        for r, own, s in zip(rows, fold, side, strict=True):
            s[own == f] = z[r[own == f]] @ directions - bias
    gap = np.zeros((len(rows), len(rows)))
    for i in range(len(rows)):
        for j in range(i):
            a, b = (s[:SHOWN, i] - s[:SHOWN, j] for s in (side[j], side[i]))
            gap[i, j] = gap[j, i] = valley_depth(a, b)
    return gap


def valley_depth(a: Vector, b: Vector) -> float:
    """Log ratio of the lower of two peaks to the valley between ``a`` and ``b``, as if of equal mass."""
    low, high = np.median(a), np.median(b)
    if high <= low:
        return 0.0
    grid = np.linspace(low, high, GRID)
    density = _density(a, grid, high - low) + _density(b, grid, high - low)
    valley = 1 + int(np.argmin(density[1:-1]))
    peak = min(density[:valley].max(), density[valley + 1 :].max())
    return max(0.0, float(np.log((peak + 1e-12) / (density[valley] + 1e-12))))


def _density(x: Vector, grid: Vector, distance: float) -> Vector:
    quarter, three = np.percentile(x, [25, 75])
    spread = 1.06 * min(x.std(), (three - quarter) / 1.34) * len(x) ** -0.2
    width = SMOOTHING * max(spread, 0.1 * distance)
    return np.asarray(np.exp(-0.5 * np.square((grid[:, None] - x) / width)).mean(1) / width)
