"""Log odds by a logistic regression, out of fold."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit

FOLDS = 5


def out_of_fold(
    x: NDArray[np.floating], positive: NDArray[np.bool_], strength: float, seed: int
) -> NDArray[np.float64]:
    """(N,) log odds of ``positive`` (N,) by regressions on ``x`` (N, d) that were not trained on the row."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    regression = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=500))
    p = cross_val_predict(regression, x, positive, cv=folds, method="predict_proba")[:, 1]
    return np.asarray(logit(np.clip(p, 1e-6, 1 - 1e-6)))
