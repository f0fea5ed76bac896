"""Do heat maps show where an image is wrong? Defects are planted in held-out images, with their masks.

    python -m pipelines.heat_maps                              # the committed digits
    python -m pipelines.heat_maps --images DOMAIN.npz          # any images: x uint8 (N, H, W[, 3])

Maps are made with clean images alone. Half of the held-out images get a spot, a scratch, or a square from
another place of another image. The AUROC is that of all pixels of the images with a defect, inside the mask
against outside.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jsonargparse import auto_cli
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from rich.console import Console
from sklearn.metrics import roc_auc_score

from data.recipes import load
from pipelines.common.command import exit_status
from pipelines.common.labelled import halved, labelled_images
from pipelines.common.tables import Sheet, as_markdown, as_rich
from rvqvae.atomic import write_atomically
from rvqvae.commands.score import overlay
from rvqvae.errors import InputError
from rvqvae.figures import image_grid, save_png
from rvqvae.io.arrays import as_nchw
from rvqvae.vqvae.heat_maps import HeatMaps

Images = NDArray[np.uint8]
Maps = NDArray[np.float32]
KINDS = ("spot", "scratch", "square")
VISIBLE = 16
"""Levels that a pixel of a defect differs by."""
SHOWN = 8


class Planted(NamedTuple):
    """Images with defects."""

    images: Images
    masks: NDArray[np.bool_]
    """(N, H, W)."""
    kinds: NDArray[np.str_]


def plant(images: Images, seed: int) -> Planted:
    """One defect in each of the images (N, C, H, W), of every kind by turns."""
    rng, planted, masks = np.random.default_rng(seed), images.copy(), []
    _, channels, height, width = images.shape
    for i, image in enumerate(planted):
        mask, side = Image.new("1", (width, height)), min(height, width)
        draw, kind = ImageDraw.Draw(mask), KINDS[i % len(KINDS)]
        x, y = rng.uniform(0.2, 0.8) * width, rng.uniform(0.2, 0.8) * height
        if kind == "scratch":
            angle, length = rng.uniform(0, np.pi), rng.uniform(0.2, 0.4) * side
            dx, dy = length * np.cos(angle) / 2, length * np.sin(angle) / 2
            draw.line((x - dx, y - dy, x + dx, y + dy), 1, max(1, round(side / 32)))
        else:
            a, b = rng.uniform(0.06, 0.14, 2) * side
            (draw.ellipse if kind == "spot" else draw.rectangle)((x - a, y - b, x + a, y + b), 1)
        inside = np.asarray(mask)
        if kind == "square":
            other = np.roll(images[(i + 1 + rng.integers(len(images) - 1)) % len(images)], side // 2, (1, 2))
            image[:, inside] = other[:, inside]
        else:
            colour = rng.integers(0, 256, (channels, 1))
            image[:, inside] = np.round(0.3 * image[:, inside] + 0.7 * colour).astype(np.uint8)
        # Black on black is no defect.
        masks.append(inside & (np.abs(image.astype(int) - images[i]).max(0) > VISIBLE))
    return Planted(planted, np.array(masks), np.array([KINDS[i % len(KINDS)] for i in range(len(images))]))


def heat_maps(
    images: str | None = None,
    total: int = 2000,
    seed: int = 0,
    out: str = "runs/heat_maps",
) -> None:
    """Measure the maps of one set.

    Args:
        images: a .npz with x and y; without it the committed digits
        total: images at most; one in six is held out
        seed: of split, places and defects
        out: folder of table.md and maps.png
    """
    x, kinds = load("mnist") if images is None else labelled_images(images)
    few = np.random.default_rng(seed).permutation(len(x))[:total]
    (training, _), (held_out, _) = halved(as_nchw(x)[few], kinds[few])
    if len(held_out) < 2 * len(KINDS):
        raise InputError(f"{len(few)} images are too few: give {12 * len(KINDS)} or more")
    maps = HeatMaps.fit(training, seed)
    clean, planted = held_out[1::2], plant(held_out[::2], seed)
    found, usual = maps(planted.images), maps(clean)
    rows = [line(found, usual, planted)]
    head = ["pixel AUROC: all", *KINDS, "defect above 1", "clean image above 1"]
    note = f"{len(training):,} training images, {len(clean)} clean ones, {len(planted.images)} with a defect."
    sheet = Sheet("", head, rows, note)
    write_atomically(Path(out) / "table.md", as_markdown([sheet]).encode())
    layers = [*map(overlay, planted.images[:SHOWN], found), *map(overlay, clean[:SHOWN], usual)]
    pictures = np.concatenate(
        [
            colour(planted.images[:SHOWN]),
            np.stack(layers[:SHOWN]).transpose(0, 3, 1, 2),
            colour(clean[:SHOWN]),
            np.stack(layers[SHOWN:]).transpose(0, 3, 1, 2),
        ]
    )
    save_png(Path(out) / "maps.png", image_grid(pictures, columns=SHOWN))
    Console().print(as_rich(sheet))


def line(maps: Maps, usual: Maps, planted: Planted) -> list[str]:
    """Of ``maps`` of the planted images, and the ``usual`` ones of clean images, where 1 is usual."""
    chosen = [np.ones(len(maps), bool), *(planted.kinds == kind for kind in KINDS)]
    numbers = [roc_auc_score(planted.masks[rows].ravel(), maps[rows].ravel()) for rows in chosen]
    shares = [(maps[planted.masks] > 1).mean(), (usual > 1).mean()]
    return [f"{number:.3f}" for number in numbers + shares]


def colour(images: Images) -> Images:
    return np.broadcast_to(images, (len(images), 3, *images.shape[2:]))


def main() -> int:
    return exit_status(lambda: auto_cli(heat_maps))


if __name__ == "__main__":
    sys.exit(main())
