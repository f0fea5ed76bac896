"""Clean a folder: what does not belong, with a page to review it and a copy of the rest."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rvqvae.commands.apply import CLEAN, copy_clean
from rvqvae.commands.folder import Folder, check_outside, digest_of, locked
from rvqvae.commands.options import Copy, FitOptions, Progress
from rvqvae.commands.read import model_metadata, read_for_fit, status_counts
from rvqvae.commands.record import peak_memory, versions, write_json
from rvqvae.commands.review import review_cards
from rvqvae.commands.train import fit_pixels
from rvqvae.errors import InputError
from rvqvae.io.manifest import Row, check_linkable, read_manifest, write_manifest
from rvqvae.io.reading import Entry, Inventory
from rvqvae.report import write_report

if TYPE_CHECKING:
    from rvqvae.estimator import RobustVQVAE

RESULTS = ("manifest.csv", "report.html", "summary.json", "model")
THRESHOLD = 0.5
"""On the outlier probability; where a contamination is given, the estimator moves the probability."""


class Cleaned(NamedTuple):
    """What a cleaning found, and where it is."""

    out: Path
    summary: dict[str, Any]
    """As in summary.json."""
    copied: int | None
    """Files in ``clean/``; None if no copy was asked for."""
    done_before: bool
    """Whether the results were there already, of the same options and files."""


def clean(
    images: str | Path,
    out: str | Path,
    options: FitOptions | None = None,
    *,
    copy: Copy | None = None,
    command: str = "",
    progress: Progress | None = None,
) -> Cleaned:
    """Fit a model to the images of a source and write manifest.csv, report.html, summary.json and model/.

    `copy` adds ``clean/`` with the kept files, or with links to them. The same call takes up a run that was
    cut short, and leaves a finished one as it is unless files of the source have changed since.

    InputError for bad input, an `out` inside `images`, in use, or holding something else.
    """
    images, out, options = Path(images), Path(out), options or FitOptions()
    check_outside(out, images)
    if copy == "link" and images.exists():
        check_linkable(images)
    job = {"job": "clean", "images": str(images.resolve()), **options.identity}
    inputs = digest_of(images)
    with locked(out) as folder:
        done = folder.claim(job, inputs) and all((out / name).exists() for name in RESULTS)
        if not done:
            _check_no_copy(out / CLEAN)
            _clean(images, folder, options, command, progress)
            folder.finish()
        copied = copy_clean(read_manifest(out / "manifest.csv"), images, folder, copy) if copy else None
        summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    return Cleaned(out, summary, copied, done)


def _clean(
    images: Path, folder: Folder, options: FitOptions, command: str, progress: Progress | None
) -> None:
    start, out = time.monotonic(), folder.path
    found = read_for_fit(images, folder, options, progress)
    estimator = fit_pixels(options, folder.work, progress)
    rows = manifest_rows(found, estimator)
    write_manifest(out / "manifest.csv", rows)
    shown = review_cards(found, estimator, THRESHOLD, options.seed, progress)
    summary = {
        **_counts(found.entries, rows),
        "contamination": float(estimator.contamination_),
        "contamination_interval": [round(float(end), 6) for end in estimator.contamination_interval_],
        "verdict": estimator.verdict_,
        "seed": options.seed,
        "size": list(found.side.size),
        "channels": found.side.channels,
        "seconds": round(time.monotonic() - start, 1),
        "peak_memory_gib": peak_memory(),
        "versions": versions(),
        "command": command,
    }
    write_report(
        out / "report.html",
        title=images.resolve().name,
        summary=summary,
        rows=rows,
        threshold=THRESHOLD,
        **shown._asdict(),
    )
    estimator.save(out / "model", metadata=model_metadata(found.side))
    write_json(out / "summary.json", summary)


def manifest_rows(found: Inventory, estimator: RobustVQVAE) -> list[Row]:
    """A row for every file: scores for the good ones, reasons for the others."""
    scores: NDArray[np.float64] = np.full(len(found.entries), np.nan)
    probability, kept = scores.copy(), np.zeros(len(scores), bool)
    scores[found.rows], probability[found.rows] = estimator.scores_, estimator.outlier_probability_
    kept[found.rows] = estimator.inlier_mask_
    return [
        Row(entry.path, entry.sha256, entry.status, float(score), float(p), bool(keep), _reason(entry, keep))
        for entry, score, p, keep in zip(found.entries, scores, probability, kept, strict=True)
    ]


def _reason(entry: Entry, keep: bool) -> str:
    if entry.status != "ok" or keep:
        return entry.reason
    return "; ".join(filter(None, ["outlier", entry.reason]))


def _counts(entries: Sequence[Entry], rows: Sequence[Row]) -> dict[str, int]:
    scored = sum(row.status == "ok" for row in rows)
    kept = sum(row.keep for row in rows)
    return {
        "images": len(rows),
        "scored": scored,
        **status_counts(entries),
        "kept": kept,
        "dropped": scored - kept,
    }


def _check_no_copy(copy: Path) -> None:
    if copy.exists():
        raise InputError(
            f"{copy} is the copy of an earlier cleaning of these images, which have changed since: give "
            "another folder"
        )
