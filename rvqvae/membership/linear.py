"""A logistic regression as plain numbers: fitted by scikit-learn, saved and applied without it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

FOLDS = 5


class Linear(NamedTuple):
    """Log odds = x @ weights + bias."""

    weights: NDArray[np.float64]
    """(d,)."""
    bias: float

    @classmethod
    def fit(cls, x: NDArray[np.floating], positive: NDArray[np.bool_], strength: float) -> Linear:
        """On standardised columns of ``x`` (N, d); ``strength`` is the inverse of the penalty."""
        scaler, regression = _pipeline(strength).fit(x, positive)
        weights = regression.coef_[0] / scaler.scale_
        return cls(weights, float(regression.intercept_[0] - weights @ scaler.mean_))

    def __call__(self, x: NDArray[np.floating]) -> NDArray[np.float64]:
        """(N,) of ``x`` (N, d)."""
        return np.asarray(x @ self.weights + self.bias, np.float64)


def out_of_fold(
    x: NDArray[np.floating], positive: NDArray[np.bool_], strength: float, seed: int
) -> NDArray[np.float64]:
    """(N,) log odds from regressions that did not see the row."""
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    p = cross_val_predict(_pipeline(strength), x, positive, cv=folds, method="predict_proba")[:, 1]
    return np.asarray(logit(np.clip(p, 1e-6, 1 - 1e-6)))


def _pipeline(strength: float) -> Pipeline:
    return make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=500))
