"""Clustering accuracy against every matching tried in turn, and what both metrics must not depend on."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rvqvae.errors import InputError
from rvqvae.metrics import clustering_accuracy, clustering_nmi


def slow_accuracy(labels, clusters) -> float:
    """Both padded to the same number of names, every one-to-one renaming tried."""
    size = max(*labels, *clusters) + 1
    return max(
        float(np.mean([renamed[c] == y for y, c in zip(labels, clusters, strict=True)]))
        for renamed in permutations(range(size))
    )


def slow_nmi(labels, clusters) -> float:
    def entropy(*columns):
        _, counts = np.unique(np.stack(columns), axis=1, return_counts=True)
        share = counts / counts.sum()
        return -(share * np.log(share)).sum()

    a, b = entropy(labels), entropy(clusters)
    return (a + b - entropy(labels, clusters)) / ((a + b) / 2) if a + b > 1e-12 else 1.0


pairs = st.integers(1, 30).flatmap(
    lambda n: st.tuples(*[st.lists(st.integers(0, 4), min_size=n, max_size=n)] * 2)
)


@settings(max_examples=60, deadline=None)
@given(pairs)
def test_both_equal_their_slow_twins(pair):
    assert clustering_accuracy(*pair) == pytest.approx(slow_accuracy(*pair))
    assert clustering_nmi(*pair) == pytest.approx(slow_nmi(*pair), abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(pairs, st.permutations(range(5)), st.integers(0, 10**6))
def test_names_and_order_do_not_matter(pair, renaming, seed):
    labels, clusters = map(np.array, pair)
    renamed = np.array(renaming)[clusters]
    order = np.random.default_rng(seed).permutation(len(labels))
    for metric in (clustering_accuracy, clustering_nmi):
        value = metric(labels, clusters)
        assert metric(labels, renamed) == pytest.approx(value)
        assert metric(labels[order], clusters[order]) == pytest.approx(value)
        assert metric(clusters, labels) == pytest.approx(value)
        assert 0 <= value <= 1


def test_a_perfect_clustering_is_one_and_a_blind_one_is_not():
    labels = np.arange(1000) % 10
    blind = np.random.default_rng(0).integers(0, 10, 1000)
    assert clustering_accuracy(labels, (labels + 3) % 10) == clustering_nmi(labels, (labels + 3) % 10) == 1
    assert clustering_accuracy(labels, blind) < 0.2 and clustering_nmi(labels, blind) < 0.1
    assert clustering_accuracy(labels, np.zeros(1000, int)) == pytest.approx(0.1)


def test_surplus_clusters_count_as_wrong():
    assert clustering_accuracy([0, 0, 0, 0], [0, 0, 1, 2]) == 0.5


def test_one_sample_strings_and_whole_floats():
    assert clustering_accuracy([7], [3]) == clustering_nmi([7], [3]) == 1
    assert clustering_accuracy(["cat", "dog", "dog"], [2.0, 0.0, 0.0]) == 1


@pytest.mark.parametrize("metric", [clustering_accuracy, clustering_nmi])
@pytest.mark.parametrize(
    "labels, clusters, message",
    [
        ([], [], "N >= 1"),
        ([[0, 1]], [0, 1], "labels have shape"),
        ([0, 1], [0, 1, 2], "2 labels and 3 clusters"),
        ([0.0, float("nan")], [0, 1], "labels hold NaN"),
        ([0, 1], [0.5, 1.0], "clusters hold NaN, infinite or fractional"),
        ([0, 1], [None, 1], "dtype object"),
    ],
)
def test_bad_input(metric, labels, clusters, message):
    with pytest.raises(InputError, match=message):
        metric(labels, clusters)
