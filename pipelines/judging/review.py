"""A simulated user who answers questions, and what other tools make of as many answers.

Others ask about single images only: one for every answer that ours gets about a group or an image.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from sklearn.semi_supervised import LabelSpreading

from pipelines.judging.cases import Case, Decision, Vector
from pipelines.judging.peers import cut, ellipsoid

Rows = NDArray[np.int64]
MIXED = (0.2, 0.8)
"""Shares of outliers between which a group is called mixed."""


class Review(NamedTuple):
    """How many questions a user answers, and how often wrongly."""

    groups: int = 0
    singles: int = 0
    error: float = 0.0


class User:
    """Right by the truth (N,) of a group's majority, but for a share of answers, which say the opposite."""

    def __init__(self, is_outlier: NDArray[np.bool_], error: float, seed: int) -> None:
        self.is_outlier, self.error = is_outlier, error
        self.answers = self.wrong = 0
        self._rng = np.random.default_rng([seed, 3])

    def belongs(self, rows: NDArray[np.integer]) -> bool | None:
        """Whether the images in ``rows`` belong; None for a mixed group."""
        share = float(self.is_outlier[rows].mean())
        self.answers += 1
        if self._rng.random() < self.error:
            self.wrong += 1
            return share > 0.5
        return None if MIXED[0] < share < MIXED[1] else share <= 0.5

    def outliers(self, rows: Rows) -> NDArray[np.bool_]:
        """(len(rows),) what is said of single images."""
        return np.array([not self.belongs(rows[[i]]) for i in range(len(rows))], bool)


def settled(score: Vector, is_outlier: NDArray[np.bool_], rows: Rows, said: NDArray[np.bool_]) -> Decision:
    """Images that the user has seen are what the user says; the rest as they were."""
    score, is_outlier = score.copy(), is_outlier.copy()
    span = float(np.ptp(score)) + 1.0
    score[rows] += np.where(said, span, -span)
    is_outlier[rows] = said
    return Decision(score, is_outlier)


def top_of_list(case: Case, user: User, n: int) -> Decision:
    """What every tool offers: look through the ``n`` highest scores."""
    score = ellipsoid(case)
    rows = np.argsort(-score)[:n]
    return settled(score, cut(score), rows, user.outliers(rows))


def classifier(case: Case, user: User, n: int) -> Decision:
    """A logistic regression on the images that were reviewed."""
    return _learned(case, user, n, _logistic)


def label_spreading(case: Case, user: User, n: int) -> Decision:
    """Zhou et al. 2004 on the graph of nearest neighbours, from the images that were reviewed."""
    return _learned(case, user, n, _spread)


def aad_forest(case: Case, user: User, n: int) -> Decision:
    """Active anomaly discovery (Das et al. 2017), coniferest's."""
    from coniferest.aadforest import AADForest

    return _forest(case, user, n, AADForest)


def pine_forest(case: Case, user: User, n: int) -> Decision:
    """coniferest's own: trees that contradict the answers are exchanged."""
    from coniferest.pineforest import PineForest

    return _forest(case, user, n, PineForest)


def _learned(
    case: Case, user: User, n: int, learn: Callable[[NDArray, Rows, NDArray[np.bool_]], Vector]
) -> Decision:
    """From as many of the highest scores as of other images, drawn at random."""
    order = np.argsort(-ellipsoid(case))
    top, rest = order[: n // 2], order[n // 2 :]
    rows = np.concatenate([top, np.random.default_rng([case.seed, 4]).permutation(rest)[: n - n // 2]])
    said = user.outliers(rows)
    if said.all() or not said.any():  # nothing to tell apart: the scores stay
        score = ellipsoid(case)
        return settled(score, np.zeros(len(score), bool), rows, said)
    probability = learn(StandardScaler().fit_transform(case.joint), rows, said)
    return settled(probability, probability > 0.5, rows, said)._replace(probability=probability)


def _logistic(z: NDArray, rows: Rows, said: NDArray[np.bool_]) -> Vector:
    return LogisticRegression(max_iter=1000).fit(z[rows], said).predict_proba(z)[:, 1]


def _spread(z: NDArray, rows: Rows, said: NDArray[np.bool_]) -> Vector:
    labels = np.full(len(z), -1)
    labels[rows] = said
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # islands of the graph that no answer reaches divide by zero
        spread = LabelSpreading(kernel="knn", n_neighbors=10, max_iter=200).fit(z, labels)
    return np.nan_to_num(spread.label_distributions_[:, 1], nan=0.0)


def _forest(case: Case, user: User, n: int, kind: Callable) -> Decision:
    """The most anomalous image that has no answer yet is asked about, ``n`` times."""
    z = np.ascontiguousarray(case.joint, np.float64)
    rows: list[int] = []
    said: list[bool] = []
    model = kind(n_trees=100, n_subsamples=min(256, len(z)), random_seed=case.seed, n_jobs=1)
    for _ in range(n):
        score = -model.fit_known(z, z[rows], np.where(said, -1, 1)).score_samples(z)
        score[rows] = -np.inf
        rows.append(int(np.argmax(score)))
        said.append(bool(user.outliers(np.array(rows[-1:]))[0]))
    score = -model.fit_known(z, z[rows], np.where(said, -1, 1)).score_samples(z)
    return settled(score, cut(score), np.array(rows), np.array(said))


REVIEWERS: dict[str, Callable[[Case, User, int], Decision]] = {
    "top of the list": top_of_list,
    "classifier": classifier,
    "label spreading": label_spreading,
    "AADForest": aad_forest,
    "PineForest": pine_forest,
}
LIBRARIES = {"AADForest": "coniferest", "PineForest": "coniferest"}
