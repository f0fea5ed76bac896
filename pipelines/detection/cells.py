"""The study's measurements: what one holds, and what it cost."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import perf_counter
from typing import NamedTuple, TypeVar

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


def probability_file(out: Path, cell: Cell) -> Path:
    """Where the probabilities of a cell's images are kept."""
    name = re.sub(r"[^\w.]+", "-", cell.pair)
    return out / "probabilities" / f"{name}-{cell.rate:g}-seed{cell.seed}.npz"
