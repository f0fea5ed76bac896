"""Train a model on a dirty source, and keep nothing but the model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rvqvae.commands.folder import PIXELS, check_outside, digest_of, locked
from rvqvae.commands.options import FitOptions, Progress
from rvqvae.commands.read import load_model, model_metadata, read_for_fit

if TYPE_CHECKING:
    from rvqvae.estimator import RobustVQVAE


class Trained(NamedTuple):
    """A saved model and what it makes of its training images."""

    out: Path
    contamination: float
    contamination_interval: tuple[float, float]
    verdict: str
    done_before: bool
    """Whether the model was there already, of the same options and files."""


def train(
    images: str | Path, out: str | Path, options: FitOptions | None = None, progress: Progress | None = None
) -> Trained:
    """Fit a model to the images of a source and save it as the folder `out`.

    The same call takes up a training that was cut short. InputError for bad input, an `out` inside
    `images`, in use, or holding something else.
    """
    images, out, options = Path(images), Path(out), options or FitOptions()
    check_outside(out, images)
    job = {"job": "train", "images": str(images.resolve()), **options.identity}
    inputs = digest_of(images)
    with locked(out) as folder:
        done = folder.claim(job, inputs)
        if done:
            model, _ = load_model(out)
        else:
            found = read_for_fit(images, folder, options, progress)
            model = fit_pixels(options, folder.work, progress)
            model.save(out, metadata=model_metadata(found.side))
            folder.finish()
    low, high = model.contamination_interval_
    return Trained(out, float(model.contamination_), (float(low), float(high)), model.verdict_, done)


def fit_pixels(options: FitOptions, work: Path, progress: Progress | None) -> RobustVQVAE:
    """A model fitted to the pixels in the folder ``work``."""
    # Open for writing, which nobody does: torch warns of arrays that it may not write to.
    images = np.load(work / PIXELS, mmap_mode="r+")
    return options.estimator(work, progress).fit(images)
