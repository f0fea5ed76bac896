"""Train a model on a dirty source, and keep nothing but the model."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from rvqvae.commands.folder import check_outside, digest_of, locked
from rvqvae.commands.lines import before, verdict_line
from rvqvae.commands.options import DEFAULTS, FitOptions
from rvqvae.commands.read import load_model, model_metadata, read_for_fit
from rvqvae.io.sources import open_source
from rvqvae.progress import Progress, silent


class Trained(NamedTuple):
    """A saved model, and its verdict on the training images."""

    out: Path
    contamination: float
    contamination_interval: tuple[float, float]
    verdict: str
    done_before: bool
    """Whether the model was there already, of the same options and files."""

    def lines(self) -> list[str]:
        return [*before(self.done_before), verdict_line(self._asdict()), f"The model is in {self.out}."]


def train(
    images: str | Path,
    out: str | Path,
    options: FitOptions = DEFAULTS,
    *,
    progress: Progress = silent,
) -> Trained:
    """Train a model on images of which some do not belong, and save it as the folder OUT.

    The same command continues a training that was cut short.

      rvqvae train photos --out model
      rvqvae train photos.zip --out model --size 64 --contamination 0.1

    Args:
        out: folder of the model
        progress: called with stage, steps done and steps in all

    Raises:
        InputError: for bad input, and for an ``out`` inside ``images``, in use, or holding something else
    """
    images, out = Path(images), Path(out)
    check_outside(out, images)
    job = {"job": "train", "images": str(images.resolve()), **options.identity}
    with open_source(images) as source, locked(out) as folder, folder.job(job, digest_of(source)) as done:
        if done:
            model, _ = load_model(out)
        else:
            found = read_for_fit(source, folder, options, progress)
            model = options.estimator(folder.work, progress).fit(found.images)
            model.save(out, metadata=model_metadata(found.side))
    low, high = model.contamination_interval_
    return Trained(out, float(model.contamination_), (float(low), float(high)), model.verdict_, done)
