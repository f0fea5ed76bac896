import importlib
import tracemalloc

import numpy as np
import pytest
import scipy.linalg

from rvqvae.errors import InputError
from rvqvae.metrics import (
    InlierClassifier,
    frechet_distance,
    kernel_distance,
    precision_recall_density_coverage,
    purity,
)


def gaussian(n, d=6, mean=0.0, scale=1.0, seed=0):
    return np.random.default_rng(seed).normal(mean, scale, (n, d)).astype(np.float32)


# Slow and obvious twins


def frechet_twin(a, b):
    covariance_a, covariance_b = np.cov(a.T.astype(float)), np.cov(b.T.astype(float))
    root = scipy.linalg.sqrtm(covariance_a @ covariance_b).real
    shift = a.mean(0, dtype=float) - b.mean(0, dtype=float)
    return shift @ shift + np.trace(covariance_a + covariance_b - 2 * root)


def kernel_twin(x, y):
    def k(u, v):
        return (u.astype(float) @ v.astype(float) / len(u) + 1) ** 3

    within_x = np.mean([k(u, v) for i, u in enumerate(x) for j, v in enumerate(x) if i != j])
    within_y = np.mean([k(u, v) for i, u in enumerate(y) for j, v in enumerate(y) if i != j])
    return within_x + within_y - 2 * np.mean([k(u, v) for u in x for v in y])


def prdc_twin(real, generated, k):
    def distance(u, v):
        return np.linalg.norm(u.astype(float) - v)

    def radius(x, i):
        return sorted(distance(x[i], x[j]) for j in range(len(x)) if j != i)[k - 1]

    real_radius = [radius(real, i) for i in range(len(real))]
    generated_radius = [radius(generated, j) for j in range(len(generated))]
    precise, density, recalled, covered = [], [], [], []
    for g in generated:
        balls = sum(distance(r, g) < real_radius[i] for i, r in enumerate(real))
        precise.append(balls > 0)
        density.append(balls / k)
    for i, r in enumerate(real):
        covered.append(any(distance(r, g) < real_radius[i] for g in generated))
        recalled.append(any(distance(r, g) < generated_radius[j] for j, g in enumerate(generated)))
    return np.mean(precise), np.mean(recalled), np.mean(density), np.mean(covered)


# Distances


@pytest.mark.parametrize("n", [200, 7])
def test_frechet_equals_the_formula(n):
    a, b = gaussian(n), gaussian(n + 3, mean=0.5, scale=1.5, seed=1)
    assert frechet_distance(a, b) == pytest.approx(frechet_twin(a, b), rel=1e-6)


def test_frechet_of_known_gaussians():
    a, b = gaussian(200_000, d=2), gaussian(200_000, d=2, mean=3, scale=2, seed=1)
    assert frechet_distance(a, b) == pytest.approx(2 * 3**2 + 2 * (2 - 1) ** 2, rel=0.02)


def test_frechet_is_symmetric_and_zero_to_itself():
    a, b = gaussian(100), gaussian(80, mean=1, seed=1)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a))
    assert 0 <= frechet_distance(a, a) < 1e-6
    assert 0 <= frechet_distance(a[:5], a[:5]) < 1e-3  # fewer rows than features


def test_kernel_distance_equals_the_formula():
    a, b = gaussian(12), gaussian(12, mean=1, seed=1)
    assert kernel_distance(a, b, subsets=1, subset_size=12) == pytest.approx(kernel_twin(a, b))


def test_kernel_distance_leaves_the_global_generator_alone():
    import torch

    a, b = gaussian(60), gaussian(60, mean=1, seed=1)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    options = {"subsets": 3, "subset_size": 20}
    values = [kernel_distance(a, b, **options, random_state=seed) for seed in (0, 0, 1)]
    assert values[0] == values[1] != values[2]
    assert torch.equal(before, torch.get_rng_state())


