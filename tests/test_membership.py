"""The rules that decide who is an inlier, on generated data and on the committed samples."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from data.recipes import load
from pipelines.benchmark_scaling import moved
from rvqvae.contamination import contaminate
from rvqvae.errors import InputError
from rvqvae.features.pretrained import extract_views
from rvqvae.membership import Competition, Evidence, JointView, Membership, literal_split, update, warm_start
from rvqvae.membership.ellipsoid import ellipsoid_distance, majority_depth
from rvqvae.membership.groups import part_from_majority
from rvqvae.membership.literal import _otsu
from rvqvae.membership.modes import Modes, valley_depth, valley_gap
from rvqvae.membership.patches import LINK, brightness, foreignness, patch_gap
from rvqvae.membership.types import cut_at
from rvqvae.membership.update import AUTHORITY, likelihood_ratio


@pytest.fixture(scope="module")
def mixed():
    """900 digits and clothes, 20 % clothes: images, truth, views."""
    digits, clothes = (load(name)[0][:, None] for name in ("mnist", "fashion_mnist"))
    made = contaminate(digits, clothes, 0.2, 0, total=900)
    return made.images, made.is_outlier, extract_views(made.images)


def gaussian(n_in: int, n_out: int, seed: int = 0, shift: float = 8.0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n_in + n_out, 6))
    x[n_in:, 0] += shift
    return x, np.r_[np.zeros(n_in, bool), np.ones(n_out, bool)]


# literal -----------------------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=40))
def test_otsu_equals_its_slow_twin(values):
    ordered = np.sort(np.array(values))

    def within(i: int) -> float:
        return float(ordered[:i].var() * i + ordered[i:].var() * (len(ordered) - i))

    best = min(within(i) for i in range(1, len(ordered)))
    cut = _otsu(ordered)
    low = int((ordered < cut).sum()) if ordered[0] < cut else 1
    assert within(max(low, 1)) <= best + 1e-6 * (1 + best)


def test_literal_split_by_two_means_or_by_rate():
    error = np.r_[np.full(70, 1.0), np.full(30, 5.0)] + np.arange(100) / 1e3
    assert literal_split(error).is_outlier.sum() == 30
    assert literal_split(error, 0.1).is_outlier.sum() == 10
    assert np.array_equal(np.argsort(literal_split(error).score), np.argsort(-error))


# ellipsoid ---------------------------------------------------------------------------------------------


def test_depth_equals_its_slow_twin():
    z = np.random.default_rng(0).normal(size=(40, 3))
    twin = [sorted(np.linalg.norm(z - row, axis=1))[20] for row in z]
    np.testing.assert_allclose(majority_depth(z, 0), twin)


@pytest.mark.parametrize("n_out", [20, 120, 170])
def test_no_tight_cluster_below_half_looks_central(n_out):
    rng = np.random.default_rng(1)
    z = np.r_[rng.normal(size=(200, 4)), rng.normal(size=(n_out, 4)) * 0.01 + 6]
    truth = np.arange(len(z)) >= 200
    assert roc_auc_score(truth, ellipsoid_distance(z, np.ones(len(z), bool), 0)) > 0.99


def test_the_core_is_drawn_from_the_allowed_rows_only():
    x, truth = gaussian(100, 120)
    assert roc_auc_score(truth, ellipsoid_distance(x, ~truth, 0)) > 0.99
    assert roc_auc_score(truth, ellipsoid_distance(x, np.ones(220, bool), 0)) < 0.5, (
        "outliers are the majority"
    )


# groups ------------------------------------------------------------------------------------------------


def test_affinity_is_small_within_and_large_between_sources(mixed):
    images, truth, _ = mixed
    inside, outside = np.flatnonzero(~truth), np.flatnonzero(truth)
    affinity = patch_gap(images, [inside[::2], inside[1::2], outside[::2], outside[1::2]], 0)
    np.testing.assert_array_equal(affinity, affinity.T)
    assert np.all(affinity.diagonal() == 0)
    assert max(affinity[0, 1], affinity[2, 3]) < 0.08 < LINK < affinity[:2, 2:].min()


def test_foreign_groups_are_found_and_clean_sets_stay_whole(mixed):
    images, truth, views = mixed
    gap = foreignness(images, JointView.fit(views)(views), 0)
    assert (gap[truth] > 1).mean() > 0.9 and (gap[~truth] > 1).mean() < 0.02
    digits = load("mnist")[0][::5, None]
    seen = extract_views(digits)
    assert (foreignness(digits, JointView.fit(seen)(seen), 0) > 1).sum() == 0


# warm start --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inlier, outlier", [("mnist", "fashion_mnist"), ("fashion_mnist", "mnist")])
@pytest.mark.parametrize("rate", [0.1, 0.4])
def test_both_directions_without_a_rate(inlier, outlier, rate):
    pools = [load(name)[0][:, None] for name in (inlier, outlier)]
    made = contaminate(*pools, rate, 1, total=1500)
    start = warm_start(extract_views(made.images), images=made.images, seed=1).membership
    assert roc_auc_score(made.is_outlier, -start.score) > 0.98
    assert abs(start.is_outlier.mean() - rate) < 0.03


def test_digits_turned_and_shifted_stay_whole():
    """Blurred classes leave shallow valleys, and few samples show them shallower still."""
    rng = np.random.default_rng(0)
    images = np.concatenate(
        [load("mnist")[0][rng.permutation(5000)[:900]], load("fashion_mnist")[0][rng.permutation(2500)[:100]]]
    )
    images = moved(images, rng)[:, None]
    outliers = warm_start(extract_views(images), images=images, seed=0).membership.is_outlier
    assert outliers[:900].mean() < 0.02 and outliers[900:].mean() > 0.8


def test_noise_is_foreign():
    digits = load("mnist")[0][:, None]
    noise = np.random.default_rng(0).integers(0, 256, (400, 1, 28, 28), dtype=np.uint8)
    made = contaminate(digits, noise, 0.3, 0, total=1000)
    start = warm_start(extract_views(made.images), images=made.images).membership
    assert np.array_equal(start.is_outlier, made.is_outlier)


def test_a_given_rate_is_met_exactly_and_changes_the_sets(mixed):
    images, _, views = mixed
    for rate in (0.0, 0.05, 0.35):
        start = warm_start(views, images=images, contamination=rate).membership
        assert start.is_outlier.sum() == round(rate * len(images))
        assert not rate or start.score[start.is_outlier].max() <= start.score[~start.is_outlier].min()


def test_vectors_need_no_images():
    x, truth = gaussian(300, 60)
    start = warm_start([x]).membership
    assert roc_auc_score(truth, -start.score) > 0.99
    assert len(np.unique(start.score)) == len(x)


def test_order_does_not_matter_much(mixed):
    images, _, views = mixed
    order = np.random.default_rng(0).permutation(len(images))
    one = warm_start(views, images=images).membership
    two = warm_start([v[order] for v in views], images=images[order]).membership
    assert (one.is_outlier[order] != two.is_outlier).mean() < 0.02
    again = warm_start(views, images=images).membership
    assert np.array_equal(one.score, again.score), "same seed, same scores"


@pytest.mark.parametrize(
    "spoil, says",
    [
        (lambda x: x[:1], "n_samples=1 is too few"),
        (lambda x: np.where(np.arange(len(x))[:, None] == 3, np.nan, x), "NaN"),
        (lambda x: np.where(np.arange(len(x))[:, None] == 3, np.inf, x), "NaN or infinite"),
        (lambda x: np.ones_like(x), "identical"),
    ],
)
def test_bad_input_is_refused(spoil, says):
    with pytest.raises(InputError, match=says):
        warm_start([spoil(gaussian(80, 20)[0])])


def test_new_samples_are_scored_as_the_training_set_was(mixed):
    images, truth, views = mixed
    start = warm_start(views, images=images)
    np.testing.assert_allclose(start.rule(start.rule.view(views)), start.membership.log_odds, atol=1e-4)
    alone = [start.rule(start.rule.view([v[i : i + 1] for v in views]))[0] for i in range(5)]
    np.testing.assert_allclose(alone, start.membership.log_odds[:5], atol=1e-3)
    low, high = start.interval
    assert low <= truth.mean() <= high and high < 0.35


def test_isolated_vectors_are_outliers_and_clean_ones_are_not():
    x, truth = gaussian(300, 12, shift=14.0)
    assert np.array_equal(warm_start([x]).membership.is_outlier, truth)
    for d in (2, 6, 60):
        assert not warm_start([np.random.default_rng(d).normal(size=(300, d))]).membership.is_outlier.any()


def test_too_few_samples_are_ranked_but_their_rate_stays_open():
    x, _ = gaussian(30, 5)
    start = warm_start([x])
    assert start.interval == (0.0, 0.5) and len(np.unique(start.membership.score)) == 35


# modes -------------------------------------------------------------------------------------------------


def blobs(*sizes: int, distance: float = 8.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    label = np.repeat(np.arange(len(sizes)), sizes)
    return (rng.normal(size=(len(label), 8)) + distance * np.eye(8)[label]).astype(np.float32), label


def test_halves_of_one_mode_show_no_valley_and_two_modes_do():
    z, _ = blobs(400)
    order = np.argsort(z[:, 0])
    halves = [order[:200], order[200:]]
    assert valley_gap(z, halves, 0)[0, 1] < 0.15
    z, label = blobs(200, 200)
    gap = valley_gap(z, [np.flatnonzero(label == i) for i in (0, 1)], 0)
    assert gap[0, 1] > 1 and gap[0, 0] == 0 and np.array_equal(gap, gap.T)


def test_valley_depth_does_not_care_for_sign_scale_or_sizes():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=500), rng.normal(size=300) + 5
    depth = valley_depth(a, b)
    assert depth > 1
    assert valley_depth(10 * a, 10 * b) == pytest.approx(depth, rel=1e-6)
    assert valley_depth(-b, -a) == pytest.approx(depth, abs=0.2)
    assert valley_depth(b, a) == 0, "the second side must be the upper one"


def test_modes_beside_one_majority_are_outliers_and_equal_modes_are_not():
    z, label = blobs(800, 90, 90)
    start = warm_start([z])
    assert (start.membership.is_outlier != (label > 0)).mean() < 0.01
    low, high = start.interval
    assert low <= 180 / 980 <= high
    z, label = blobs(*[150] * 6)
    assert warm_start([z]).membership.is_outlier.mean() <= 0.01
    modes = Modes.fit(z, 0)
    assert modes.inside > 1 and modes(z).shape == (900,)


def test_the_majority_is_followed_down_the_tree():
    gap = np.array([[0, 1, 5, 5], [1, 0, 5, 5], [5, 5, 0, 2], [5, 5, 2, 0.0]])
    heights, inside = part_from_majority(gap, np.array([40, 30, 20, 10]), 100)
    assert heights.tolist() == [0, 0, 5, 5] and inside == 1
    heights, inside = part_from_majority(gap, np.array([60, 20, 10, 10]), 100)
    assert heights.tolist() == [0, 1, 5, 5] and inside == 0
    heights, _ = part_from_majority(gap, np.array([30, 18, 42, 10]), 100, most=0.45)
    assert heights.tolist() == [5, 5, 0, 0]
    assert part_from_majority(gap, np.array([25] * 4), 100) == (pytest.approx(np.zeros(4)), 5)


# rate --------------------------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 60), st.floats(0, 1))
def test_a_cut_leaves_exactly_the_share(n, share):
    odds = np.random.default_rng(n).permutation(n) / 7
    assert (odds > cut_at(odds, share)).sum() == round(share * n)


def test_brightness_undoes_a_tint():
    grey = np.random.default_rng(0).integers(0, 256, (4, 12, 12), np.uint8)
    tinted = np.stack([grey * 0.2 + 40, grey * 0.7, grey * 0.4 + 10], 1).astype(np.uint8)
    plain = np.repeat(grey[:, None], 3, 1)
    close = np.abs(brightness(tinted).astype(int) - brightness(plain).astype(int))
    assert brightness(tinted).shape == (4, 1, 12, 12) and close.mean() < 3


# update ------------------------------------------------------------------------------------------------


def evidence_of(truth: np.ndarray, strength: float, seed: int = 0) -> Evidence:
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(4, len(truth)))
    lean = strength * truth
    return Evidence(np.exp(noise[0] + lean), np.exp(noise[1] - lean), noise[2] + lean, noise[3] - lean)


def a_start(truth: np.ndarray, certainty: float) -> Membership:
    odds = np.where(truth, certainty, -certainty)
    return Membership(odds)


def test_the_codebooks_settle_what_the_start_left_open():
    truth = np.arange(400) % 4 == 0
    start = a_start(truth, 6.0)
    unsure = np.arange(400) < 40
    wrong = Membership(np.where(unsure, np.where(truth, -0.1, 0.1), start.log_odds))
    after = update(wrong, wrong, evidence_of(truth, 3.0), 0)
    assert (after.is_outlier != truth).sum() < 10 < (wrong.is_outlier != truth).sum()


def test_the_codebooks_never_overrule_the_start():
    truth = np.arange(400) % 4 == 0
    start = a_start(truth, AUTHORITY + 0.1)
    after = update(start, start, evidence_of(~truth, 5.0), 0)
    assert np.array_equal(after.is_outlier, truth)
    assert np.abs(after.log_odds - start.log_odds).max() <= AUTHORITY


def test_a_ratio_out_of_fold_carries_nothing_where_nothing_is():
    truth = np.arange(2000) % 4 == 0
    ratio = likelihood_ratio(evidence_of(truth, 0.0), truth, 0)
    assert abs(roc_auc_score(truth, ratio) - 0.5) < 0.06 and np.abs(ratio).mean() < 0.3


@pytest.mark.parametrize("n_out", [0, 1, 4])
def test_too_few_outliers_leave_the_start_alone(n_out):
    truth = np.arange(100) < n_out
    start = a_start(truth, 1.0)
    assert update(start, start, evidence_of(truth, 3.0), 0) is start


def test_what_the_codebooks_said_can_be_said_of_new_samples():
    truth = np.arange(800) % 4 == 0
    learned = Competition.fit(evidence_of(truth, 1.0), truth)
    assert learned is not None
    assert roc_auc_score(truth, learned(evidence_of(truth, 1.0, seed=1))) > 0.9
    assert np.abs(learned(evidence_of(truth, 9.0))).max() <= AUTHORITY
    assert Competition.fit(evidence_of(truth, 1.0), np.zeros(800, bool)) is None
