"""Metrics of rankings, from distances (Q, N) of queries to a gallery and flags of what is relevant.

Codes of a few bits give many equal distances. Every metric here is the expectation over all orders of
equally near items (McSherry and Najork 2008): it neither depends on the order of the gallery nor favours
relevant items. Without ties it is the ordinary metric.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rvqvae.errors import InputError

Relevant = NDArray[np.bool_]


def average_precision(distances: ArrayLike, relevant: ArrayLike) -> NDArray[np.float64]:
    """(Q,) mean, over a query's relevant items, of the precision among those up to each.

    ``distances`` (Q, N), smaller is nearer; ``relevant`` (Q, N) bool, at least one for each query.
    """
    return np.array(
        [_average_precision(*query) for query in zip(*_checked(distances, relevant), strict=True)]
    )


def mean_average_precision(distances: ArrayLike, relevant: ArrayLike) -> float:
    """Mean of `average_precision` over the queries."""
    return float(average_precision(distances, relevant).mean())


def precision_at_k(distances: ArrayLike, relevant: ArrayLike, k: int) -> NDArray[np.float64]:
    """(Q,) share of the ``k`` nearest items that are relevant."""
    checked = _checked(distances, relevant, k)
    return np.array([_hits(*query, k) for query in zip(*checked, strict=True)]) / k


def recall_at_k(distances: ArrayLike, relevant: ArrayLike, k: int) -> NDArray[np.float64]:
    """(Q,) share of a query's relevant items that are among the ``k`` nearest."""
    near, wanted = _checked(distances, relevant, k)
    return np.array([_hits(*query, k) / query[1].sum() for query in zip(near, wanted, strict=True)])


def neighbor_recall(found: ArrayLike, true: ArrayLike) -> float:
    """Share of the ids ``true`` (Q, k), the exact nearest neighbours, that ``found`` (Q, m) holds."""
    known, wanted = np.asarray(found), np.asarray(true)
    if known.ndim != 2 or wanted.ndim != 2 or len(known) != len(wanted) or not wanted.size:
        raise InputError(
            f"found {known.shape} and true {wanted.shape} do not fit: give ids (Q, m) and (Q, k)"
        )
    return float(np.mean([np.isin(b, a).mean() for a, b in zip(known, wanted, strict=True)]))


def _average_precision(distances: NDArray[np.float64], relevant: Relevant) -> float:
    order = np.argsort(distances, kind="stable")
    hit = relevant[order]
    start, size = _ties(distances[order])
    place, before = np.arange(len(order)), np.concatenate([[0], np.cumsum(hit)])
    good = before[start + size] - before[start]
    # An item of the tie at this place is relevant with probability good / size; of the other places of the
    # tie before it, each then holds a relevant one with probability (good - 1) / (size - 1).
    others = (place - start) * (good - 1) / np.maximum(size - 1, 1)
    expected = good / size * (before[start] + others + 1) / (place + 1)
    return float(expected.sum() / hit.sum())


def _hits(distances: NDArray[np.float64], relevant: Relevant, k: int) -> float:
    """Relevant items expected among the ``k`` nearest."""
    limit = np.partition(distances, k - 1)[k - 1]
    nearer, tied = distances < limit, distances == limit
    return float(relevant[nearer].sum() + (k - nearer.sum()) * relevant[tied].mean())


def _ties(sorted_: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """For each place, the first place of its tie and the number of items in the tie."""
    first = np.flatnonzero(np.concatenate([[True], sorted_[1:] != sorted_[:-1]]))
    size = np.diff(np.append(first, len(sorted_)))
    return np.repeat(first, size), np.repeat(size, size)


def _checked(distances: ArrayLike, relevant: ArrayLike, k: int = 1) -> tuple[NDArray[np.generic], Relevant]:
    near, wanted = np.asarray(distances), np.asarray(relevant)
    if near.ndim != 2 or near.shape != wanted.shape or not near.size or wanted.dtype != np.bool_:
        raise InputError(
            f"distances {near.shape} and relevant {wanted.dtype} {wanted.shape} do not fit: give two "
            "matrices (queries, gallery), the second of bool"
        )
    if np.isnan(near).any():
        raise InputError("distances hold NaN: compute them again without those vectors")
    if alone := int((~wanted.any(1)).sum()):
        raise InputError(f"{alone} of {len(near)} queries have no relevant item: leave them out")
    if not 1 <= k <= near.shape[1]:
        raise InputError(f"k={k} is out of range: it must be from 1 to {near.shape[1]}, the gallery's size")
    return near, wanted
