"""Measure a saved model against images whose kind is known: clean ones, and perhaps outliers."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rvqvae.commands.folder import check_file
from rvqvae.commands.lines import words
from rvqvae.commands.read import load_model, read_for_model
from rvqvae.commands.record import write_json
from rvqvae.commands.score import score_images
from rvqvae.errors import InputError, check_whole
from rvqvae.io.arrays import as_nchw
from rvqvae.model_card import versions
from rvqvae.progress import Progress, silent

MIN_IMAGES = 20
STAGES = 4


class Evaluated(NamedTuple):
    """Where the measures are, and what they are."""

    out: Path
    metrics: dict[str, Any]
    """As in the file."""

    def lines(self) -> list[str]:
        measures = {name: value for name, value in self.metrics.items() if isinstance(value, float)}
        return [
            *(f"{words(name)}: {value:.4g}" for name, value in measures.items()),
            f"All is in {self.out}.",
        ]


def evaluate(
    model: str | Path,
    out: str | Path,
    *,
    reference: str | Path,
    outliers: str | Path | None = None,
    n: int = 1000,
    seed: int = 0,
    workers: int | None = None,
    device: str | None = None,
    progress: Progress = silent,
) -> Evaluated:
    """Measure a model's samples against clean images, and its scores against known outliers.

    Distances are between features of EfficientNet-Lite0, so they are not FID and KID. With OUTLIERS: the
    AUROC of the scores, and the share of the samples that an independent judge calls inlier; it learns from
    every other image of both, and its own error is measured on the rest.

      rvqvae evaluate model --reference clean_test --out metrics.json
      rvqvae evaluate model --reference clean_test --outliers others --out metrics.json

    Args:
        reference: clean images that the model has not seen: a folder, a .zip, or a .npz with an array x
        outliers: images that do not belong, likewise
        out: file to write, such as metrics.json
        n: images to make and measure
        progress: called with stage, steps done and steps in all

    Raises:
        InputError: for bad input, fewer than 20 images or samples, or an ``out`` inside a folder that is read
    """
    from rvqvae.features.pretrained import extract_features
    from rvqvae.metrics import generation_metrics

    start, out = time.monotonic(), Path(out)
    check_whole("n", n, MIN_IMAGES)
    check_file(out, "metrics.json", model, reference, *([outliers] if outliers is not None else []))
    estimator, side = load_model(model, device, progress)
    estimator.progress = progress

    def read(source: str | Path) -> NDArray[np.uint8]:
        with read_for_model(source, side, None, workers, progress) as found:
            images = np.array(found.images)
        if len(images) < MIN_IMAGES:
            raise InputError(f"{source} holds {len(images)} readable images: give at least {MIN_IMAGES}")
        return images

    real, others = read(reference), None if outliers is None else read(outliers)
    progress("measure", 0, STAGES)
    samples = as_nchw(estimator.sample(n, random_state=seed))
    progress("measure", 1, STAGES)
    features = extract_features(real, device=device)
    progress("measure", 2, STAGES)
    measured = generation_metrics(features, extract_features(samples, device=device))._asdict()
    progress("measure", 3, STAGES)
    metrics: dict[str, Any] = {
        **measured,
        **({} if others is None else _against(real, others, samples, estimator, seed)),
        "features": "efficientnet_lite0",
        "samples": n,
        "reference": len(real),
        "outliers": None if others is None else len(others),
        "seed": seed,
        "seconds": round(time.monotonic() - start, 1),
        "versions": versions(),
    }
    progress("measure", 4, STAGES)
    write_json(out, metrics)
    return Evaluated(out, metrics)


def _against(
    real: NDArray[np.uint8], others: NDArray[np.uint8], samples: NDArray[np.uint8], estimator: Any, seed: int
) -> dict[str, float]:
    from sklearn.metrics import roc_auc_score

    from rvqvae.metrics import InlierClassifier, purity

    scores = np.concatenate([score_images(estimator, images).scores for images in (real, others)])
    truth = np.arange(len(scores)) >= len(real)
    arbiter = InlierClassifier.fit(real[::2], others[::2], seed)
    error = arbiter.test(real[1::2], others[1::2])
    return {
        "auroc": float(roc_auc_score(truth, -scores)),
        "purity": purity(arbiter, samples),
        "judge_error": error,
    }
