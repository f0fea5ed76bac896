"""The one check of feature matrices that all metrics share."""

from __future__ import annotations

import numpy as np

from rvqvae.errors import InputError


def check_features(real: np.ndarray, generated: np.ndarray, at_least: int) -> tuple[np.ndarray, np.ndarray]:
    """Both matrices (N, d) and (M, d); InputError unless finite, with ``at_least`` rows each and equal d.

    float32 stays float32, as no metric needs a whole copy in float64; other dtypes become float64.
    """
    checked = []
    for name, value in (("real", real), ("generated", generated)):
        matrix = np.asarray(value)
        if matrix.dtype != np.float32:
            matrix = matrix.astype(np.float64, copy=False)
        if matrix.ndim != 2:
            raise InputError(f"{name} features have shape {matrix.shape}: give a matrix (images, features)")
        if len(matrix) < at_least:
            raise InputError(
                f"{name} has {len(matrix)} rows: {at_least} or more are needed; give more images, or lower k "
                "or subset_size where the metric has one"
            )
        if not np.isfinite(matrix).all():
            bad = int((~np.isfinite(matrix)).any(axis=1).sum())
            raise InputError(f"{name} has {bad} rows with NaN or infinite features: remove them first")
        checked.append(matrix)
    if checked[0].shape[1] != checked[1].shape[1]:
        raise InputError(
            f"real has {checked[0].shape[1]} features and generated {checked[1].shape[1]}: "
            "extract both with the same backbone"
        )
    dtype = np.result_type(*checked)
    return checked[0].astype(dtype, copy=False), checked[1].astype(dtype, copy=False)
