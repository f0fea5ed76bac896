"""What comes out of many scenarios: by kind, by method, by the number of answers; and calibration."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines.common.tables import Sheet
from pipelines.judging.cases import NAN, Row, Vector
from pipelines.judging.mixtures import DRAWS

FOLDERS_KINDS = ("far", "scatter", "near", "defect", "clean")
ALL = "all"
"""The kinds of the folder; our own kinds are extra, and counted by themselves."""
EDGES = (0.0, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.95, 1.0)


class Summary(NamedTuple):
    """Of one method on some scenarios: means over them, each counted once."""

    sets: int
    auroc: float
    left_in: float
    thrown_out: float
    worst: float
    """Most inliers thrown out of one set."""
    clean_out: float
    """Mean share thrown out of clean sets."""
    clean_worst: float
    reached: float
    holds: float
    """Share of the sets whose 95 % interval holds the truth."""
    width: float
    """Median width of the interval."""
    false_clean: int
    contaminated: int
    """Sets with outliers."""
    false_contaminated: int
    clean: int
    said_clean: int
    """Clean sets that are called so."""
    seconds: float


def summarise(rows: Sequence[Row]) -> Summary:
    dirty = [row for row in rows if row.rate > 0]
    clean = [row for row in rows if row.rate == 0]
    told = [row for row in rows if not np.isnan(row.low)]
    return Summary(
        len(rows),
        _mean(row.auroc for row in rows),
        _mean(row.left_in for row in rows),
        _mean(row.thrown_out for row in rows),
        _most(row.thrown_out for row in rows),
        _mean(row.thrown_out for row in clean),
        _most(row.thrown_out for row in clean),
        _mean(row.reached for row in rows),
        _mean(row.low <= row.rate <= row.high for row in told),
        float(np.median([row.high - row.low for row in told])) if told else NAN,
        sum(row.verdict == "clean" for row in dirty),
        len(dirty),
        sum(row.verdict == "contaminated" for row in clean),
        len(clean),
        sum(row.verdict == "clean" for row in clean),
        _mean(row.seconds for row in rows),
    )


def kinds(rows: Iterable[Row]) -> list[str]:
    """Those of the folder, then those of our own, then whatever else a folder may name."""
    there = list(dict.fromkeys(row.kind for row in rows))
    known = [kind for kind in (*FOLDERS_KINDS, *DRAWS) if kind in there]
    return known + [kind for kind in there if kind not in known]


def of_kind(rows: Iterable[Row], kind: str) -> list[Row]:
    return [row for row in rows if (row.kind not in DRAWS if kind == ALL else row.kind == kind)]


def sheets(
    rows: Sequence[Row], calibrated: dict[str, tuple[Vector, NDArray[np.bool_], Vector]]
) -> list[Sheet]:
    """``calibrated``: by method, what is said of all images, the truth, and what each counts."""
    before = [row for row in rows if not (row.groups or row.singles)]
    after = [row for row in rows if row.groups or row.singles]
    named = dict.fromkeys(row.method for row in before)
    methods = sorted(named, key=lambda name: name not in calibrated)  # ours first
    made = [_by_kind(before, method) for method in methods if method in calibrated]
    made += [_calibration(method, *said) for method, said in calibrated.items()]
    if len(methods) > 1:
        made.append(_by_method(before, methods))
    return [*made, _by_answers(rows)] if after else made


COLUMNS: dict[str, Callable[[Summary], str]] = {
    "sets": lambda s: f"{s.sets}",
    "AUROC": lambda s: number(s.auroc),
    "left in": lambda s: number(s.left_in),
    "thrown out": lambda s: number(s.thrown_out, 4),
    "worst set": lambda s: number(s.worst),
    "reached": lambda s: number(s.reached),
    "interval holds": lambda s: number(s.holds, 2),
    "width": lambda s: number(s.width, 2),
    "false clean": lambda s: f"{s.false_clean} of {s.contaminated}",
    "false contaminated": lambda s: f"{s.false_contaminated} of {s.clean}",
    "seconds": lambda s: number(s.seconds, 2),
}
NOTE = (
    "AUROC, left in (outliers kept) and reached (dropped, or in one of the first eight groups asked about) "
    "are means of the sets with outliers; thrown out (inliers dropped) of all sets; seconds: of one core, "
    "after the views"
)


ANSWERED = (
    "answers about groups, then about single images; the 95 % interval of the contamination; seconds since "
    "the line before, of the methods that ask step by step"
)


def _by_kind(rows: Sequence[Row], method: str) -> Sheet:
    mine = [row for row in rows if row.method == method]
    lines = [
        [kind, *(show(summarise(of_kind(mine, kind))) for show in COLUMNS.values())]
        for kind in (*kinds(mine), ALL)
        if of_kind(mine, kind)
    ]
    return Sheet(f"{method}, by kind", ["kind", *COLUMNS], lines, NOTE)


def _by_method(rows: Sequence[Row], methods: Sequence[str]) -> Sheet:
    """On the sets that every method was measured on."""
    common = set.intersection(*({row.id for row in rows if row.method == m} for m in methods))
    shared = [row for row in of_kind(rows, ALL) if row.id in common]
    lines = []
    for method in methods:
        found = summarise([row for row in shared if row.method == method])
        shown = [show(found) for name, show in COLUMNS.items() if name != "sets"]
        lines.append([method, *shown[:4], number(found.clean_out, 4), number(found.clean_worst), *shown[4:]])
    head = [name for name in COLUMNS if name != "sets"]
    head = ["method", *head[:4], "clean thrown out", "worst clean", *head[4:]]
    return Sheet(
        "Methods", head, lines, f"the {len({row.id for row in shared})} sets that all were measured on"
    )


def _by_answers(rows: Sequence[Row]) -> Sheet:
    """On the sets that were measured with answers."""
    after = {row.method for row in rows if row.groups or row.singles}
    asked = {row.id for row in rows if row.groups or row.singles}
    shared = [row for row in of_kind(rows, ALL) if row.id in asked and row.method in after]
    stages = sorted(
        {(row.method, row.groups, row.singles) for row in shared}, key=lambda s: (s[0], s[1] + s[2])
    )
    lines = []
    for method, groups, singles in stages:
        found = summarise([r for r in shared if (r.method, r.groups, r.singles) == (method, groups, singles)])
        lines.append(
            [method, f"{groups}", f"{singles}", f"{found.sets}", number(found.auroc), number(found.left_in)]
            + [number(found.thrown_out, 4), number(found.worst), number(found.clean_out, 4)]
            + [f"{found.said_clean} of {found.clean}", number(found.holds, 2), number(found.width, 2)]
            + [number(found.seconds, 2)]
        )
    head = ["method", "groups", "images", "sets", "AUROC", "left in", "thrown out", "worst set"]
    head += ["clean thrown out", "clean called so", "interval holds", "width", "seconds"]
    return Sheet("With answers", head, lines, ANSWERED)


def _calibration(method: str, said: Vector, truth: NDArray[np.bool_], weight: Vector) -> Sheet:
    found = calibration(said, truth, weight)
    lines = [[f"{low:g} to {high:g}", f"{s:.3f}", f"{t:.3f}", f"{w:.3f}"] for low, high, s, t, w in found]
    head = ["probability", "said", "true", "share of all"]
    return Sheet(f"{method}, calibration", head, lines, "every set counts alike")


def calibration(
    said: Vector, truth: NDArray[np.bool_], weight: Vector
) -> list[tuple[float, float, float, float, float]]:
    """Of each bin that holds something: its edges, what is said and true there on average, and its share."""
    found = []
    place = np.clip(np.searchsorted(EDGES, said, side="right") - 1, 0, len(EDGES) - 2)
    for i in np.unique(place):
        rows = place == i
        means = (float(np.average(values[rows], weights=weight[rows])) for values in (said, truth))
        found.append((EDGES[i], EDGES[i + 1], *means, float(weight[rows].sum() / weight.sum())))
    return found


def number(value: float, digits: int = 3) -> str:
    return "" if np.isnan(value) else f"{value:.{digits}f}"


def _mean(values: Iterable[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else NAN


def _most(values: Iterable[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return max(known, default=NAN)
