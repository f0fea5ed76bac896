"""New images of the inliers only, from a saved model."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rvqvae.commands.folder import check_outside, digest_of, locked
from rvqvae.commands.lines import before
from rvqvae.commands.read import find_model, load_sampler, read_query
from rvqvae.errors import InputError, check_whole
from rvqvae.io.arrays import as_nchw
from rvqvae.io.pictures import Side
from rvqvae.progress import Progress, silent

GRID = "grid.png"


class Sampled(NamedTuple):
    """Where the images are."""

    out: Path
    images: int
    grid: Path
    done_before: bool

    def lines(self) -> list[str]:
        return [
            *before(self.done_before),
            f"{self.images:,} images are in {self.out}, all of them in {self.grid}.",
        ]


def sample(
    model: str | Path,
    out: str | Path,
    n: int = 64,
    *,
    temperature: float = 1.0,
    top_p: float = 1.0,
    like: str | Path | None = None,
    max_outlier_probability: float | None = None,
    seed: int = 0,
    device: str | None = None,
    progress: Progress = silent,
) -> Sampled:
    """Make new images of the inliers only: PNGs, and all of them as grid.png.

      rvqvae sample cleaned/model -n 64 --out samples
      rvqvae sample cleaned/model --like photo.png --out samples

    Args:
        out: folder of the images
        n: images to make
        temperature: below 1 purer and less varied
        top_p: draw each code from the likeliest that make up this share
        like: draw from the group of this image
        max_outlier_probability: draw again what the model takes for an outlier with a higher probability
        progress: called with stage, steps done and steps in all

    Raises:
        InputError: for a damaged model, or an ``out`` that holds something else
    """
    from rvqvae.figures import image_grid, save_png

    out = Path(out)
    check_whole("n", n)
    check_outside(out, model, *([like] if like is not None else []))
    how: dict[str, Any] = {
        "temperature": temperature, "top_p": top_p, "max_outlier_probability": max_outlier_probability,
    }  # fmt: skip
    job = {"job": "sample", "model": str(Path(model).resolve()), "n": n, "seed": seed} | how
    # First, as it may keep the prior in the model's folder.
    estimator, side = load_sampler(model, device, progress)
    inputs = digest_of(model=find_model(model))
    if like is not None:
        how["like"] = _shown(like, side)
        job["like"] = hashlib.sha256(how["like"].tobytes()).hexdigest()
    with locked(out) as folder, folder.job(job, inputs, [GRID]) as done:
        if not done:
            images = as_nchw(estimator.sample(n, random_state=seed, **how))
            digits = max(4, len(str(n - 1)))
            for i, image in enumerate(images):
                save_png(out / f"{i:0{digits}}.png", image.transpose(1, 2, 0).squeeze())
                progress("write", i + 1, n)
            save_png(out / GRID, image_grid(images, columns=math.ceil(math.sqrt(n))))
    return Sampled(out, n, out / GRID, done)


def _shown(image: str | Path, side: Side) -> NDArray[np.uint8]:
    """The one image (C, H, W) of ``image``, as the model wants it."""
    with read_query(image, side, None, silent) as found:
        if len(found.images) != 1:
            raise InputError(f"like={str(image)!r} holds {len(found.images)} readable images: give one")
        return np.array(found.images[0])
