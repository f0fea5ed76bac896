"""The learned metric: what it is fitted to, and that it tells kinds apart."""

from functools import reduce

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from data.recipes import load
from rvqvae.detector import views_of
from rvqvae.features import metric
from rvqvae.features.metric import DIRECTIONS, Metric, Scatter, learned_metric
from rvqvae.features.pretrained import DEFAULT, extract_views

KINDS = np.repeat(np.arange(4), 25)


@pytest.fixture(scope="module")
def domains():
    """Three domains of one view: kinds lie apart along the first axis, and vary most along the second."""
    made = []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        x = rng.normal(0, [0.1, 5, 1, 1], (100, 4))
        x[:, 0] += KINDS + 10 * seed
        made.append(x)
    return made


def fitted(domains, kinds=KINDS):
    return Metric.fit([reduce(Scatter.plus, [Scatter.of(x, kinds) for x in domains])] * len(DIRECTIONS))


def test_a_kind_varies_equally_in_all_directions(domains, monkeypatch):
    """The twin: pool the deviations from every kind's mean, and look at their covariance."""
    monkeypatch.setattr(metric, "RIDGE", 0.0)
    found = fitted(domains)
    deviations = [x[k == KINDS] - x[k == KINDS].mean(0) for x in domains for k in range(4)]
    mapped = np.concatenate(deviations) @ found.axes[0]
    assert mapped.T @ mapped / (len(mapped) - len(deviations)) == pytest.approx(np.eye(4), abs=0.02)


def test_what_tells_kinds_apart_counts_for_more(domains):
    found = fitted(domains)

    def told_apart(x):
        first = x[0]
        nearest = np.argsort(np.square(x - first).sum(1))[1:25]
        return float((KINDS[nearest] == 0).mean())

    x = np.random.default_rng(9).normal(0, [0.1, 5, 1, 1], (100, 4))
    x[:, 0] += KINDS
    assert told_apart((x - found.means[0]) @ found.axes[0]) > told_apart(x) + 0.3


def test_rows_have_unit_length_and_depend_on_no_others(domains):
    found = fitted(domains)
    views = [domains[0].astype(np.float32)] * len(DIRECTIONS)
    whole = found(views)
    assert all(np.linalg.norm(view, axis=1) == pytest.approx(np.ones(100), abs=1e-5) for view in whole)
    one = found([view[7:8] for view in views])
    assert all(a[0] == pytest.approx(b[7], abs=1e-5) for a, b in zip(one, whole, strict=True))


def test_domains_of_one_kind_say_nothing_of_the_variance_within(domains):
    lone = Scatter.of(100 * domains[0], np.zeros(100, int))
    assert not lone.within.any() and np.allclose(lone.moment, 1e4 * domains[0].T @ domains[0] / 100)
    assert Scatter.of(domains[0], np.arange(100)).within.max() == 0  # fewer than FEWEST of each


def test_a_domain_that_is_taken_away_leaves_no_trace(domains):
    every = [Scatter.of(x, KINDS) for x in domains]
    without = reduce(Scatter.plus, every).plus(every[1], -1)
    expected = fitted([domains[0], domains[2]])
    apart = [Metric.fit([without] * len(DIRECTIONS)), expected, fitted(domains)]
    lengths = [np.square((domains[1] - m.means[0]) @ m.axes[0]).sum(1) for m in apart]
    assert lengths[0] == pytest.approx(lengths[1], rel=1e-4)
    assert lengths[0] != pytest.approx(lengths[2], rel=1e-2)
    assert (without.domains, without.varied) == (2, 2)


def test_what_is_saved_is_loaded(domains, tmp_path):
    found = fitted(domains)
    found.save(tmp_path / "metric.npz")
    again = Metric.load(tmp_path / "metric.npz")
    x = [domains[1].astype(np.float32)] * len(DIRECTIONS)
    for a, b in zip(found(x), again(x), strict=True):
        assert a == pytest.approx(b, abs=5e-3)


def test_the_metric_in_the_package_beats_plain_features():
    """Two near kinds, sandals and boots: the nearest neighbour is of the same kind more often."""
    images, labels = load("fashion_mnist")
    rows = np.flatnonzero(np.isin(labels, (5, 9)))[:300]
    images, labels = images[rows][:, None], labels[rows]
    plain = extract_views(images)[1:]
    learned = views_of(images, DEFAULT)
    assert [view.shape[1] for view in learned] == list(DIRECTIONS)
    assert [len(mean) for mean in learned_metric().means] == [view.shape[1] for view in plain]

    def own_kind(views):
        z = np.concatenate([v / np.sqrt(np.square(v - v.mean(0)).sum(1).mean()) for v in views], 1)
        apart = np.square(z[:, None] - z[None]).sum(2)
        centre = [z[labels == kind].mean(0) for kind in (5, 9)]
        np.fill_diagonal(apart, np.inf)
        nearest = labels[apart.argmin(1)] == labels
        margin = np.square(z - centre[0]).sum(1) - np.square(z - centre[1]).sum(1)
        return nearest.mean() + roc_auc_score(labels == 9, margin)

    assert own_kind(learned) > own_kind(plain)
