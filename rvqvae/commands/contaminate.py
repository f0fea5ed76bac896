"""Make a dirty folder on purpose, and keep the truth about it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rvqvae.commands.folder import check_outside, digest_of, locked
from rvqvae.commands.lines import before
from rvqvae.io.manifest import read_table, write_table
from rvqvae.io.reading import read_source
from rvqvae.io.sources import open_source
from rvqvae.progress import Progress, silent

TRUTH = "truth.csv"
COLUMNS = ("path", "is_outlier", "source")


class Mixed(NamedTuple):
    """A dirty folder."""

    out: Path
    images: int
    outliers: int
    done_before: bool

    def lines(self) -> list[str]:
        return [
            *before(self.done_before),
            f"{self.images:,} images are in {self.out}, {self.outliers:,} of them outliers; "
            f"{self.out / TRUTH} says which.",
        ]


def contaminate(
    inliers: str | Path,
    outliers: str | Path,
    out: str | Path,
    *,
    rate: float,
    total: int | None = None,
    size: int | None = None,
    seed: int = 0,
    workers: int | None = None,
    progress: Progress = silent,
) -> Mixed:
    """Mix outliers into inliers: a folder of PNGs, with truth.csv (path, is_outlier, source) in it.

    Neither names nor order, size or modes of the files tell which are outliers.

      rvqvae contaminate digits clothes --rate 0.2 --out dirty

    Args:
        inliers: a folder (with its subfolders), a .zip, or a .npz with an array x
        outliers: likewise
        out: folder of the mixture and its truth.csv
        rate: outliers / total, below 1
        total: images in all; by default all inliers are used
        progress: called with stage, steps done and steps in all

    Raises:
        InputError: for bad input or too few images, and for an ``out`` inside a source or holding something
            else
    """
    from rvqvae import contamination

    out = Path(out)
    check_outside(out, inliers, outliers)
    settings = {"rate": rate, "total": total, "size": size, "seed": seed}
    sources = {"inliers": str(Path(inliers).resolve()), "outliers": str(Path(outliers).resolve())}
    job = {"job": "contaminate", **sources, **settings}
    with (
        open_source(inliers) as first,
        open_source(outliers) as second,
        locked(out) as folder,
        folder.job(job, digest_of(first, second), [TRUTH]) as done,
    ):
        if not done:
            how: dict[str, Any] = {"workers": workers, "progress": progress, "deduplicate": False}
            found = [read_source(first, size=size, **how)]
            side = found[0].side  # The outliers are read alike.
            found.append(read_source(second, size=side.size, levels=side.levels, **how))
            channels = max(one.side.channels for one in found)
            kinds = [np.broadcast_to(one.images, (len(one.images), channels, *side.size)) for one in found]
            mixture = contamination.contaminate(kinds[0], kinds[1], rate, seed, total=total)
            names = _write(out, mixture.images, progress)
            origins = [found[int(outlier)] for outlier in mixture.is_outlier]
            rows = zip(names, mixture.is_outlier, origins, mixture.source_index, strict=True)
            truth = [(name, outlier, o.entries[o.rows[i]].path) for name, outlier, o, i in rows]
            write_table(out / TRUTH, COLUMNS, truth)
    flags = [row["is_outlier"] for _, row in read_table(out / TRUTH, COLUMNS, "mix again in another folder")]
    return Mixed(out, len(flags), flags.count("true"), done)


def _write(out: Path, images: NDArray[np.uint8], progress: Progress) -> list[str]:
    """Images (N, C, H, W) as PNGs; their names."""
    from rvqvae.figures import save_png

    digits = max(6, len(str(len(images))))
    names = [f"{i:0{digits}}.png" for i in range(len(images))]
    for done, (name, image) in enumerate(zip(names, images, strict=True), 1):
        save_png(out / name, image.transpose(1, 2, 0).squeeze())
        progress("write", done, len(names))
    return names
