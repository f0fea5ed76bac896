"""The metrics on real features as modes are lost and as outliers come in, and their intervals."""

import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from sklearn.decomposition import PCA

from data.recipes import load
from rvqvae.errors import InputError
from rvqvae.features.pretrained import extract_features
from rvqvae.metrics import (
    bootstrap_interval,
    distances,
    frechet_contributions,
    frechet_distance,
    generation_estimates,
    generation_metrics,
    kernel_contributions,
    kernel_distance,
    mean_interval,
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


# Intervals


CONTRIBUTIONS = {
    frechet_distance: frechet_contributions,
    kernel_distance: kernel_contributions,
}
OPTIONS = {frechet_distance: {}, kernel_distance: {"subset_size": 300, "subsets": 1}}


@pytest.mark.parametrize("metric", CONTRIBUTIONS)
@pytest.mark.parametrize("mean", [0.3, 1.0])
def test_contributions_average_to_the_distance_and_give_the_bootstrap_interval(metric, mean):
    real, generated = gaussian(300), gaussian(300, mean=mean, scale=1.2, seed=1)
    options = OPTIONS[metric]
    contributions = CONTRIBUTIONS[metric](real, generated, **options)
    assert contributions.shape == (300,)
    assert contributions.mean() == pytest.approx(metric(real, generated, **options))
    low, high = mean_interval(contributions)
    slow = bootstrap_interval(lambda a, b: metric(a, b, **options), real, generated, n_resamples=150)
    assert low < contributions.mean() < high
    assert high - low == pytest.approx(slow[1] - slow[0], rel=0.3)


@pytest.mark.parametrize("metric", CONTRIBUTIONS)
@pytest.mark.parametrize(("mean", "n", "d"), [(0.0, 100, 8), (0.5, 100, 8), (0.2, 60, 80)])
def test_intervals_are_as_wide_as_the_values_of_new_draws_are_spread(metric, mean, n, d):
    real = gaussian(400, d)
    options = {"subset_size": n, "subsets": 4} if metric is kernel_distance else {}
    draws = [gaussian(n, d, mean, seed=s) for s in range(1, 31)]
    values = [metric(real, draw, **options) for draw in draws]
    errors = [CONTRIBUTIONS[metric](real, draw, **options).std() / np.sqrt(n) for draw in draws[:10]]
    assert 0.7 * np.std(values) < np.mean(errors) < 2 * np.std(values)


def test_contributions_point_at_the_images_that_do_not_belong():
    real = gaussian(200)
    generated = np.concatenate([gaussian(190, seed=1), gaussian(10, mean=4, seed=2)])
    for contributions in (
        frechet_contributions(real, generated),
        kernel_contributions(real, generated, subset_size=100),
    ):
        assert set(np.argsort(contributions)[-10:]) == set(range(190, 200))


@pytest.mark.parametrize("n", [6, 7, 200])
def test_estimates_hold_the_metrics_and_grow_narrower(n):
    real, generated = gaussian(300), gaussian(n, mean=0.3, seed=1)
    found = generation_estimates(real, generated, k=3, n_resamples=200)
    values = [estimate.value for estimate in found]
    np.testing.assert_allclose(values, generation_metrics(real, generated, k=3), rtol=1e-6, atol=1e-12)
    assert all(low <= value <= high for value, low, high in found)
    assert found == generation_estimates(real, generated, k=3, n_resamples=200)
    assert found != generation_estimates(real, generated, k=3, n_resamples=200, random_state=1)
    narrow = generation_estimates(real, generated, k=3, n_resamples=200, level=0.5)
    assert all(a.high - a.low >= b.high - b.low for a, b in zip(found, narrow, strict=True))


def test_estimates_refuse_what_the_metrics_refuse():
    with pytest.raises(InputError, match="5 or more are needed"):
        generation_estimates(gaussian(9), gaussian(4), k=4)
    with pytest.raises(InputError, match="level=2"):
        generation_estimates(gaussian(9), gaussian(9), k=3, level=2)


# Size and precision


def test_no_metric_copies_the_features(monkeypatch):
    monkeypatch.setattr(distances, "_BLOCK", 512)
    real, generated = gaussian(3000, 256), gaussian(3000, 256, seed=1)
    size = real.nbytes
    for metric in (
        frechet_contributions,
        kernel_contributions,
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
    assert frechet_contributions(*moved).std() == pytest.approx(
        frechet_contributions(real, generated).std(), rel=1e-4
    )
