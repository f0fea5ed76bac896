"""Precision, recall, density and coverage of generated images, by neighbourhoods of features.

Precision and recall: Kynkäänniemi et al. 2019, eqs. 1-3. Density and coverage: Naeem et al. 2020,
eqs. 4-5. A ball B(x, r) is the neighbourhood of x that reaches to its k-th nearest neighbour, itself
excluded. As in Naeem et al.'s code, a point on its surface is outside.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from sklearn.metrics import pairwise_distances_chunked

from rvqvae.errors import check_whole
from rvqvae.metrics.checks import check_features

# Ours: without it, rounding would decide about copies of real images, whose neighbours lie on surfaces.
_INSIDE = 1 - 1e-6


class PRDC(NamedTuple):
    """All in [0, 1] but density, which is about 1 for equal distributions."""

    precision: float
    """Share of the generated images that lie in a ball of a real one."""
    recall: float
    """Share of the real images that lie in a ball of a generated one."""
    density: float
    """Mean number of real balls around a generated image, over k."""
    coverage: float
    """Share of the real images whose ball holds a generated one."""


def precision_recall_density_coverage(
    real: np.ndarray, generated: np.ndarray, k: int = 5, *, block_mib: int = 256
) -> PRDC:
    """PRDC of generated (M, d) against real (N, d) features; distances in blocks of ``block_mib`` MiB.

    Memory beyond the two matrices is a few blocks. Raises InputError unless
    1 <= k < min(N, M), both have d columns and everything is finite.
    """
    check_whole("k", k)
    real, generated = check_features(real, generated, at_least=k + 1)
    real_radius = _radii(real, k, block_mib) * _INSIDE
    generated_radius = _radii(generated, k, block_mib) * _INSIDE
    balls = np.zeros(len(generated), dtype=np.int64)  # real balls around each generated image
    recall, coverage = [], []
    start = 0
    for block in pairwise_distances_chunked(real, generated, working_memory=block_mib):
        inside = block < real_radius[start : start + len(block), None]
        balls += inside.sum(axis=0)
        coverage.append(inside.any(axis=1))
        recall.append((block < generated_radius).any(axis=1))
        start += len(block)
    recalled, covered = np.concatenate(recall).mean(), np.concatenate(coverage).mean()
    return PRDC(float((balls > 0).mean()), float(recalled), float((balls / k).mean()), float(covered))


def _radii(features: np.ndarray, k: int, block_mib: int) -> np.ndarray:
    """(N,) distance of each row to its k-th nearest other row."""

    def kth(block: np.ndarray, start: int) -> np.ndarray:
        block.partition(k, axis=1)  # the row itself is among them, at exactly 0
        return block[:, k].copy()  # a view would keep the whole block alive

    return np.concatenate(
        list(pairwise_distances_chunked(features, reduce_func=kth, working_memory=block_mib))
    )
