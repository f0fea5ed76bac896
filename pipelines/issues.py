"""Faults that are planted in folders of images: what `rvqvae clean`, CleanVision and cleanlab find of them.

    python -m pipelines.issues --root ROOT                      # domains of a folder
    python -m pipelines.issues --root ROOT --photos PHOTOS      # and crops of photographs
    python -m pipelines.issues --root ROOT --domains [sprites,clipart] --total 500

ROOT holds a .npz for each domain (`pipelines.common.domains`). A fault of each kind is planted in a share
of the images, and a share of the labels is changed; everybody keeps their defaults. Precision counts the
images without a planted fault that are named, too; images with another planted fault don't count, as a dark
image has little information, too. Grey is also whoever had no colour before. CleanVision and cleanlab are in
the dependency group `peers`.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Collection, Iterator
from contextlib import redirect_stderr, redirect_stdout
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time
from typing import NamedTuple

import numpy as np
from jsonargparse import auto_cli
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console

from pipelines.common.command import exit_status
from pipelines.common.domains import Folder
from pipelines.common.tables import Sheet, as_rich
from pipelines.judging.faults import PLANTS, Picture, photographs, plant
from rvqvae import RobustVQVAE
from rvqvae.commands.export import CLEANVISION
from rvqvae.errors import InputError
from rvqvae.io.reading import read_source
from rvqvae.membership.labels import check_labels, neighbour_shares

NAMES = {theirs: ours for ours, theirs in CLEANVISION.items()} | {"near_duplicates": "near duplicate"}
"""CleanVision's names of our kinds."""
Named = dict[str, set[str]]


class Found(NamedTuple):
    """What somebody named, by kind, and what it cost."""

    named: Named
    seconds: float
    """Of CPU time, reading included."""


def issues(
    root: str = "../shared/suite",
    photos: str | None = None,
    domains: tuple[str, ...] = ("photos2", "clipart", "textures", "sprites", "textpages"),
    total: int = 1000,
    share: float = 0.03,
    noise: tuple[float, ...] = (0.1, 0.3),
    seed: int = 0,
) -> None:
    """Print precision and recall of each kind, and of changed labels.

    Args:
        root: folder of the domains
        photos: folder of photographs of 640 pixels or more; crops of them are another domain
        domains: which of the folder
        total: images of each at most
        share: of the images that each fault is planted in
        noise: shares of the labels that are changed
        seed: of the draw
    """
    for library in ("cleanvision", "cleanlab"):
        if find_spec(library) is None:
            raise InputError(f"{library} is not installed: run `uv sync --group peers`")
    if total < 50 or not 0 < share <= 0.05 or not all(0 < rate < 1 for rate in noise):
        raise InputError("total must be >= 50, share above 0 and up to 0.05, noise between 0 and 1")
    folder, console = Folder(Path(root)), Console(width=160)
    if unknown := [name for name in domains if name not in folder.names()]:
        raise InputError(f"domains={unknown} are not in {root}: choose from {', '.join(folder.names())}")
    sources = (["photographs"] if photos else []) + list(domains)
    for name in sources:
        rng = np.random.default_rng(seed)
        drawn = (
            photographs(Path(photos), total, rng)
            if name == "photographs" and photos
            else tiles(folder, name, rng)
        )
        with TemporaryDirectory() as scratch:
            place = Path(scratch) / name
            console.print(as_rich(of_faults(name, place, plant(drawn, total, share, place, rng))))
    console.print(as_rich(of_labels(folder, domains, total, noise, seed)))


def tiles(folder: Folder, name: str, rng: np.random.Generator) -> Iterator[Picture]:
    """The images of a domain, shuffled."""
    images = folder.domain(name).images
    return (Image.fromarray(images[i]) for i in rng.permutation(len(images)))


def of_faults(name: str, folder: Path, truth: dict[str, str | None]) -> Sheet:
    """Precision and recall of each kind beside CleanVision's."""
    ours, theirs = by_us(folder), by_cleanvision(folder)
    clean = {path for path, kind in truth.items() if kind is None}
    grey = {path for path in clean if not coloured(folder / path)}
    lines = []
    for kind in PLANTS:
        planted = {path for path, one in truth.items() if one == kind} | (grey if kind == "grey" else set())
        if planted and (kind != "grey" or len(grey) < len(clean) / 2):
            cells = [
                measured(found.named.get(kind, set()), planted, clean - planted) for found in (ours, theirs)
            ]
            lines.append([kind, str(len(planted)), *cells[0], *cells[1]])
    note = f"CPU seconds: reading with ours {ours.seconds:.1f}, CleanVision {theirs.seconds:.1f}"
    head = ["", "planted", "precision", "recall", "F1", "CleanVision precision", "recall", "F1"]
    return Sheet(f"{name}: {len(truth):,} files", head, lines, note)


