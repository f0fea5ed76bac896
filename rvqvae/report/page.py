"""Writing the page: one HTML file that runs no script but its own and fetches nothing from a network."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
import shlex
from collections.abc import Mapping, Sequence
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jinja2 import Environment, StrictUndefined
from numpy.typing import NDArray

from rvqvae.atomic import write_atomically
from rvqvae.errors import InputError
from rvqvae.io.ledger import CONFLICT, NEAR
from rvqvae.io.manifest import Row, field_text
from rvqvae.membership import answers as rule
from rvqvae.membership.answers import Answers, Quantised
from rvqvae.report.pictures import INLINE, Pictures, heat_uri, inline_sheet, make_sheets, write_sheet

ONCE = ("--ask", "--json", "--quiet", "--verbose")
"""Flags of a command that are not repeated."""
VERDICTS = {
    "clean": "This set looks clean: about {rate} of the images may not belong",
    "contaminated": "About {rate} of these images do not belong",
    "undecided": "It is not clear whether any image does not belong: the estimate is {rate}",
}
COUNTS = ("kept", "dropped", "unreadable", "duplicates")
SCRIPTS = (
    "data.js",
    "pictures.js",
    "threshold.js",
    "grid.js",
    "cards.js",
    "viewer.js",
    "answers.js",
    "questions.js",
    "map.js",
    "export.js",
    "main.js",
)
FILES = "report_files"
TWINS = {"exact duplicate of": "exact", NEAR: "near", CONFLICT: "conflict"}
"""How reasons name another file, and what the page calls that."""
DATA = re.compile(r'<script type="application/json" id="data">(.*?)</script>', re.DOTALL)
TWIN = re.compile(f"({'|'.join(map(re.escape, TWINS))}) (.*)$", re.DOTALL)


class View(NamedTuple):
    """How the readable images lie to each other, in the order of `Pictures`."""

    vectors: NDArray[np.float32]
    """(M, d) float32, the joint view."""
    points: NDArray[np.float32]
    """(M, 2) float32, of the map, each from 0 to 1."""
    groups: NDArray[np.integer] | None = None
    """(M,) the group of each, -1 for none; without them the page asks nothing."""
    log_odds: NDArray[np.float64] | None = None
    """(M,) of being an outlier, by the judge alone, less the ``cut``; belongs to the groups."""
    cut: float = 0.0
    """Log odds above which an image is an outlier."""
    said: Answers = Answers()
    """What was answered of the groups and pictures before."""


def write_report(
    path: Path,
    *,
    title: str,
    summary: Mapping[str, Any],
    rows: Sequence[Row],
    threshold: float,
    pictures: Pictures,
    heat: Mapping[int, NDArray[np.float32]] | None = None,
    view: View | None = None,
    sizes: Mapping[int, tuple[int, int]] | None = None,
    originals: str | None = None,
) -> None:
    """Write the page: ``summary`` as in summary.json, ``rows`` as in manifest.csv.

    ``threshold`` is the cut on the outlier probability that the rows' ``keep`` was made with. ``heat``:
    evidence (H, W) by row; ``sizes``: height and width of the files by row, where known; ``originals``:
    the folder of the files, as a URL relative to the page. Above a thousand pictures the thumbnails are files
    in ``report_files/`` beside the page.
    """
    if not 0 <= threshold <= 1:
        raise InputError(f"threshold is {threshold}, but must be a probability: give one from 0 to 1")
    if len(pictures.rows) and not 0 <= pictures.rows.min() <= pictures.rows.max() < len(rows):
        raise InputError(
            f"pictures are of rows {pictures.rows.min()} to {pictures.rows.max()}, but there are {len(rows)} "
            "rows: give the index of a row for each"
        )
    data = {
        "title": title,
        "threshold": threshold,
        **_of_rows(rows),
        **_of_pictures(path, rows, pictures),
        "heat": _of_heat(heat or {}),
        "view": None if view is None else _of_view(view, pictures),
        "sizes": {row: list(size) for row, size in (sizes or {}).items()},
        "originals": originals,
        "left_out": dict(summary.get("left_out", {})),
        "given": [] if view is None else _of_answers(view.said, pictures.rows),
    }
    _write(path, data, summary)


def update_report(
    path: Path,
    *,
    summary: Mapping[str, Any],
    rows: Sequence[Row],
    said: Answers,
    heat: Mapping[int, NDArray[np.float32]] | None = None,
) -> bool:
    """Write the page at ``path`` anew, of the same set as it is after the answers ``said``.

    ``heat``, as in `write_report`, replaces the heat maps that are there. Return False, and write nothing, if
    the page was written by another version, whose data may mean something else.
    """
    text = path.read_text(encoding="utf-8")
    found = DATA.search(text)
    if not found or _csp_hash(_script()) not in text:
        return False
    data = json.loads(found[1])
    data |= _of_rows(rows) | {"given": _of_answers(said, data["view"]["rows"])}
    if heat is not None:
        data["heat"] = _of_heat(heat)
    _write(path, data, summary)
    return True


def _write(path: Path, data: dict[str, Any], summary: Mapping[str, Any]) -> None:
    # A review belongs to this very manifest, and to what was answered before.
    data["run"] = hashlib.sha256(_json([data["columns"], data["given"]]).encode()).hexdigest()
    style, script = _asset("style.css"), _script()
    page = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    text = page.from_string(_asset("template.html.j2")).render(
        title=data["title"],
        verdict=VERDICTS[summary["verdict"]].format(rate=_percent(summary["contamination"])),
        interval=interval_text(summary["contamination_interval"]),
        counts={"found": summary["images"], **{name: summary[name] for name in COUNTS}},
        details=_flat(summary),
        learn=_learn(str(summary.get("command", ""))),
        data=_json(data),
        style=style,
        style_hash=_csp_hash(style),
        script=script,
        script_hash=_csp_hash(script),
    )
    # A folder's name may hold bytes that are no UTF-8; the data are ASCII and keep theirs.
    write_atomically(path, text.encode("utf-8", "replace"))


def _of_rows(rows: Sequence[Row]) -> dict[str, Any]:
    columns = {name: [field_text(getattr(row, name)) for row in rows] for name in Row._fields}
    index = {row.path: i for i, row in enumerate(rows)}
    found = [(i, match) for i, row in enumerate(rows) if (match := TWIN.search(row.reason))]
    twins = {i: (index[match[2]], TWINS[match[1]]) for i, match in found if match[2] in index}
    # Of two files of different classes each names the other.
    pairs = [
        [i, other, kind] for i, (other, kind) in twins.items() if other < i or twins.get(other, (-1,))[0] != i
    ]
    return {"columns": columns, "twins": pairs}


def _of_answers(said: Answers, rows: Sequence[int] | NDArray[np.int64]) -> list[list[Any]]:
    """As entries of the page's history; ``rows`` (M,) of the manifest, of the samples."""
    parts = [*said.parts.items(), *((place, said.parts[place]) for place in sorted(said.confirmed))]
    return [["part", place, value] for place, value in parts] + [
        ["image", [int(rows[i])], value < 0] if value else ["sample", i, 0]
        for i, value in said.samples.items()
    ]


