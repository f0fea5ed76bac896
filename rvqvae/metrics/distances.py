"""Distances between two sets of features, by torchmetrics with an identity in place of InceptionV3."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from torch import nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from rvqvae.errors import InputError
from rvqvae.metrics.checks import check_features


def frechet_distance(real: np.ndarray, generated: np.ndarray) -> float:
    """FD (features) between (N, d) and (M, d), in float64 (Heusel et al. 2017, eq. 6). Lower is better.

    It is biased upwards by small sets, most of all where N or M < d: compare equal sizes only.
    """
    real, generated = check_features(real, generated, at_least=2)
    metric = FrechetInceptionDistance(feature=_Identity(real.shape[1]))
    metric.update(torch.tensor(real), real=True)
    metric.update(torch.tensor(generated), real=False)
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
    slightly negative for sets from one distribution.
    """
    if subsets < 1:
        raise InputError(f"subsets={subsets} is out of range: it must be >= 1")
    if subset_size < 2:
        raise InputError(f"subset_size={subset_size} is out of range: it must be >= 2")
    real, generated = check_features(real, generated, at_least=subset_size)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*will save all extracted features")
        metric = KernelInceptionDistance(
            feature=_Identity(real.shape[1]), subsets=subsets, subset_size=subset_size
        )
    metric.update(torch.tensor(real), real=True)
    metric.update(torch.tensor(generated), real=False)
    with torch.random.fork_rng(devices=[]):  # torchmetrics draws its subsets from the global generator
        torch.manual_seed(random_state)
        return float(metric.compute()[0])


class _Identity(nn.Identity):
    """Feature network for features that have been extracted already."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features
