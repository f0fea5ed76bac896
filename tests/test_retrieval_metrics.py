"""Ranking measures against every order of the ties, and against scikit-learn where there are none."""

from itertools import pairwise, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from rvqvae.errors import InputError
from rvqvae.metrics import (
    average_precision,
    mean_average_precision,
    neighbor_recall,
    precision_at_k,
    recall_at_k,
)


def slow(distances, relevant, k):
    """Average precision, precision@k and recall@k: the mean over every order of equally near items."""
    rows = []
    for order in permutations(range(len(distances))):
        if all(distances[a] <= distances[b] for a, b in pairwise(order)):
            hit = [relevant[i] for i in order]
            precisions = [sum(hit[: i + 1]) / (i + 1) for i in range(len(hit)) if hit[i]]
            rows.append((np.mean(precisions), sum(hit[:k]) / k, sum(hit[:k]) / sum(hit)))
    return np.mean(rows, 0)


@settings(max_examples=40, deadline=None)
@given(data=st.data(), n=st.integers(1, 6))
def test_measures_equal_the_mean_over_all_orders_of_ties(data, n):
    distances = data.draw(st.lists(st.integers(0, 2), min_size=n, max_size=n))
    relevant = data.draw(st.lists(st.booleans(), min_size=n, max_size=n).filter(any))
    k = data.draw(st.integers(1, n))
    expected = slow(distances, relevant, k)
    measured = [
        average_precision([distances], [relevant])[0],
        precision_at_k([distances], [relevant], k)[0],
        recall_at_k([distances], [relevant], k)[0],
    ]
    np.testing.assert_allclose(measured, expected, rtol=1e-12)


def test_without_ties_it_is_the_ordinary_measure():
    rng = np.random.default_rng(0)
    distances, relevant = rng.random((20, 300)), rng.random((20, 300)) < 0.2
    expected = [average_precision_score(r, -d) for d, r in zip(distances, relevant, strict=True)]
    np.testing.assert_allclose(average_precision(distances, relevant), expected)
    assert mean_average_precision(distances, relevant) == pytest.approx(np.mean(expected))
    top = np.argsort(distances, 1)[:, :30]
    hits = np.take_along_axis(relevant, top, 1).sum(1)
    np.testing.assert_allclose(precision_at_k(distances, relevant, 30), hits / 30)
    np.testing.assert_allclose(recall_at_k(distances, relevant, 30), hits / relevant.sum(1))


def test_order_of_the_gallery_changes_nothing_and_equal_distances_give_chance():
    rng = np.random.default_rng(1)
    distances, relevant = rng.integers(0, 5, (4, 200)), rng.random((4, 200)) < 0.3
    order = rng.permutation(200)
    one = average_precision(distances, relevant)
    np.testing.assert_allclose(average_precision(distances[:, order], relevant[:, order]), one)
    flat = average_precision(np.zeros((4, 200)), relevant)
    np.testing.assert_allclose(flat, relevant.mean(1), atol=0.02)
    np.testing.assert_allclose(average_precision(~relevant, relevant), 1)


def test_neighbor_recall_counts_what_was_found():
    assert neighbor_recall([[3, 1, 2]], [[1, 2]]) == 1
    assert neighbor_recall([[3, 1], [0, 1]], [[1, 2], [4, 5]]) == 0.25


@pytest.mark.parametrize(
    "distances, relevant, k, match",
    [
        ([[1.0, 2.0]], [[True]], 1, r"\(1, 2\).*bool \(1, 1\)"),
        ([[1.0, 2.0]], [[1, 0]], 1, "of bool"),
        ([[1.0, np.nan]], [[True, False]], 1, "NaN"),
        ([[1.0, 2.0]], [[False, False]], 1, "1 of 1 queries have no relevant"),
        ([[1.0, 2.0]], [[True, False]], 3, "k=3.*from 1 to 2"),
        ([[1.0, 2.0]], [[True, False]], 0, "k=0"),
    ],
)
def test_bad_input_is_named(distances, relevant, k, match):
    with pytest.raises(InputError, match=match):
        recall_at_k(distances, relevant, k)
    with pytest.raises(InputError, match="do not fit"):
        neighbor_recall([1, 2], [[1, 2]])
