"""Agreement of clusters with known classes. Labels are for reporting only."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import normalized_mutual_info_score
from sklearn.metrics.cluster import contingency_matrix

from rvqvae.errors import InputError


def clustering_accuracy(labels: ArrayLike, clusters: ArrayLike) -> float:
    """Share of samples whose cluster is matched to their class, under the best one-to-one matching.

    ``labels`` and ``clusters``: (N,) of whole numbers or strings, in any numbering; their numbers may
    differ, and a cluster (or class) without a partner counts as wrong. From 1 / N to 1. The matching is
    the Hungarian method's (Kuhn 1955), as in Xie et al. 2016, eq. 10. Raises InputError for empty input,
    lengths that differ, matrices and values that are no labels.
    """
    labels, clusters = _checked(labels, clusters)
    counts = contingency_matrix(labels, clusters)
    return float(counts[linear_sum_assignment(counts, maximize=True)].sum() / len(labels))


def clustering_nmi(labels: ArrayLike, clusters: ArrayLike) -> float:
    """Mutual information of both over the arithmetic mean of their entropies, from 0 to 1.

    Input and errors as in `clustering_accuracy`. Two constant labellings agree: 1.
    """
    labels, clusters = _checked(labels, clusters)
    return float(
        np.clip(normalized_mutual_info_score(labels, clusters), 0.0, 1.0)
    )  # rounding leaves 1 + 1e-16


def _checked(labels: ArrayLike, clusters: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Both as numbers from 0; InputError as in `clustering_accuracy`."""
    numbered = []
    for name, value in (("labels", labels), ("clusters", clusters)):
        array = np.asarray(value)
        if array.ndim != 1 or not len(array):
            raise InputError(f"{name} have shape {array.shape}: give one for each sample, (N,) with N >= 1")
        if array.dtype.kind == "f" and not (np.isfinite(array).all() and (array == np.rint(array)).all()):
            raise InputError(f"{name} hold NaN, infinite or fractional values: give whole numbers or strings")
        if array.dtype.kind not in "iubfUS":
            raise InputError(f"{name} have dtype {array.dtype}: give whole numbers or strings")
        numbered.append(np.unique(array, return_inverse=True)[1])
    if len(numbered[0]) != len(numbered[1]):
        raise InputError(
            f"there are {len(numbered[0])} labels and {len(numbered[1])} clusters: give one of each a sample"
        )
    return numbered[0], numbered[1]
