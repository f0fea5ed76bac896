"""Make a dirty folder on purpose, and keep the truth about it."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rvqvae.commands.folder import check_outside, digest_of, locked
from rvqvae.commands.options import Progress
from rvqvae.commands.record import write_csv
from rvqvae.contamination import Contaminated, contaminate
from rvqvae.figures import save_png
from rvqvae.io.reading import Inventory, read_source

TRUTH = "truth.csv"
COLUMNS = ("path", "is_outlier", "source")


class Mixed(NamedTuple):
    """A dirty folder."""

    out: Path
    images: int
    outliers: int
    done_before: bool


def contaminate_folders(
    inliers: str | Path,
    outliers: str | Path,
    out: str | Path,
    *,
    rate: float,
    total: int | None = None,
    size: int | None = None,
    seed: int = 0,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Mixed:
    """Write a shuffled mixture as PNGs, with ``truth.csv`` (path, is_outlier, source) beside them.

    `rate` is outliers / total. Every readable inlier is used, or `total` images in all. Neither the names
    of the files nor their order, size or modes tell which are outliers. InputError for bad input or too
    few images, or an `out` inside a source or holding something else.
    """
    out = Path(out)
    check_outside(out, inliers, outliers)
    settings = {"rate": rate, "total": total, "size": size, "seed": seed}
    sources = {"inliers": str(Path(inliers).resolve()), "outliers": str(Path(outliers).resolve())}
    inputs = digest_of(inliers, outliers)
    with locked(out) as folder:
        done = folder.claim({"job": "contaminate", **sources, **settings}, inputs) and (out / TRUTH).exists()
        if not done:
            found = _read_alike(inliers, outliers, size, workers, progress)
            channels = max(one.side.channels for one in found)
            kinds = [_in_channels(one.images, channels) for one in found]
            mixture = contaminate(kinds[0], kinds[1], rate, seed, total=total)
            names = _write(out, mixture.images, progress)
            write_csv(out / TRUTH, COLUMNS, _truth(names, mixture, found))
            folder.finish()
    flags = _flags(out / TRUTH)
    return Mixed(out, len(flags), flags.count("true"), done)


def _write(out: Path, images: NDArray[np.uint8], progress: Progress | None) -> list[str]:
    """Images (N, C, H, W) as PNGs; their names."""
    digits = max(6, len(str(len(images))))
    names = [f"{i:0{digits}}.png" for i in range(len(images))]
    for done, (name, image) in enumerate(zip(names, images, strict=True), 1):
        save_png(out / name, image.transpose(1, 2, 0).squeeze())
        if progress is not None:
            progress("write", done, len(names))
    return names


def _truth(
    names: Sequence[str], mixture: Contaminated, found: Sequence[Inventory]
) -> Iterator[tuple[str, str, str]]:
    for name, outlier, index in zip(names, mixture.is_outlier, mixture.source_index, strict=True):
        origin = found[int(outlier)]
        yield name, "true" if outlier else "false", origin.entries[origin.rows[index]].path


def _read_alike(
    inliers: str | Path,
    outliers: str | Path,
    size: int | None,
    workers: int | None,
    progress: Progress | None,
) -> tuple[Inventory, Inventory]:
    """Both at the size of the inliers."""
    first = read_source(inliers, size=size, workers=workers, progress=progress, deduplicate=False)
    second = read_source(
        outliers, size=first.side.size, workers=workers, progress=progress, deduplicate=False
    )
    return first, second


def _in_channels(images: NDArray[np.uint8], channels: int) -> NDArray[np.uint8]:
    return np.broadcast_to(images, (len(images), channels, *images.shape[2:]))


def _flags(truth: Path) -> list[str]:
    with truth.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        return [row["is_outlier"] for row in csv.DictReader(file)]
