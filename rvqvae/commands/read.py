"""Reading a source for a job, as new images or as a saved model knows them."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rvqvae.commands.folder import PIXELS, Folder
from rvqvae.commands.lines import counts_line
from rvqvae.commands.options import DEFAULTS, FitOptions
from rvqvae.errors import InputError
from rvqvae.io.ledger import CONFLICT, NEAR, Entry
from rvqvae.io.left_out import LeftOut
from rvqvae.io.manifest import Row
from rvqvae.io.pictures import SUFFIXES, Side
from rvqvae.io.reading import Inventory, read_source
from rvqvae.io.sources import Source
from rvqvae.progress import Progress, silent

if TYPE_CHECKING:
    from rvqvae.estimator import RobustVQVAE

MIN_IMAGES = 10


class Preview(NamedTuple):
    """What would be read."""

    side: Side
    counts: dict[str, int]
    """images, readable, unreadable, duplicates, near_duplicates."""
    bad: tuple[Entry, ...]
    """The unreadable ones."""
    account: dict[str, Any]
    """label_conflicts, levels, reduced_to_8_bits, left_out, archives, as in summary.json."""

    def lines(self) -> list[str]:
        height, width = self.side.size
        kind = "grey" if self.side.channels == 1 else "RGB"
        return [
            counts_line(self.counts, *self.counts),
            *account_lines(self.account),
            f"They would be read at {height} x {width} pixels, {kind}. Nothing was written.",
            *(f"unreadable: {entry.path}: {entry.reason}" for entry in self.bad[:20]),
        ]


def preview(images: str | Path, options: FitOptions = DEFAULTS, progress: Progress = silent) -> Preview:
    """Read every image as `clean` would, and write nothing that stays."""
    options.check_features()
    with TemporaryDirectory() as scratch:
        found = read_source(
            images,
            size=options.size,
            store=Path(scratch) / PIXELS,
            workers=options.workers,
            progress=progress,
        )
    bad = tuple(entry for entry in found.entries if entry.status == "unreadable")
    counts = {"images": len(found.entries), "readable": len(found.rows)}
    counts |= status_counts(found.entries)
    account = {"label_conflicts": counts.pop("label_conflicts"), **account_of(found)}
    return Preview(found.side, counts, bad, account)


def read_for_fit(
    images: str | Path | Source,
    folder: Folder,
    options: FitOptions,
    progress: Progress,
    labels: Mapping[str, str] | None = None,
    issues: bool = False,
) -> Inventory:
    """Read a source with its pixels in the work folder; InputError if that is too little to learn from."""
    options.check_features()
    store = folder.work / PIXELS
    found = read_source(
        images,
        size=options.size,
        store=store,
        workers=options.workers,
        progress=progress,
        labels=labels,
        issues=issues,
    )
    if len(found.rows) < MIN_IMAGES:
        place = images.path if isinstance(images, Source) else images
        raise InputError(
            f"{place} holds {len(found.rows)} different readable images, too few to learn from: give at "
            f"least {MIN_IMAGES}, better some 600"
        )
    # Writable, though nothing is written: torch warns of read-only arrays.
    return found._replace(images=np.load(store, mmap_mode="r+"))


def status_counts(entries: Sequence[Entry]) -> dict[str, int]:
    """unreadable, duplicates, near_duplicates, label_conflicts (images that are in two classes)."""
    status = Counter(entry.status for entry in entries)
    good = [entry.reason for entry in entries if entry.status == "ok"]
    return {
        "unreadable": status["unreadable"],
        "duplicates": status["duplicate"],
        "near_duplicates": sum(reason.startswith(NEAR) for reason in good),
        "label_conflicts": sum(reason.startswith(CONFLICT) for reason in good),
    }


def issue_counts(rows: Sequence[Row]) -> dict[str, dict[str, int]]:
    """Number of images of each kind of issue, for summary.json."""
    return {"issues": dict(Counter(kind for row in rows if row.issues for kind in row.issues.split("; ")))}


def account_of(found: Inventory) -> dict[str, Any]:
    """Facts for summary.json about images of more than 8 bits and files that are not images."""
    return {
        "levels": found.side.levels,
        "reduced_to_8_bits": found.reduced,
        "left_out": found.left_out.as_json(),
        "archives": sorted(found.left_out.archives),
    }


def account_lines(summary: Mapping[str, Any], copied: bool = False) -> list[str]:
    """Lines for the screen, from summary.json: how files were read, and which were left out."""
    lines = []
    if conflicts := summary.get("label_conflicts", 0):
        lines.append(f"{conflicts:,} images are in two classes, label conflicts: see their reason.")
    if issues := summary.get("issues"):
        named = ", ".join(f"{count:,} {kind}" for kind, count in issues.items())
        lines.append(f"Issues to look at, which nothing is dropped for: {named}.")
    if (levels := summary.get("levels")) is not None:
        low, high = levels
        lines.append(f"Grey values of more than 8 bits have one scale: {low:g} is black, {high:g} white.")
    if reduced := summary.get("reduced_to_8_bits", 0):
        lines.append(
            f"{reduced:,} images have colours of more than 8 bits, of which the upper 8 are read: convert "
            "images that use the lower ones only, which look black."
        )
    return lines + LeftOut.read(summary.get("left_out", {}), summary.get("archives", [])).lines(copied)


def model_metadata(side: Side) -> dict[str, Any]:
    """How images were read, to be saved with a model."""
    levels = {} if side.levels is None else {"levels": list(side.levels)}
    return {"size": list(side.size), "channels": side.channels} | levels


def find_model(path: str | Path) -> Path:
    """The folder of a model, or that of the one in the results of `clean`; InputError if it is missing."""
    path = Path(path)
    if not path.is_dir():
        raise InputError(f"{path} is not a folder: give a model that rvqvae train or rvqvae clean made")
    return path / "model" if (path / "model").is_dir() else path


def load_sampler(path: str | Path, device: str | None, progress: Progress) -> tuple[RobustVQVAE, Side]:
    """Load a model with its prior; fit the prior if it is missing, and save it in the model's folder."""
    estimator, side = load_model(path, device, progress)
    estimator.progress = progress
    if estimator.fit_prior():
        estimator.save(find_model(path))
    return estimator, side


