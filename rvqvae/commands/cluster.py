"""Sort images into groups that look alike, to be looked through group by group."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rvqvae.atomic import write_atomically
from rvqvae.commands.folder import Folder, check_outside, digest_of, locked
from rvqvae.commands.lines import before, counts_line
from rvqvae.commands.options import FitOptions
from rvqvae.commands.read import account_lines, account_of, read_for_fit, status_counts
from rvqvae.commands.record import peak_memory, write_json
from rvqvae.devices import usable_device
from rvqvae.errors import InputError, check_whole
from rvqvae.io.manifest import write_table
from rvqvae.io.reading import Inventory
from rvqvae.io.sources import Source, open_source
from rvqvae.model_card import versions
from rvqvae.progress import Progress, silent

COLUMNS = ("path", "sha256", "status", "cluster", "probability", "reason")
TABLE, SHEET, SUMMARY, GRIDS = "clusters.csv", "clusters.png", "summary.json", "clusters"
RESULTS = (TABLE, SHEET, SUMMARY, GRIDS)
SHOWN, COLUMNS_SHOWN = 256, 16
"""Images in the grid of a cluster at most, and in a row of any picture."""


class Clustered(NamedTuple):
    """What was sorted, and where it is."""

    out: Path
    summary: dict[str, Any]
    """As in summary.json."""
    done_before: bool
    """Whether the results were there already, of the same options and files."""

    def lines(self) -> list[str]:
        sizes = [group["images"] for group in self.summary["clusters"]]
        return [
            *before(self.done_before),
            counts_line(self.summary, "images", "clustered", "unreadable", "duplicates", "near_duplicates"),
            *account_lines(self.summary),
            f"{len(sizes):,} clusters of {min(sizes):,} to {max(sizes):,} images. In {self.out}: "
            "clusters.csv, clusters.png, clusters/, summary.json.",
        ]


def cluster(
    images: str | Path,
    out: str | Path,
    *,
    clusters: int | None = None,
    size: int | None = None,
    seed: int = 0,
    device: str | None = None,
    workers: int | None = None,
    command: str = "",
    progress: Progress = silent,
) -> Clustered:
    """Sort images into groups that look alike, without labels, to look through them group by group.

    Writes OUT/clusters.csv (every file found), clusters.png (a row of each, surest on the left),
    clusters/NN.png and summary.json. Cluster 0 is the largest. Images are compared by their pixels, features
    of EfficientNet-Lite0 and style.

      rvqvae cluster photos --out groups
      rvqvae cluster photos.zip --out groups --clusters 10

    Args:
        out: folder of the results
        clusters: groups; by default one per 25 images, at most 20
        command: what summary.json says that was run
        progress: called with stage, steps done and steps in all

    Raises:
        InputError: for bad input, and for an ``out`` inside ``images``, in use, or holding something else
    """
    images, out = Path(images), Path(out)
    options = FitOptions(size=size, seed=seed, device=device, workers=workers)
    check_outside(out, images)
    if clusters is not None:
        check_whole("clusters", clusters, 2)
    job = {"job": "cluster", "images": str(images.resolve()), "clusters": clusters}
    job |= {"size": options.size, "seed": options.seed}
    with open_source(images) as source, locked(out) as folder:
        with folder.job(job, digest_of(source), RESULTS) as done:
            if not done:
                _cluster(source, folder, clusters, options, command, progress)
        summary = json.loads((out / SUMMARY).read_text(encoding="utf-8"))
    return Clustered(out, summary, done)


def _cluster(
    source: Source,
    folder: Folder,
    clusters: int | None,
    options: FitOptions,
    command: str,
    progress: Progress,
) -> None:
    from rvqvae.clustering.clusters import default_clusters, find_clusters
    from rvqvae.detector import views_of
    from rvqvae.features.pretrained import DEFAULT
    from rvqvae.figures import image_grid, save_png
    from rvqvae.membership.view import JointView

    start, out, device = time.monotonic(), folder.path, usable_device(options.device)
    found = read_for_fit(source, folder, options, progress)
    n = len(found.images)
    k = default_clusters(n) if clusters is None else clusters
    if k > n:
        raise InputError(f"clusters={k} is more than the {n} different readable images: ask for fewer")
    progress("features", 0, n)
    views = views_of(found.images, DEFAULT, device)
    progress("features", n, n)
    vectors = JointView.fit(views, options.seed)(views)
    groups = find_clusters(vectors, k, seed=options.seed, device=device, progress=progress)
    order = np.argsort(-groups.probability, kind="stable")
    members = [order[groups.labels[order] == number] for number in range(k)]  # the surest first
    for old in (out / GRIDS).glob("*.png"):  # Of other files in the same folder, with more clusters.
        old.unlink()
    for number, rows in enumerate(members):
        if len(rows):
            save_png(out / GRIDS / f"{number:02d}.png", image_grid(found.images[rows[:SHOWN]], COLUMNS_SHOWN))
        progress("write", number + 1, k)
    write_atomically(out / SHEET, _sheet(found.images, members))
    write_table(out / TABLE, COLUMNS, _rows(found, groups.labels, groups.probability))
    summary = {
        "images": len(found.entries),
        "clustered": n,
        **status_counts(found.entries),
        **account_of(found),
        "clusters": [
            {
                "cluster": number,
                "images": len(rows),
                "probability": round(float(groups.probability[rows].mean()), 4) if len(rows) else None,
            }
            for number, rows in enumerate(members)
        ],
        "seed": options.seed,
        "size": list(found.side.size),
        "channels": found.side.channels,
        "seconds": round(time.monotonic() - start, 1),
        "peak_memory_gib": peak_memory(),
        "versions": versions(),
        "command": command,
    }
    write_json(out / SUMMARY, summary)


def _sheet(images: NDArray[np.uint8], members: Sequence[NDArray[np.intp]]) -> bytes:
    """A row for each cluster, as PNG: images spread evenly from the surest to the least sure."""
    from rvqvae.figures import generation_figure, png_of

    shown, captions = {}, {}
    for number, rows in enumerate(members):
        if len(rows):
            some = np.unique(np.linspace(0, len(rows) - 1, COLUMNS_SHOWN).astype(int))
            shown[f"cluster {number}"] = images[rows[some]]
            captions[f"cluster {number}"] = f"{len(rows):,} images"
    figure = generation_figure(
        shown,
        captions,
        columns=COLUMNS_SHOWN,
        note="From the surest member on the left to the least sure on the right.",
    )
    return png_of(figure)


def _rows(
    found: Inventory, labels: NDArray[np.int64], probability: NDArray[np.float32]
) -> list[tuple[object, ...]]:
    cells: list[tuple[object, object]] = [("", "")] * len(found.entries)
    for row, label, p in zip(found.rows, labels, probability, strict=True):
        cells[row] = label, round(float(p), 6)
    return [
        (entry.path, entry.sha256, entry.status, *pair, entry.reason)
        for entry, pair in zip(found.entries, cells, strict=True)
    ]
