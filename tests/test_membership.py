"""Who is an inlier: descriptors, the judge, the decision, and the update, on drawn data and on samples."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from data.recipes import load
from pipelines.train_judge import TABLE, read_table
from rvqvae.contamination import contaminate
from rvqvae.detector import detect, views_of
from rvqvae.errors import InputError
from rvqvae.features.plants import EACH, draw_plants
from rvqvae.features.pretrained import DEFAULT
from rvqvae.features.statistics import STATISTICS, picture_statistics
from rvqvae.membership import (
    CodebookEvidence,
    Judge,
    Membership,
    cut_at,
    cut_of,
    gather,
    learned_judge,
    literal_split,
    names_of,
    rate_interval,
    update,
    verdict_of,
)
from rvqvae.membership.decision import FEWEST, doubt_of
from rvqvae.membership.ellipsoid import ANCHORS, find_core, fit_ellipsoid, majority_depth
from rvqvae.membership.evidence import direction_of
from rvqvae.membership.judge import FILE
from rvqvae.membership.literal import _otsu
from rvqvae.membership.update import MAX_RATIO, likelihood_ratio


@pytest.fixture(scope="module")
def mixed():
    """900 digits and clothes, 20 % clothes: images, truth, views."""
    digits, clothes = (load(name)[0][:, None] for name in ("mnist", "fashion_mnist"))
    made = contaminate(digits, clothes, 0.2, 0, total=900)
    return made.images, made.is_outlier, views_of(made.images, DEFAULT)


def gaussian(n_in: int, n_out: int, seed: int = 0, shift: float = 8.0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n_in + n_out, 6)).astype(np.float32)
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


# statistics and plants ---------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
def test_statistics_tell_how_a_picture_was_made_whatever_the_batch(channels):
    noise = np.random.default_rng(0).integers(0, 256, (300, channels, 16, 20)).astype(np.uint8)
    flat = np.repeat(noise[:, :, :1, :1], 16, 2).repeat(20, 3)
    found = picture_statistics(np.concatenate([noise, flat]))
    assert found.shape == (600, STATISTICS) and found.dtype == np.float32 and np.isfinite(found).all()
    assert np.linalg.norm(found[:300].mean(0) - found[300:].mean(0)) > 1
    np.testing.assert_allclose(found[7:9], picture_statistics(noise[7:9]), atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 20, 13)])
def test_plants_have_the_form_and_follow_the_seed(shape):
    plants = draw_plants(shape, 0)
    assert plants.shape == (4 * EACH, *shape) and plants.dtype == np.uint8
    assert np.array_equal(plants, draw_plants(shape, 0)) and not np.array_equal(plants, draw_plants(shape, 1))
    assert len(np.unique(plants.reshape(len(plants), -1), axis=0)) > 3 * EACH


# ellipsoid ---------------------------------------------------------------------------------------------


def test_depth_equals_its_slow_twin():
    x, _ = gaussian(60, 20)
    rows = np.random.default_rng(3).permutation(80)[:ANCHORS]
    slow = [sorted(np.linalg.norm(x[rows] - a, axis=1))[40] for a in x]
    np.testing.assert_allclose(majority_depth(x, 3), slow, rtol=1e-5)


@pytest.mark.parametrize("n_out", [20, 90])
def test_no_tight_cluster_below_half_gets_into_the_core(n_out):
    x, truth = gaussian(200, n_out, shift=12)
    x[truth] = 0.05 * x[truth] + 0.95 * x[truth].mean(0)
    core = find_core(x, [slice(6)], 0)
    assert not core[truth].any()
    ellipsoid = fit_ellipsoid(x, core)
    assert roc_auc_score(truth, ellipsoid(x)) == 1.0 and np.median(ellipsoid(x)) == pytest.approx(0)


# evidence ----------------------------------------------------------------------------------------------


def test_every_descriptor_has_a_name_and_what_is_new_is_described_alike(mixed):
    _, _, views = mixed
    gathered = gather(views, 0)
    names = names_of(4)
    assert len(set(names)) == len(names) and gathered.table.shape == (900, len(names))
    assert np.isfinite(gathered.table).all() and gathered.vectors.shape == (900, sum(
        part.stop - part.start for part in gathered.evidence.view.parts
    ))  # fmt: skip
    new = gathered.evidence(views)
    np.testing.assert_allclose(new, gathered.table, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(
        new[5:6], gathered.evidence([view[5:6] for view in views]), rtol=1e-3, atol=1e-3
    )


def test_groups_are_the_nearest_centroids(mixed):
    gathered = gather(mixed[2], 0)
    slow = cdist(gathered.vectors, gathered.evidence.centroids).argmin(1)
    assert np.array_equal(gathered.evidence.group_of(gathered.vectors), slow)
    assert np.array_equal(slow, gathered.groups)
    purity = [mixed[1][gathered.groups == g].mean() for g in np.unique(gathered.groups)]
    assert np.mean([min(p, 1 - p) for p in purity]) < 0.05


def test_order_does_not_matter_much(mixed):
    images = mixed[0]
    turned = np.random.default_rng(1).permutation(len(images))
    one, other = detect(images).judged.log_odds, detect(images[turned]).judged.log_odds
    assert np.corrcoef(one[turned], other)[0, 1] > 0.9


@pytest.mark.parametrize("n", [2, 3, 7, 19, 21])
def test_few_samples_are_described_all_the_same(n):
    table = gather([np.random.default_rng(0).normal(size=(n, 5)).astype(np.float32)], 0).table
    assert table.shape == (n, len(names_of(1))) and np.isfinite(table).all()


# judge -------------------------------------------------------------------------------------------------


def test_the_judge_in_the_package_is_what_its_command_makes_of_the_table():
    table = read_table(Path(__file__).parents[1] / TABLE)
    made = json.loads(FILE.read_text())
    judge = Judge.from_json(made["images"])
    again = table.judge("images")
    rows = np.asarray(table.x[::7], np.float64)
    names = list(map(str, table.names))
    assert np.abs(judge(rows, names) - again(rows, names)).max() < 0.05
    assert Judge.from_json(judge.as_json()).as_json() == judge.as_json() == made["images"]


@pytest.mark.parametrize("kind", ["images", "any"])
def test_no_line_of_the_judge_goes_against_sense(kind):
    judge = learned_judge(kind)
    for name, (line, above, below) in zip(judge.names, judge.weights, strict=True):
        way = direction_of(name)
        assert all(way * slope >= 0 for slope in (line, line + above, line + below) if way), name
    assert {direction_of(name) for name in judge.names} == {-1, 0, 1}


def test_a_judge_learns_what_tells_outliers_on_other_sets():
    rng = np.random.default_rng(0)
    names = ["spreads joint", "set's size"]
    truth = rng.random(2000) < 0.2
    table = np.stack([rng.normal(size=2000) + 3 * truth, rng.normal(size=2000)], 1)
    judge = Judge.fit(names, table, truth, np.ones(2000), np.arange(2000) // 100)
    odds = judge(table[:, ::-1], names[::-1])
    assert roc_auc_score(truth, odds) > 0.97 and abs(expit(odds).mean() - truth.mean()) < 0.02
    backwards = Judge.fit(names, table * [-1, 1], truth, np.ones(2000), np.arange(2000) // 100)
    assert backwards.weights[0, 0] == 0  # Less spread is never more suspicious.


# decision ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.1, 0.25, 0.5, 1.0])
@pytest.mark.parametrize("n", [1, 2, 40])
def test_a_cut_leaves_exactly_the_share(n, share):
    odds = np.random.default_rng(0).normal(size=n)
    assert (odds > cut_at(odds, share)).sum() == round(share * n)


def test_caution_is_the_price_of_a_lost_inlier():
    p = expit(cut_of(3.0))
    assert p == pytest.approx(3 * (1 - p)) and cut_of(1.0) == 0


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**16), st.floats(-6, 2), st.integers(0, 60))
def test_the_doubt_of_a_set_just_holds_its_truth(seed, centre, outliers):
    rng = np.random.default_rng(seed)
    odds, truth = rng.normal(centre, 2, 120), np.arange(120) < outliers
    doubt = doubt_of(odds, truth)
    low, high = rate_interval(odds, doubt)
    assert low <= truth.mean() + 1e-9 and high >= truth.mean() - 1e-6
    if outliers > 0:
        assert expit(odds + doubt[1]).mean() == pytest.approx(truth.mean(), abs=1e-3)


def test_verdicts_need_evidence():
    assert verdict_of((0.1, 0.2), 500, 0.0) == "contaminated"
    assert verdict_of((0.0, 0.01), 500, 1.0) == "clean"
    assert verdict_of((0.0, 0.01), 500, 0.5) == "undecided"  # Foreign samples would not have been seen.
    assert verdict_of((0.0, 0.3), 500, 1.0) == verdict_of((0.1, 0.2), FEWEST - 1, 1.0) == "undecided"


# whole -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inlier", ["mnist", "fashion_mnist"])
def test_both_directions_are_told_apart(inlier):
    outlier = "fashion_mnist" if inlier == "mnist" else "mnist"
    pools = [load(name)[0][:, None] for name in (inlier, outlier)]
    made = contaminate(*pools, 0.3, 0, total=900)
    found = detect(made.images)
    odds = found.judged.log_odds
    assert roc_auc_score(made.is_outlier, odds) > 0.99 and (odds[~made.is_outlier] > found.cut).mean() < 0.02
    assert found.interval.low <= 0.3 <= found.interval.high


def test_a_given_rate_is_met_exactly(mixed):
    found = detect(mixed[0], contamination=0.2)
    dropped = found.judged.log_odds > found.cut
    assert dropped.sum() == 180 and (dropped == mixed[1]).mean() > 0.98 and found.interval == (0.2, 0.2)


def test_caution_drops_less(mixed):
    few, many = (detect(mixed[0][:300], caution=c) for c in (20.0, 0.2))
    assert np.array_equal(few.judged.log_odds, many.judged.log_odds) and few.cut > many.cut


def test_vectors_need_no_images():
    x, truth = gaussian(400, 60)
    assert roc_auc_score(truth, detect(x).judged.log_odds) > 0.99


def test_digits_turned_and_shifted_stay_whole():
    digits = load("mnist")[0][:400, None]
    shifted = np.roll(digits[:200], 2, axis=3)
    found = detect(np.concatenate([digits[200:], shifted]))
    assert (found.judged.log_odds > found.cut).mean() < 0.05 and found.verdict != "contaminated"


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda x: x[:1], "n_samples=1 is too few"),
        (lambda x: np.repeat(x[:1], 50, 0), "50 of 50 samples are identical, more than half"),
        (lambda x: np.where(np.arange(len(x))[:, None] == 3, np.nan, x), "NaN or infinite"),
        (lambda x: np.concatenate([x[:40], np.repeat(x[:1], 60, 0)]), "are identical, more than half"),
    ],
)
def test_bad_input_is_refused(spoil, says):
    with pytest.raises(InputError, match=says):
        detect(spoil(gaussian(100, 0)[0]))


# update ------------------------------------------------------------------------------------------------


def evidence_of(truth: np.ndarray, strength: float, seed: int = 0) -> CodebookEvidence:
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(4, len(truth)))
    lean = strength * truth
    return CodebookEvidence(
        np.exp(noise[0] + lean), np.exp(noise[1] - lean), noise[2] + lean, noise[3] - lean
    )


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
    start = a_start(truth, MAX_RATIO + 0.1)
    after = update(start, start, evidence_of(~truth, 5.0), 0)
    assert np.array_equal(after.is_outlier, truth)
    assert np.abs(after.log_odds - start.log_odds).max() <= MAX_RATIO


def test_a_ratio_out_of_fold_carries_nothing_where_nothing_is():
    truth = np.arange(2000) % 4 == 0
    ratio = likelihood_ratio(evidence_of(truth, 0.0), truth, 0)
    assert abs(roc_auc_score(truth, ratio) - 0.5) < 0.06 and np.abs(ratio).mean() < 0.3


@pytest.mark.parametrize("n_out", [0, 1, 4])
def test_too_few_outliers_leave_the_start_alone(n_out):
    truth = np.arange(100) < n_out
    start = a_start(truth, 1.0)
    assert update(start, start, evidence_of(truth, 3.0), 0) is start