def _of_pictures(path: Path, rows: Sequence[Row], pictures: Pictures) -> dict[str, Any]:
    """Thumbnails, the most outlying first, so that the first ones to be shown are in one sheet."""
    probability = np.array([rows[row].outlier_probability for row in pictures.rows], float)
    score = np.array([rows[row].score for row in pictures.rows], float)
    order = np.lexsort((score, -probability))
    put = inline_sheet if len(order) <= INLINE else partial(write_sheet, path.parent / FILES)
    sheets = make_sheets(pictures.images, order, put)
    places = np.full(len(rows), -1)
    for index, place in sheets.places.items():
        places[pictures.rows[index]] = place
    return {
        "sheets": {"urls": sheets.urls, "tile": sheets.tile, "size": sheets.size},
        "places": places.tolist(),
    }


def _of_heat(heat: Mapping[int, NDArray[np.float32]]) -> dict[int, str]:
    return {row: heat_uri(evidence) for row, evidence in heat.items()}


def _of_view(view: View, pictures: Pictures) -> dict[str, Any]:
    if len(view.vectors) != len(pictures.rows):
        raise InputError(
            f"the view has {len(view.vectors)} vectors for {len(pictures.rows)} pictures: give one for each"
        )
    vectors = Quantised.of(view.vectors)
    places = np.round(np.clip(view.points, 0, 1) * 65535).astype("<u2")
    return {
        "rows": pictures.rows.tolist(),
        "scale": [float(s) for s in vectors.scale],
        "codes": _base64(vectors.values),
        "points": _base64(places),
        **_of_questions(view, vectors),
    }


def _of_questions(view: View, vectors: Quantised) -> dict[str, Any]:
    """What answers.js needs: the parts that are asked about, and the figures of the rule."""
    if view.groups is None or view.log_odds is None or not len(view.vectors):
        return {"rule": None}
    parts = [
        {
            # Of a part's rows only those inside are in an order that matters.
            "rows": [*part.inner.tolist(), *np.setdiff1d(part.rows, part.inner).tolist()],
            "inner": len(part.inner),
            "representatives": part.representatives.tolist(),
            "halves": part.halves,
            "first": part.first,
        }
        for part in rule.parts_of(vectors, view.groups)
    ]
    figures = {name.lower(): value for name, value in vars(rule).items() if name.isupper()}
    return {
        "parts": parts,
        "run": rule.run_of(vectors, view.groups),
        "log_odds": _base64(view.log_odds.astype("<f8")),
        "cut": view.cut,
        "rule": figures | {"length": rule.Space.of(vectors).length},
    }


def _base64(values: NDArray[Any]) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode()


def _script() -> str:
    return '"use strict";\n' + "\n".join(map(_asset, SCRIPTS))


def _asset(name: str) -> str:
    return resources.files("rvqvae.report").joinpath(name).read_text(encoding="utf-8")


def _csp_hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _json(value: Any) -> str:
    """JSON that can end no script element; lone surrogates come through as escapes."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def interval_text(interval: Sequence[float]) -> str:
    """A contamination's interval in words; a rate that was given is not estimated, and has none."""
    low, high = map(_percent, interval)
    return f"95 % interval {low} to {high}" if interval[0] < interval[1] else "the rate that was given"


def _percent(share: float | None) -> str:
    if share is None or math.isnan(share):
        return "unknown"
    return f"{100 * share:.1f}".removesuffix(".0") + "\N{NO-BREAK SPACE}%"


def _learn(command: str) -> str:
    """What to type to learn from an exported list, with the options of the ``command`` that made the page.

    Empty for what is no such command.
    """
    try:
        words = iter(shlex.split(command))
    except ValueError:  # A quote that does not end.
        return ""
    if (next(words, ""), next(words, "")) != ("rvqvae", "clean"):
        return ""
    kept = ["rvqvae", "clean"]
    for word in words:
        if word == "--answers":
            next(words, "")
        elif word not in ONCE and not word.startswith("--answers="):
            kept.append(word)
    copying = [] if {"--copy", "--link"} & {*kept} else ["--copy"]
    return shlex.join([*kept, "--answers", "reviewed.csv", *copying])


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested mappings as one, with dotted names."""
    flat: dict[str, str] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = str(value)
    return flat