def load_model(
    path: str | Path, device: str | None = None, progress: Progress = silent
) -> tuple[RobustVQVAE, Side]:
    """Load a model that `clean` or `train` saved, and the form in which it takes images."""
    folder = find_model(path)
    progress("model", 0, 1)  # What is imported now takes seconds.
    from rvqvae.estimator import RobustVQVAE

    model = RobustVQVAE.load(folder, device)
    progress("model", 1, 1)
    try:
        height, width = model.metadata_["size"]
        # Models of images of 8 bits have no levels, nor have those of earlier versions.
        levels = model.metadata_.get("levels")
        scale = None if levels is None else (float(levels[0]), float(levels[1]))
        return model, Side((int(height), int(width)), int(model.metadata_["channels"]), scale)
    except (LookupError, TypeError, ValueError) as error:
        raise InputError(
            f"{path} does not say how its images are read: make it with rvqvae train or rvqvae clean"
        ) from error


@contextmanager
def read_for_model(
    images: str | Path | Source,
    side: Side,
    scratch: Path | None = None,
    workers: int | None = None,
    progress: Progress = silent,
) -> Iterator[Inventory]:
    """Read every image in the form that a model takes, duplicates too.

    Inside the block, the pixels are in a file below `scratch`, by default in the temporary folder.
    """
    with TemporaryDirectory(prefix=".rvqvae-", dir=scratch) as folder:
        store = Path(folder) / PIXELS
        yield read_source(
            images, **side._asdict(), store=store, workers=workers, progress=progress, deduplicate=False
        )


@contextmanager
def read_query(query: str | Path, side: Side, workers: int | None, progress: Progress) -> Iterator[Inventory]:
    """Read a source, or a single image as a source of one."""
    path = Path(query)
    if not (path.is_file() and path.suffix.lower() in SUFFIXES):
        with read_for_model(path, side, None, workers, progress) as asked:
            yield asked
        return
    with TemporaryDirectory(prefix=".rvqvae-") as folder:
        shutil.copyfile(path, Path(folder) / path.name)
        with read_for_model(folder, side, None, workers, progress) as asked:
            yield asked