def measured(named: Collection[str], planted: set[str], clean: set[str]) -> list[str]:
    """Precision, recall and F1 as texts."""
    hits, wrong = len(planted & set(named)), len(clean & set(named))
    precision = hits / (hits + wrong) if hits + wrong else float("nan")
    f1 = 2 * hits / (hits + wrong + len(planted))
    return [f"{precision:.2f}", f"{hits / len(planted):.2f}", f"{f1:.2f}"]


def coloured(path: Path) -> bool:
    """Whether any pixel of a file is not grey."""
    with Image.open(path) as picture:
        values = np.asarray(picture.convert("RGB"))
    return bool((values != values[..., :1]).any())


def by_us(folder: Path) -> Found:
    begin = process_time()
    entries = read_source(folder, issues=True).entries
    named: Named = {}
    for entry in entries:
        for kind in entry.issues:
            named.setdefault(kind, set()).add(entry.path)
            if kind == "near duplicate":  # The reason names the other one of the two.
                named[kind].add(entry.reason.removeprefix("near duplicate of "))
    return Found(named, process_time() - begin)


def by_cleanvision(folder: Path) -> Found:
    from cleanvision import Imagelab

    begin = process_time()
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lab = Imagelab(data_path=str(folder))
        lab.find_issues(n_jobs=1, verbose=False)
    named = {
        kind: {Path(path).name for path in lab.issues.index[lab.issues[f"is_{theirs}_issue"]]}
        for theirs, kind in NAMES.items()
    }
    return Found(named, process_time() - begin)


def of_labels(
    folder: Folder, names: Collection[str], total: int, noise: Collection[float], seed: int
) -> Sheet:
    """Changed labels that are found, in the domains with classes, from the same vectors and probabilities."""
    lines = []
    for name in names:
        domain = folder.domain(name)
        rows = np.random.default_rng(seed).permutation(len(domain.images))[:total]
        kinds, labels, counts = np.unique(domain.kinds[rows], return_inverse=True, return_counts=True)
        if len(kinds) < 2:
            continue
        rows = rows[counts[labels] >= 15]
        labels = np.unique(domain.kinds[rows], return_inverse=True)[1]
        vectors = RobustVQVAE(epochs=0, random_state=seed).fit(domain.images[rows]).embedding_
        for rate in noise:
            rng = np.random.default_rng(seed)
            wrong = rng.random(len(labels)) < rate
            said = np.where(
                wrong, (labels + rng.integers(1, labels.max() + 1, len(labels))) % (labels.max() + 1), labels
            )
            ours = check_labels(vectors, said).suggestion >= 0
            cells = flags(ours, wrong), flags(by_cleanlab(vectors, said), wrong)
            lines.append([f"{name}, {labels.max() + 1} classes", f"{rate:.0%}", *cells[0], *cells[1]])
    head = ["", "changed", "precision", "recall", "F1", "cleanlab precision", "recall", "F1"]
    note = "cleanlab: find_label_issues on our probabilities"
    return Sheet("changed labels", head, lines, note)


def flags(named: NDArray[np.bool_], wrong: NDArray[np.bool_]) -> list[str]:
    rows, planted = set(map(str, np.flatnonzero(named))), set(map(str, np.flatnonzero(wrong)))
    return measured(rows, planted, set(map(str, np.flatnonzero(~wrong))))


def by_cleanlab(vectors: NDArray[np.floating], labels: NDArray[np.integer]) -> NDArray[np.bool_]:
    from cleanlab.filter import find_label_issues

    return np.asarray(
        find_label_issues(labels, neighbour_shares(vectors, labels, labels.max() + 1), n_jobs=1)
    )


def main() -> int:
    return exit_status(lambda: auto_cli(issues))


if __name__ == "__main__":
    sys.exit(main())
