"""Find labels that are likely wrong: confident learning on out-of-fold probabilities.

Source: Northcutt, Jiang and Chuang, Confident Learning, JAIR 70 (2021): the confident joint (eq. 1), its
calibration (eq. 3), and "prune by noise rate". Ours: the probabilities are the shares of classes among the
nearest neighbours in the joint view, which wrong labels spoil less than a linear classifier.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import cohen_kappa_score
from sklearn.neighbors import NearestNeighbors

NEIGHBOURS = 10
FEWEST = 5
"""Fewest images of a class whose labels are checked."""
MODERATE = 0.4
"""Cohen's kappa from which two raters agree moderately (Landis and Koch 1977)."""
FENCE = 3.0
"""Interquartile ranges beyond the upper quartile of log distances (Tukey's outer fence)."""


class Checked(NamedTuple):
    """Result of the check of N labels."""

    probability: NDArray[np.float64]
    """(N,) of the own label; nan where the label is missing or its class too small."""
    suggestion: NDArray[np.int64]
    """(N,) the label suggested for a likely mislabelled image, -1 for the others."""
    outlying: NDArray[np.bool_]
    """(N,) whether the image is far from its own class without being like another."""
    agreement: float
    """Cohen's kappa of labels and most frequent labels among the neighbours; nan without two classes."""

    @property
    def telling(self) -> bool:
        """Whether the labels name what the images show: names of folders may be dates."""
        return self.agreement >= MODERATE


def check_labels(vectors: NDArray[np.floating], labels: NDArray[np.integer]) -> Checked:
    """Check ``labels`` (N,), -1 for none, of images in the joint view (N, d); small classes are left out."""
    n = len(labels)
    checked = Checked(np.full(n, np.nan), np.full(n, -1), np.zeros(n, bool), np.nan)
    known, counts = np.unique(labels[labels >= 0], return_counts=True)
    classes = known[counts >= FEWEST]
    rows = np.flatnonzero(np.isin(labels, classes))
    if len(classes) < 2:
        return checked
    x, y = vectors[rows], np.searchsorted(classes, labels[rows])
    shares = neighbour_shares(x, y, len(classes))
    wrong = mislabelled(shares, y)
    checked.probability[rows] = shares[np.arange(len(y)), y]
    checked.suggestion[rows[wrong]] = classes[shares[wrong].argmax(1)]
    checked.outlying[rows] = ~wrong & _far(x, y)
    return checked._replace(agreement=float(cohen_kappa_score(shares.argmax(1), y)))


def neighbour_shares(x: NDArray[np.floating], y: NDArray[np.integer], classes: int) -> NDArray[np.float64]:
    """(N, classes) shares of labels ``y`` (N,) among the nearest neighbours of each row of ``x`` (N, d)."""
    k = min(NEIGHBOURS, len(x) - 1)
    near = NearestNeighbors(n_neighbors=k).fit(x).kneighbors(return_distance=False)
    shares = np.zeros((len(x), classes))
    np.add.at(shares, (np.arange(len(x))[:, None], y[near]), 1 / k)
    return shares


def mislabelled(probability: NDArray[np.floating], labels: NDArray[np.integer]) -> NDArray[np.bool_]:
    """(N,) bool: which ``labels`` (N,) are likely wrong, by the out-of-fold ``probability`` (N, classes).

    An image is confidently of class j if its probability of j is at least the mean of those labelled j. The
    calibrated confident joint says how many images labelled i are of class j; those of largest margin are
    taken.
    """
    rows, classes = np.arange(len(labels)), probability.shape[1]
    limits = [probability[labels == j, j].mean() if (labels == j).any() else np.inf for j in range(classes)]
    confident = np.where(probability >= limits, probability, -1.0)
    sure = confident.max(1) > 0
    joint = np.zeros((classes, classes))
    np.add.at(joint, (labels[sure], confident.argmax(1)[sure]), 1)
    counts = np.bincount(labels, minlength=classes)
    joint *= (counts / np.maximum(joint.sum(1), 1))[:, None]
    wrong = np.zeros(len(labels), bool)
    for i, j in np.argwhere(np.round(joint) >= 1):
        if i != j:
            mine = rows[labels == i]
            margin = probability[mine, j] - probability[mine, i]
            wrong[mine[np.argsort(-margin, kind="stable")[: round(joint[i, j])]]] = True
    return np.asarray(wrong & (probability.argmax(1) != labels))


def _far(x: NDArray[np.floating], y: NDArray[np.integer]) -> NDArray[np.bool_]:
    """(N,) bool: whether the distance to the neighbours in the own class is beyond that class's fence."""
    far = np.zeros(len(y), bool)
    for label in np.unique(y):
        rows = np.flatnonzero(y == label)
        k = min(NEIGHBOURS, len(rows) - 1)
        distances, _ = NearestNeighbors(n_neighbors=k).fit(x[rows]).kneighbors()
        logs = np.log(np.maximum(distances.mean(1), 1e-12))
        lower, upper = np.percentile(logs, [25, 75])
        far[rows] = logs > upper + FENCE * (upper - lower)
    return far
