"""One model of an experiment: train, fit the prior, sample, and measure the samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from time import process_time
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import precision_score, recall_score, roc_auc_score

from pipelines.generation.figures import curves_figure, score_histogram
from pipelines.generation.filters import FILTERS, keep
from pipelines.generation.reference import Images, Reference
from pipelines.generation.settings import Method, Settings
from rvqvae.config import ModelConfig, TrainConfig
from rvqvae.contamination import Contaminated
from rvqvae.figures import generation_figure, image_grid, save_png
from rvqvae.membership import Membership
from rvqvae.priors.groups import fit_code_prior
from rvqvae.tracking.runs import Tracker
from rvqvae.vqvae.inference import decode_codes, inlier_codes
from rvqvae.vqvae.training import Fitted, fit

MEMBERSHIP: dict[str, Literal["robust", "literal", "all"]] = {
    "oracle": "all", "robust": "robust", "literal": "literal", "plain": "all", "judge": "all",
    "iforest": "all", "knn": "all",
}  # fmt: skip
SHOWN, PAIRS = 32, 16  # images of a grid; images above their reconstructions
Report = Callable[[dict[str, float], int], None]


class Trained(NamedTuple):
    """One method's way from data to new images."""

    fitted: Fitted
    reconstructions: Images
    """Of the first images of the data, through the inlier codebook."""
    samples: Images


@contextmanager
def timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    begin = process_time()
    yield
    seconds[stage] = round(process_time() - begin, 1)


def train_and_sample(
    data: Images,
    start: Membership | None,
    settings: Settings,
    model: ModelConfig,
    train: TrainConfig,
    seed: int,
    directory: Path,
    seconds: dict[str, float],
    report: Report,
) -> Trained:
    """Train on ``data`` (N, C, H, W), fit the prior on the kept inliers only, and sample."""
    with timed(seconds, "train"):
        fitted = fit(
            data, model, train, seed=seed, start=start, directory=directory,
            on_epoch=lambda epoch, metrics: report(metrics, epoch),
        )  # fmt: skip
    with timed(seconds, "prior"):
        codes = inlier_codes(fitted.model, data[~fitted.membership.is_outlier])
        prior = fit_code_prior(
            fitted.model, codes, settings.prior, seed=seed,
            on_epoch=lambda epoch, metrics: report({f"prior_{k}": v for k, v in metrics.items()}, epoch),
        )  # fmt: skip
    with timed(seconds, "sample"):
        drawn = prior.sample(settings.samples, fitted.model.grid, seed=seed)
        samples = decode_codes(fitted.model, drawn).numpy()
    shown = inlier_codes(fitted.model, torch.as_tensor(data[:SHOWN]))
    return Trained(fitted, decode_codes(fitted.model, shown).numpy(), samples)


def outlier_metrics(membership: Membership, truth: NDArray[np.bool_]) -> dict[str, float | None]:
    """How well the sets agree with the truth; AUROC and recall need outliers, precision a decision."""
    auroc = float(roc_auc_score(truth, -membership.score)) if 0 < truth.sum() < len(truth) else None
    return {"auroc": auroc} | precision_and_recall(membership.is_outlier, truth)


def precision_and_recall(found: NDArray[np.bool_], truth: NDArray[np.bool_]) -> dict[str, float | None]:
    return {
        "outlier_precision": float(precision_score(truth, found)) if found.any() else None,
        "outlier_recall": float(recall_score(truth, found)) if truth.any() else None,
    }


def training_rows(method: Method, mixture: Contaminated, start: Membership, seed: int) -> NDArray[np.bool_]:
    """(N,) the images that a method is given: to the oracle the clean ones, to a filter what it keeps."""
    if method == "oracle":
        return ~mixture.is_outlier
    if method == "judge":
        return ~start.is_outlier
    return keep(method, mixture, seed) if method in FILTERS else np.ones(len(mixture.images), bool)


def run_method(
    method: Method,
    mixture: Contaminated,
    start: Membership,
    reference: Reference,
    settings: Settings,
    seed: int,
    tracker: Tracker,
    advance: Callable[[], object],
) -> dict[str, Any]:
    """Train and measure one model; pictures go to the tracker. Its row of results."""
    seen = training_rows(method, mixture, start, seed)
    data, truth = mixture.images[seen], mixture.is_outlier[seen]
    train = replace(settings.train, membership=MEMBERSHIP[method])
    # The literal rule comes with the weighted distance that the abstract asks for.
    model = replace(settings.model, distance="inverse_std") if method == "literal" else settings.model
    folder, seconds = tracker.directory, {}

    def report(metrics: dict[str, float], epoch: int) -> None:
        tracker.metrics(metrics, epoch)
        advance()

    resumed = (folder / "training.pt").exists()
    trained = train_and_sample(
        data, start if method == "robust" else None, settings, model, train, seed, folder, seconds, report
    )
    with timed(seconds, "evaluate"):
        row: dict[str, Any] = {"auroc": None, "outlier_precision": None, "outlier_recall": None}
        membership = trained.fitted.membership
        if method == "judge" or method in FILTERS:
            row |= precision_and_recall(~seen, mixture.is_outlier)
        if train.membership != "all":
            row = outlier_metrics(membership, truth)
            tracker.figure(score_histogram(membership.score, truth), "scores.png")
        row |= reference.measure(trained.samples, mixture.images[~mixture.is_outlier])
        row |= reference.measure_reconstructions(trained.fitted.model)
    pairs = {"original": data[:PAIRS], "reconstruction": trained.reconstructions[:PAIRS]}
    marks = dict.fromkeys(pairs, membership.is_outlier[:PAIRS])
    tracker.figure(generation_figure(pairs, flagged=marks), "reconstructions.png")
    tracker.figure(curves_figure(trained.fitted.history), "curves.png")
    for name, images in (("originals.png", data[:SHOWN]), ("samples.png", trained.samples[: 4 * SHOWN])):
        save_png(folder / name, image_grid(images))
        tracker.artifact(folder / name)
    tracker.metrics({f"final_{key}": value for key, value in row.items()})
    judged = reference.judge.predict_inlier(trained.samples)
    np.savez_compressed(folder / "samples.partial.npz", x=trained.samples, is_inlier=judged)
    (folder / "samples.partial.npz").replace(folder / "samples.npz")
    # A resumed training has lost the time of its first part.
    total = None if resumed else round(sum(seconds.values()), 1)
    return row | {"seconds": total, "stages": seconds, "resumed": resumed}