def test_distances_grow_with_contamination():
    clean, other = gaussian(400, seed=1), gaussian(400, mean=4, seed=2)
    mixes = [np.concatenate([gaussian(400, seed=3)[m:], other[:m]]) for m in (0, 40, 120, 400)]
    for metric in (frechet_distance, lambda a, b: kernel_distance(a, b, subsets=5, subset_size=200)):
        values = [metric(clean, mix) for mix in mixes]
        assert values == sorted(values) and values[-1] > 5 * abs(values[0])


# Precision, recall, density, coverage


@pytest.mark.parametrize("k", [1, 3, 5])
def test_prdc_equals_the_double_loop(k):
    real, generated = gaussian(40), gaussian(31, mean=0.7, seed=1)
    assert precision_recall_density_coverage(real, generated, k) == pytest.approx(
        prdc_twin(real, generated, k)
    )


def test_prdc_of_a_set_with_itself_is_one():
    real = gaussian(300, d=40)
    for block_mib in (1, 256):
        assert precision_recall_density_coverage(real, real.copy(), block_mib=block_mib) == (1, 1, 1, 1)


def test_prdc_ignores_order_and_block_size():
    real, generated = gaussian(700), gaussian(600, mean=0.5, seed=1)
    expected = precision_recall_density_coverage(real, generated)
    rng = np.random.default_rng(0)
    shuffled = precision_recall_density_coverage(rng.permutation(real), rng.permutation(generated))
    small = precision_recall_density_coverage(real, generated, block_mib=1)  # 187 rows a block
    assert shuffled == pytest.approx(expected) and small == pytest.approx(expected)


def test_prdc_holds_a_few_blocks_only():
    real, generated = gaussian(3000), gaussian(3000, seed=1)
    tracemalloc.start()
    precision_recall_density_coverage(real, generated, block_mib=2)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12 * 2**20  # the whole matrix of distances has 69 MiB


def test_mode_collapse_is_precise_but_recalls_little():
    modes = np.concatenate([gaussian(100, mean=m, seed=m) for m in (0, 20, 40, 60)])
    collapsed = gaussian(400, mean=0, scale=0.5, seed=9)
    result = precision_recall_density_coverage(modes, collapsed)
    assert result.precision > 0.95
    assert result.recall < 0.3 and result.coverage < 0.3


def test_precision_falls_with_contamination():
    real, other = gaussian(300), gaussian(300, mean=15, seed=2)
    for share in (0, 0.1, 0.3, 1):
        m = int(300 * share)
        mix = np.concatenate([gaussian(300, seed=1)[m:], other[:m]])
        clean_part = precision_recall_density_coverage(real, gaussian(300, seed=1)[m:] if m < 280 else real)
        result = precision_recall_density_coverage(real, mix)
        assert result.precision == pytest.approx((1 - share) * clean_part.precision, abs=0.01)


def test_prdc_with_one_row_more_than_k():
    real, generated = gaussian(4), gaussian(4, mean=0.1, seed=1)
    assert precision_recall_density_coverage(real, generated, 3) == pytest.approx(
        prdc_twin(real, generated, 3)
    )
    with pytest.raises(InputError, match="5 or more are needed"):
        precision_recall_density_coverage(real, gaussian(9), 4)


def test_prdc_equals_the_authors_code():
    prdc = pytest.importorskip("prdc")
    real, generated = gaussian(200), gaussian(150, mean=0.5, seed=1)
    theirs = prdc.compute_prdc(real, generated, nearest_k=5)
    assert precision_recall_density_coverage(real, generated)._asdict() == pytest.approx(theirs, abs=1e-4)


def test_distances_equal_torch_fidelity():
    pytest.importorskip("torch_fidelity")
    import torch

    fid = importlib.import_module("torch_fidelity.metric_fid")
    kid = importlib.import_module("torch_fidelity.metric_kid")
    a, b = gaussian(200), gaussian(150, mean=0.5, seed=1)
    tensors = [torch.tensor(x, dtype=torch.float64) for x in (a, b)]
    statistics = [fid.fid_features_to_statistics(x) for x in tensors]
    theirs = fid.fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
    assert frechet_distance(a, b) == pytest.approx(theirs, rel=1e-4)
    options = {"kid_subsets": 4, "kid_subset_size": 60, "rng_seed": 7, "verbose": False}
    theirs = kid.kid_features_to_metric(*tensors, **options)["kernel_inception_distance_mean"]
    ours = kernel_distance(a, b, subsets=4, subset_size=60, random_state=7)
    assert ours == pytest.approx(theirs, rel=1e-4)


