"""The metrics on real features as modes are lost and as outliers come in."""

import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from sklearn.decomposition import PCA

from data.recipes import load
from rvqvae.features.pretrained import extract_features
from rvqvae.metrics import (
    distances,
    frechet_distance,
    generation_metrics,
    kernel_distance,
    precision_recall_density_coverage,
)

SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
CLASSES = (10, 8, 6, 4, 2, 1)
N = 250


@pytest.fixture(scope="module")
def digits():
    """Principal features of digits: reference, pool and its classes; and of clothes."""
    images, labels = load("mnist")
    clothes, _ = load("fashion_mnist")
    features = extract_features(np.concatenate([images[:1600], clothes[:150]])[:, None])
    features = PCA(64, random_state=0).fit_transform(features)
    return features[:500], features[500:1600], labels[500:1600], features[1600:]


def gaussian(n, d=8, mean=0.0, scale=1.0, seed=0):
    return np.random.default_rng(seed).normal(mean, scale, (n, d)).astype(np.float32)


# Sweeps


def test_lost_classes_cost_coverage_and_recall_but_no_precision(digits):
    reference, pool, labels, _ = digits
    sweep = []
    for c in CLASSES:
        kept = np.flatnonzero(labels < c)
        rows = kept[np.linspace(0, len(kept) - 1, min(N, len(kept))).astype(int)]
        sweep.append(generation_metrics(reference, pool[rows]))
    for name in ("coverage", "recall"):
        values = [getattr(found, name) for found in sweep]
        assert values == sorted(values, reverse=True) and values[-1] < 0.5 * values[0]
    assert sweep[-1].frechet_distance > 3 * sweep[0].frechet_distance
    assert sweep[-1].kernel_distance > 10 * abs(sweep[0].kernel_distance)
    precision = [found.precision for found in sweep]
    assert min(precision) > precision[0] - 0.03


def test_outliers_cost_precision_in_proportion_but_little_coverage(digits):
    reference, pool, _, clothes = digits
    sweep = []
    for share in SHARES:
        m = round(N * share)
        sweep.append(generation_metrics(reference, np.concatenate([pool[: N - m], clothes[:m]])))
    precision = np.array([found.precision for found in sweep])
    slope, start = np.polyfit(SHARES, precision, 1)
    assert np.abs(precision - start - slope * np.array(SHARES)).max() < 0.02
    assert slope == pytest.approx(-start, rel=0.1)  # to 0 where all are outliers
    assert sweep[-1].coverage > 0.7 * sweep[0].coverage
    assert all(a.frechet_distance < b.frechet_distance and a.density > b.density for a, b in pairwise(sweep))


# Size and precision


def test_no_metric_copies_the_features(monkeypatch):
    monkeypatch.setattr(distances, "_BLOCK", 512)
    real, generated = gaussian(3000, 256), gaussian(3000, 256, seed=1)
    size = real.nbytes
    for metric in (
        frechet_distance,
        kernel_distance,
        lambda a, b: precision_recall_density_coverage(a, b, block_mib=2),
    ):
        tracemalloc.start()
        metric(real, generated)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 4 * size  # two copies in float64 alone are as much


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_single_precision_and_an_offset_change_nothing(dtype):
    real, generated = gaussian(300), gaussian(280, mean=0.3, seed=1)
    expected = generation_metrics(real.astype(np.float64), generated.astype(np.float64))
    assert generation_metrics(real.astype(dtype), generated) == pytest.approx(expected, rel=1e-5)
    moved = real.astype(np.float64) + 1e6, generated.astype(np.float64) + 1e6
    assert frechet_distance(*moved) == pytest.approx(expected.frechet_distance, rel=1e-5)
