"""A saved model behind MLflow's interface: arrays in, a table out.

It loads the models that `rvqvae.tracking.runs.log_model` logs, reads no pickle, and imports mlflow only to
refuse a request.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from scipy.special import expit

from rvqvae.errors import InputError
from rvqvae.estimator import RobustVQVAE
from rvqvae.io.arrays import MIN_SIDE, axes_of, from_nchw


class ServedModel:
    """Scores the samples that a client sends."""

    def __init__(self, model: RobustVQVAE) -> None:
        self.model = model

    def predict(self, model_input: ArrayLike) -> pd.DataFrame:
        """A row for each sample: score (higher is more normal), outlier_probability and is_outlier.

        A model of images takes whole numbers from 0 to 255, (N,H,W), (N,H,W,3) or (N,1|3,H,W), of any size,
        and resizes and converts them to the form of its training data. Raises InputError for other input.
        """
        matrix = self.model.layout_ == "vectors"
        scores = self.model.score_samples(model_input if matrix else self._images(model_input))
        # As outlier_probability and predict do, which would each look at every sample again.
        is_outlier = scores < self.model.offset_
        return pd.DataFrame(
            {"score": scores, "outlier_probability": expit(-scores), "is_outlier": is_outlier}
        )

    def example(self) -> NDArray[Any]:
        """One blank sample, of the shape and dtype that the model takes."""
        blank = np.zeros((1, *self.model.shape_), np.uint8)
        return blank.astype(float) if blank.ndim == 2 else from_nchw(blank, self.model.layout_)  # type: ignore[arg-type]

    def _images(self, sent: ArrayLike) -> NDArray[np.uint8]:
        """uint8 (N,C,H,W) of the model's shape."""
        pixels = _pixels(sent)
        layout = axes_of(pixels)
        if layout != "nhwc":
            pixels = pixels[..., None] if layout == "nhw" else pixels.transpose(0, 2, 3, 1)
        if min(pixels.shape[1:3]) < MIN_SIDE:
            raise InputError(
                f"images of shape {pixels.shape} are too small: send at least {MIN_SIDE} x {MIN_SIDE} pixels"
            )
        channels, *size = self.model.shape_
        if pixels.shape[1:] == (*size, channels):
            return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
        return np.stack([_fitted(image, (size[0], size[1]), channels) for image in pixels])


def _pixels(sent: ArrayLike) -> NDArray[np.uint8]:
    """As uint8; InputError unless all are whole numbers from 0 to 255."""
    try:
        # MLflow makes arrays of objects of what came as JSON.
        values = np.asarray(sent)
        values = np.asarray(values.tolist()) if values.dtype == object else values
    except (TypeError, ValueError) as error:
        raise InputError("the images differ in shape: send images of one size") from error
    if values.size == 0 or values.dtype.kind not in "uif":
        raise InputError("this is no array of pixels: send images as whole numbers from 0 to 255")
    low, high = values.min(), values.max()
    if values.dtype.kind == "f" and (not np.isfinite(values).all() or high <= 1 or (values % 1).any()):
        raise InputError(
            f"floats from {low:.3g} to {high:.3g} are no pixels: send whole numbers from 0 to 255, "
            "of values in 0..1 (255 * images).round().astype(int)"
        )
    if low < 0 or high > 255:
        raise InputError(f"values from {low:.0f} to {high:.0f} are out of range: pixels are from 0 to 255")
    return values.astype(np.uint8)


def _fitted(image: NDArray[np.uint8], size: tuple[int, int], channels: int) -> NDArray[np.uint8]:
    """(H, W, 1 | 3) -> (channels, *size), as images are read from files (`rvqvae.io.sources`)."""
    picture = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
    if image.shape[:2] != size:
        picture = picture.resize(size[::-1], Image.Resampling.BICUBIC, reducing_gap=2.0)
    values = np.asarray(picture.convert("L" if channels == 1 else "RGB"))
    return values[None] if channels == 1 else values.transpose(2, 0, 1)


def load_served(folder: str | Path) -> ServedModel:
    """The model that `RobustVQVAE.save` wrote."""
    return ServedModel(RobustVQVAE.load(folder))


class _Guarded(ServedModel):
    """Refuses a request by status 400 and one sentence."""

    def predict(self, model_input: ArrayLike) -> pd.DataFrame:
        from mlflow.exceptions import MlflowException
        from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

        class Refused(MlflowException):
            def serialize_as_json(self) -> str:
                # The server writes the whole request into the message.
                return json.dumps({"error_code": self.error_code, "message": self.args[0]})

        try:
            return super().predict(model_input)
        except ValueError as error:  # InputError, or scikit-learn's of a matrix.
            reason = " ".join(str(error).split())
            raise Refused(reason, error_code=INVALID_PARAMETER_VALUE) from error


def _load_pyfunc(folder: str) -> ServedModel:
    """MLflow's entry point."""
    return _Guarded(RobustVQVAE.load(folder))
