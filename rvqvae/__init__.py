"""Robust VQ-VAE: learn the majority of a dirty image set; sample its inliers only; tell its outliers.

Names are imported on first use, so that ``import rvqvae`` does not wait for torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOME = {
    "InputError": "errors",
    "ModelConfig": "config",
    "PriorConfig": "config",
    "RobustVQVAE": "estimator",
    "TrainConfig": "config",
    "clean": "commands.table",
    "contaminate": "contamination",
    "extract_features": "features.pretrained",
    "extract_views": "features.pretrained",
    "fit": "vqvae.training",
    "fit_prior": "priors",
    "load_images": "io.reading",
    "log_model": "tracking.runs",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'rvqvae' has no attribute {name!r}")
    return getattr(import_module(f"rvqvae.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return list(__all__)
