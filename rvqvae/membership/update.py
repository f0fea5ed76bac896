"""The epochwise update of the sets: the two codebooks compete for every sample."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from rvqvae.membership.types import Evidence, Membership

AUTHORITY = 4.0
"""Most log odds that the codebooks may add to the start's: they settle what it left open, never overrule it.

Ours. Left to themselves, codebooks confirm whatever split they were trained on, and on rare or near outliers
they spoil a good start.
"""
FOLDS = 5


def update(start: Membership, current: Membership, evidence: Evidence, seed: int) -> Membership:
    """Sets of the next epoch: the warm ``start`` plus what the codebooks, trained on ``current``, say.

    The log likelihood ratio is learned from the current sets and read out of fold. With fewer outliers than
    folds there is nothing to compete, and the start stands.
    """
    if min(current.is_outlier.sum(), (~current.is_outlier).sum()) < FOLDS:
        return start
    ratio = np.clip(likelihood_ratio(evidence, current.is_outlier, seed), -AUTHORITY, AUTHORITY)
    log_odds = start.log_odds + ratio
    return Membership(start.score - ratio, log_odds > 0, log_odds)


def likelihood_ratio(evidence: Evidence, is_outlier: NDArray[np.bool_], seed: int) -> NDArray[np.float64]:
    """(N,) log p(evidence | outlier) / p(evidence | inlier), from a linear model that did not see the row."""
    x = np.column_stack(
        [
            np.log(evidence.inlier_distance + 1e-12),
            np.log(evidence.outlier_distance + 1e-12),
            evidence.inlier_surprise,
            evidence.outlier_surprise,
        ]
    )
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
    p = cross_val_predict(classifier, x, is_outlier, cv=folds, method="predict_proba")[:, 1]
    return np.asarray(logit(np.clip(p, 1e-6, 1 - 1e-6)) - logit(is_outlier.mean()))
