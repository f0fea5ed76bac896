"""A saved model as MLflow calls it: arrays in, a table out.

The loader of what `rvqvae.tracking.runs.log_model` logs; it imports no mlflow and reads no pickle.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from rvqvae.estimator import RobustVQVAE
from rvqvae.io.arrays import from_nchw


class ServedModel:
    """What ``mlflow.pyfunc.load_model`` wraps."""

    def __init__(self, model: RobustVQVAE) -> None:
        self.model = model

    def predict(self, model_input: ArrayLike) -> pd.DataFrame:
        """score (higher is more normal), outlier_probability and is_outlier, a row for each sample."""
        scores = self.model.score_samples(model_input)
        # As outlier_probability and predict do, which would each look at every sample again.
        odds = self.model.offset_ - scores
        return pd.DataFrame({"score": scores, "outlier_probability": expit(odds), "is_outlier": odds > 0})

    def example(self) -> NDArray[Any]:
        """One blank sample, of the shape and dtype that the model takes."""
        if self.model.layout_ == "vectors":
            return np.zeros((1, self.model.n_features_in_))
        blank = np.zeros((1, *self.model._scorer.model.shape), np.uint8)
        return from_nchw(blank, self.model.layout_)  # type: ignore[arg-type]


def load_served(folder: str | Path) -> ServedModel:
    """The model that `RobustVQVAE.save` wrote."""
    return ServedModel(RobustVQVAE.load(folder))


_load_pyfunc = load_served  # the name that MLflow looks for
