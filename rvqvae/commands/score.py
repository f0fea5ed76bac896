"""Score new images with a saved model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rvqvae.commands.folder import check_file, check_outside, digest_of, locked, work_beside
from rvqvae.commands.read import account_lines, account_of, find_model, load_model, read_for_model
from rvqvae.errors import InputError
from rvqvae.io.manifest import write_table
from rvqvae.io.reading import Inventory
from rvqvae.io.sources import open_source
from rvqvae.progress import Progress, silent

if TYPE_CHECKING:
    from rvqvae.estimator import RobustVQVAE

COLUMNS = ("path", "status", "score", "outlier_probability", "is_outlier", "reason")
BATCH = 4096


class Scored(NamedTuple):
    """Counts of scored images, and where the results are written."""

    out: Path
    images: int
    unreadable: int
    outliers: int
    maps: Path | None
    account: dict[str, Any]
    """levels, reduced_to_8_bits, left_out, archives, as `clean` has them in summary.json."""

    def lines(self) -> list[str]:
        maps = f", heat maps in {self.maps}" if self.maps else ""
        return [
            f"{self.images:,} images: {self.outliers:,} outliers, {self.unreadable:,} unreadable.",
            *account_lines(self.account),
            f"The table is {self.out}{maps}.",
        ]


class ImageScores(NamedTuple):
    """Scores of M images."""

    scores: NDArray[np.float64]
    """(M,), higher is more normal."""
    probability: NDArray[np.float64]
    """(M,) of being an outlier."""
    is_outlier: NDArray[np.bool_]
    """(M,)."""


def score(
    model: str | Path,
    images: str | Path,
    out: str | Path,
    *,
    maps: str | Path | None = None,
    seed: int = 0,
    device: str | None = None,
    workers: int | None = None,
    progress: Progress = silent,
) -> Scored:
    """Score new images: a table with path, status, score, outlier_probability, is_outlier and reason.

    A higher score is more normal. Scores depend neither on the seed nor on the other images.

      rvqvae score cleaned/model new --out scores.csv
      rvqvae score cleaned/model new.zip --out scores.csv --maps maps

    Args:
        out: table to write, such as scores.csv
        maps: folder for heat maps over the images
        progress: called with stage, steps done and steps in all

    Raises:
        InputError: for bad input, a damaged model, or an output inside ``images``
    """
    out, maps = Path(out), None if maps is None else Path(maps)
    check_file(out, "scores.csv", images, model)
    check_outside(maps or out, images, model)
    estimator, side = load_model(model, device, progress)
    if maps is not None:  # What has no networks is refused now, not after the scoring.
        estimator.anomaly_map(np.zeros((1, side.channels, *side.size), np.uint8))
    out.parent.mkdir(parents=True, exist_ok=True)
    with (
        open_source(images) as source,
        work_beside(out) as scratch,
        read_for_model(source, side, scratch, workers, progress) as found,
    ):
        scored = score_images(estimator, found.images, progress)
        if maps is not None:
            job = {"job": "maps", "model": str(Path(model).resolve()), "images": str(Path(images).resolve())}
            inputs = digest_of(source, model=find_model(model))
            with locked(maps) as folder, folder.job(job, inputs):
                _write_maps(estimator, found, maps, progress)
        write_table(out, COLUMNS, _rows(found, scored))
    unreadable = len(found.entries) - len(found.rows)
    outliers = int(scored.is_outlier.sum())
    return Scored(out, len(found.entries), unreadable, outliers, maps, account_of(found))


def score_images(
    estimator: RobustVQVAE, images: NDArray[np.uint8], progress: Progress = silent
) -> ImageScores:
    """Scores of uint8 images (M, C, H, W), a batch at a time."""
    from scipy.special import expit

    parts = []
    for start in range(0, len(images), BATCH):
        batch = images[start : start + BATCH]
        parts.append(estimator.score_samples(batch))
        progress("score", start + len(batch), len(images))
    scores = np.concatenate(parts)
    # As outlier_probability and predict do, which would each look at every image again.
    return ImageScores(scores, expit(-scores), scores < estimator.offset_)


def _rows(found: Inventory, scored: ImageScores) -> list[list[object]]:
    said: list[tuple[object, ...]] = [("", "", "")] * len(found.entries)
    for row, *values in zip(found.rows, *scored, strict=True):
        said[row] = tuple(values)
    return [
        [entry.path, entry.status, *values, entry.reason]
        for entry, values in zip(found.entries, said, strict=True)
    ]


def _write_maps(estimator: RobustVQVAE, found: Inventory, out: Path, progress: Progress) -> None:
    """``NAME.png`` for every image ``NAME``: the image with the evidence against each pixel on top."""
    from rvqvae.figures import save_png

    targets = [_target(out, found.entries[row].path) for row in found.rows]
    for start in range(0, len(targets), BATCH):
        images = found.images[start : start + BATCH]
        heat = estimator.anomaly_map(images)
        for target, image, evidence in zip(targets[start : start + BATCH], images, heat, strict=True):
            save_png(target, overlay(image, evidence))
        progress("maps", start + len(images), len(targets))


def overlay(image: NDArray[np.uint8], heat: NDArray[np.float32]) -> NDArray[np.uint8]:
    """An image (C, H, W) under its heat map (H, W), as (H, W, 3)."""
    from rvqvae.report import heat_colours

    colour = np.broadcast_to(image, (3, *image.shape[1:])).transpose(1, 2, 0)
    picture = Image.fromarray(np.ascontiguousarray(colour)).convert("RGBA")
    picture.alpha_composite(Image.fromarray(heat_colours(heat)))
    return np.asarray(picture.convert("RGB"))


def _target(out: Path, name: str) -> Path:
    target = out / f"{name}.png"
    if not target.resolve().is_relative_to(out.resolve()):
        raise InputError(f"{name!r} leads out of {out}: rename the file, or leave --maps out")
    return target
