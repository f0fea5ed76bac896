"""The warm start: who belongs to the majority, before any training.

Two kinds of outliers need two questions. A foreign group, however tight, is found by whether the majority's
codebook of patches can stand in for its own (`groups`); whatever lies far from the majority, alone or not,
by a robust ellipsoid in the joint view (`ellipsoid`). Neither sees a label or needs a rate.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from rvqvae.errors import InputError
from rvqvae.membership.ellipsoid import ellipsoid_distance
from rvqvae.membership.groups import LINK, foreignness
from rvqvae.membership.types import Membership

FEWEST = 50
"""Fewer samples cannot carry a decision."""
COMPONENTS = 32
"""Principal components kept of each view."""
FOLDS = 5
CERTAIN = 10.0
"""Log odds of a decision that is not up for revision."""


def joint_view(views: Sequence[NDArray[np.generic]], seed: int = 0) -> NDArray[np.float32]:
    """Leading principal components of each view (N, d), scaled to unit variance in total, side by side."""
    parts = []
    for view in views:
        x = np.asarray(view, np.float32)
        k = min(COMPONENTS, x.shape[1], len(x) - 1)
        z = PCA(k, svd_solver="randomized", random_state=seed).fit_transform(x)
        parts.append(z / max(float(np.sqrt(z.var(0).sum())), 1e-12))
    return np.concatenate(parts, 1).astype(np.float32)


def warm_start(
    views: Sequence[NDArray[np.generic]],
    *,
    images: NDArray[np.uint8] | None = None,
    contamination: float | None = None,
    seed: int = 0,
) -> Membership:
    """Split N samples by their ``views``, each (N, d); ``images`` uint8 (N, C, H, W) if they are images.

    Without ``contamination`` only what is foreign as a group is called an outlier; with it, the lowest
    scores are, exactly that share. Raises InputError for too few, constant or non-finite samples.
    """
    _check(views)
    z = joint_view(views, seed)
    foreign = np.zeros(len(z), bool)
    odds = np.zeros(len(z))
    if images is not None:
        foreign = foreignness(images, z, seed) > LINK
    if FOLDS <= foreign.sum() <= 0.5 * len(z):
        odds = _out_of_fold_odds(z, foreign)
        foreign = odds > 0
    else:
        foreign[:] = False
    distance = np.log(ellipsoid_distance(z, ~foreign, seed) + 1e-12)
    centre = np.median(distance[~foreign])
    spread = 1.4826 * np.median(np.abs(distance[~foreign] - centre)) + 1e-12
    score = -((distance - centre) / spread + odds)
    if contamination is None:
        # Where no group is foreign nobody is called an outlier, and no codebook may say otherwise.
        return Membership(score, foreign, odds if foreign.any() else np.full(len(z), -CERTAIN))
    is_outlier = np.zeros(len(z), bool)
    is_outlier[np.argsort(score, kind="stable")[: round(contamination * len(z))]] = True
    return Membership(score, is_outlier, np.where(is_outlier, CERTAIN, -CERTAIN))


def _out_of_fold_odds(z: NDArray[np.float32], foreign: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(N,) log odds of being foreign, from a linear classifier that did not see the sample.

    Mends the images that k-means put into the wrong group.
    """
    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=500))
    p = cross_val_predict(classifier, z, foreign, cv=FOLDS, method="predict_proba")[:, 1]
    return np.asarray(logit(np.clip(p, 1e-4, 1 - 1e-4)))


def _check(views: Sequence[NDArray[np.generic]]) -> None:
    n = len(views[0])
    if n < FEWEST:
        raise InputError(f"{n} samples are too few to tell a majority: give at least {FEWEST}")
    for view in views:
        if not np.isfinite(view).all():
            raise InputError("the samples hold NaN or infinite values; remove or impute them first")
    if (views[0] == views[0][:1]).all():
        raise InputError("all samples are identical: there is nothing to tell apart")