def test_precision_and_recall_equal_torch_fidelity():
    pytest.importorskip("torch_fidelity")
    import torch

    prc = importlib.import_module("torch_fidelity.metric_prc")
    real, generated = gaussian(200), gaussian(150, mean=0.5, seed=1)
    theirs = prc.calculate_precision_recall_full(torch.tensor(generated), torch.tensor(real), 5)
    ours = precision_recall_density_coverage(real, generated, 5)
    assert (ours.precision, ours.recall) == pytest.approx(theirs, abs=1e-4)


# Bad input

FINE = gaussian(20)
BROKEN = np.where(np.arange(20)[:, None] == 3, np.nan, FINE)


@pytest.mark.parametrize(
    "metric",
    [
        frechet_distance,
        precision_recall_density_coverage,
        lambda a, b: kernel_distance(a, b, subset_size=9),
    ],
)
@pytest.mark.parametrize(
    ("real", "generated", "message"),
    [
        (FINE, gaussian(20, d=5), "6 features and generated 5"),
        (FINE, BROKEN, "generated has 1 rows with NaN"),
        (BROKEN, FINE, "real has 1 rows with NaN"),
        (FINE, FINE[:1], "generated has 1 rows"),
        (FINE[0], FINE, "matrix"),
    ],
)
def test_bad_features(metric, real, generated, message):
    with pytest.raises(InputError, match=message):
        metric(real, generated)


def test_bad_options():
    with pytest.raises(InputError, match="k=0"):
        precision_recall_density_coverage(FINE, FINE, 0)
    with pytest.raises(InputError, match="subset_size=1"):
        kernel_distance(FINE, FINE, subset_size=1)
    with pytest.raises(InputError, match="subsets=0"):
        kernel_distance(FINE, FINE, subsets=0)


# Purity


def bars(n, axis, seed, channels=1):
    """Thin bright bars, horizontal (axis 2) or vertical (axis 3), on faint noise."""
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 60, (n, channels, 28, 28), dtype=np.uint8)
    for image, place in zip(x, rng.integers(4, 24, n), strict=True):
        np.moveaxis(image, axis - 1, 0)[place : place + 2] = 220
    return x


@pytest.fixture(scope="module")
def judge():
    return InlierClassifier.fit(bars(300, 2, 0), bars(200, 3, 1), steps=80)


def test_judge_tells_the_classes_apart(judge):
    assert judge.test(bars(200, 2, 2), bars(200, 3, 3)) < 0.01
    assert judge.error < 0.01


def test_purity_is_the_share_of_inliers(judge):
    samples = np.concatenate([bars(70, 2, 4), bars(30, 3, 5)])
    assert purity(judge, samples) == pytest.approx(0.7, abs=0.02)
    assert judge.predict_inlier(samples).dtype == bool
    np.testing.assert_array_equal(judge.predict_inlier(samples)[:1], judge.predict_inlier(samples[:1]))


def test_judge_repeats_by_seed(judge):
    import torch

    torch.manual_seed(5)
    again = InlierClassifier.fit(bars(300, 2, 0), bars(200, 3, 1), steps=80)
    seen = bars(20, 2, 6)
    assert np.array_equal(judge.classifier.probabilities(seen), again.classifier.probabilities(seen))


def test_judge_refuses_bad_images(judge):
    with pytest.raises(InputError, match="3 channels"):
        judge.predict_inlier(bars(2, 2, 0, channels=3))
    with pytest.raises(InputError, match="uint8"):
        judge.predict_inlier(bars(2, 2, 0) / 255)
    with pytest.raises(InputError, match="steps=0"):
        InlierClassifier.fit(bars(2, 2, 0), bars(2, 3, 0), steps=0)
    with pytest.raises(InputError, match="1 and 3 channels"):
        InlierClassifier.fit(bars(2, 2, 0), bars(2, 2, 0, channels=3))
