"""The study's measurements: what one holds, and the file that keeps them."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import perf_counter
from typing import NamedTuple, TypeVar, get_type_hints

from rvqvae.atomic import write_atomically
from rvqvae.errors import InputError

T = TypeVar("T")
NAN = float("nan")


class Cell(NamedTuple):
    """One method on one mixture; nan or "" where it says nothing, or there is nothing to measure."""

    pair: str
    rate: float
    seed: int
    method: str
    images: int
    auroc: float
    heldout_auroc: float = NAN
    estimated_rate: float = NAN
    rate_low: float = NAN
    rate_high: float = NAN
    outliers_kept: float = NAN
    inliers_dropped: float = NAN
    verdict: str = ""
    seconds: float = NAN
    peak_gib: float = NAN


class Cost(NamedTuple):
    seconds: float
    gib: float
    """Largest memory of the whole process meanwhile; nan where the system does not say."""


def metered(work: Callable[[], T]) -> tuple[T, Cost]:
    """What ``work`` returns, and what it cost."""
    _forget_peak()
    begin = perf_counter()
    result = work()
    return result, Cost(round(perf_counter() - begin, 2), round(_peak_gib(), 2))


def _forget_peak() -> None:
    # getrusage knows only the largest of a whole life: the dearest method would lend it to all later ones.
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak_gib() -> float:
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    except OSError:
        return NAN
    return int(found[1]) / 2**20 if found else NAN


def read(path: Path) -> list[Cell]:
    """The cells measured so far; a last line that a kill cut short is left out."""
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    lines = csv.reader(text[: text.rfind("\n") + 1].splitlines())
    columns = next(lines, [])
    if columns != list(Cell._fields):
        raise InputError(
            f"{path} has the columns {', '.join(columns) or '(none)'}, not {', '.join(Cell._fields)}: "
            "it is of another version; choose another --out or delete the file"
        )
    kinds = get_type_hints(Cell).values()
    return [Cell(*(kind(value) for kind, value in zip(kinds, line, strict=True))) for line in lines]


def write(path: Path, cells: list[Cell]) -> None:
    """All of the cells, or what was there before."""
    write_atomically(path, as_csv([Cell._fields, *cells]).encode())


def append(path: Path, cell: Cell) -> None:
    """A kill costs this cell at most, as `read` leaves a cut line out."""
    with path.open("a", encoding="utf-8", newline="") as file:
        file.write(as_csv([cell]))


def as_csv(rows: list[tuple]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def claim(out: Path, wanted: dict[str, int | bool]) -> None:
    """Refuse a folder whose cells were measured on other images or with other settings."""
    path = out / "study.json"
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else wanted
    if found != wanted:
        raise InputError(f"out={str(out)!r} holds cells of {found}, not of {wanted}: choose another --out")
    write_atomically(path, (json.dumps(wanted) + "\n").encode())


def probability_file(out: Path, cell: Cell) -> Path:
    """Where the probabilities of a cell's images are kept."""
    name = re.sub(r"[^\w.]+", "-", cell.pair)
    return out / "probabilities" / f"{name}-{cell.rate:g}-seed{cell.seed}.npz"
