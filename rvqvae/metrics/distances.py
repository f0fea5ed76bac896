"""Distances between two sets of features, by torchmetrics.

Rows are read in blocks, so that memory beyond the two matrices does not grow with their length.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import poly_mmd

from rvqvae.errors import check_whole
from rvqvae.metrics.checks import check_features

_BLOCK = 4096
"""Rows that are converted to float64 at a time."""


def frechet_distance(real: np.ndarray, generated: np.ndarray) -> float:
    """FD (features) between (N, d) and (M, d), in float64 (Heusel et al. 2017, eq. 6). Lower is better.

    It is biased upwards by small sets, most of all where N or M < d: compare equal sizes only.
    """
    real, generated = check_features(real, generated, at_least=2)
    metric = FrechetInceptionDistance(feature=_Identity(real.shape[1]))
    # The distance does not change, and squares of a common offset would cost digits.
    offset = real.mean(0, dtype=np.float64)
    for features, is_real in ((real, True), (generated, False)):
        for block in _blocks(features):
            metric.update(torch.from_numpy(block - offset), real=is_real)
    return max(0.0, float(metric.compute()))  # rounding leaves about -1e-12 for equal sets


def kernel_distance(
    real: np.ndarray,
    generated: np.ndarray,
    *,
    subsets: int = 50,
    subset_size: int = 500,
    random_state: int = 0,
) -> float:
    """KD (features) between (N, d) and (M, d), in float64 (Binkowski et al. 2018, eq. 4). Lower is better.

    Unbiased squared MMD with the kernel (x'y / d + 1)^3, averaged over random subsets; it may be
    slightly negative for sets from one distribution. With the same seed, torch-fidelity draws the same.
    """
    check_whole("subsets", subsets)
    check_whole("subset_size", subset_size, 2)
    real, generated = check_features(real, generated, at_least=subset_size)
    rng = np.random.RandomState(random_state)
    values = []
    for _ in range(subsets):
        x, y = (_sample(features, subset_size, rng) for features in (real, generated))
        values.append(float(poly_mmd(x, y)))
    return float(np.mean(values))


def _blocks(features: np.ndarray) -> Iterator[NDArray[np.float64]]:
    for start in range(0, len(features), _BLOCK):
        yield features[start : start + _BLOCK].astype(np.float64)


def _sample(features: np.ndarray, n: int, rng: np.random.RandomState) -> torch.Tensor:
    """``n`` different rows, float64."""
    return torch.from_numpy(features[rng.choice(len(features), n, replace=False)].astype(np.float64))


class _Identity(nn.Identity):
    """Feature network for features that have been extracted already."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features
