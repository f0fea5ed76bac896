"""The review page: one HTML file that fetches nothing and runs no script but its own."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined
from numpy.typing import NDArray
from PIL import Image

from rvqvae.atomic import write_atomically
from rvqvae.errors import InputError
from rvqvae.io.manifest import Row

VERDICTS = {
    "clean": "This set looks clean: about {rate} of the images may not belong",
    "contaminated": "About {rate} of these images do not belong",
    "undecided": "It is not clear whether any image does not belong: the estimate is {rate}",
}
COUNTS = ("kept", "dropped", "unreadable", "duplicates")
SECTIONS = (
    {
        "name": "outlying",
        "title": "Most outlying",
        "note": "The images that fit in least.",
    },
    {
        "name": "borderline",
        "title": "Borderline",
        "note": "The images nearest to the threshold, where a look helps most.",
    },
)
HEAT_LOW, HEAT_HIGH = np.array([255, 205, 60]), np.array([205, 25, 15])  # of red, green, blue
HEAT_LEVELS = 32  # few, so that the PNG is small
EXACT = 32  # pixels of a thumbnail that is not compressed with losses


@dataclass(frozen=True)
class Card:
    """One image that the page shows."""

    index: int
    """Of its row."""
    image: NDArray[np.uint8]
    """(C, H, W), C in {1, 3}."""
    heat: NDArray[np.float32]
    """(H, W), per-pixel evidence >= 0."""
    nearest: NDArray[np.uint8]
    """(C, H, W), the nearest kept inlier."""
    alike: tuple[int, ...] = ()
    """Rows of other images, those most like this one first."""


@dataclass(frozen=True)
class Group:
    """Images that look alike, which the page keeps or drops together."""

    rows: tuple[int, ...]
    shown: tuple[int, ...]
    """Those of the rows that stand for the group, each with a card or a thumbnail."""


def write_report(
    path: Path,
    *,
    title: str,
    summary: Mapping[str, Any],
    rows: Sequence[Row],
    threshold: float,
    cards: Sequence[Card],
    thumbnails: Mapping[int, NDArray[np.uint8]] | None = None,
    groups: Sequence[Group] = (),
) -> None:
    """Write the page: ``summary`` as in summary.json, ``rows`` as in manifest.csv, an image for each card.

    ``threshold`` is the cut on the outlier probability that the rows' ``keep`` was made with.
    ``thumbnails``: small pictures (C, H, W) of the rows that cards are alike to, or ``groups`` show, and that
    have no card.
    """
    if not 0 <= threshold <= 1:
        raise InputError(f"threshold is {threshold}, but must be a probability: give one from 0 to 1")
    style, script = (_asset(name) for name in ("style.css", "review.js"))
    page = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    text = page.from_string(_asset("template.html.j2")).render(
        title=title,
        verdict=VERDICTS[summary["verdict"]].format(rate=_percent(summary["contamination"])),
        interval=" to ".join(_percent(end) for end in summary["contamination_interval"]),
        counts={"found": summary["images"], **{name: summary[name] for name in COUNTS}},
        sections=SECTIONS,
        details=_flat(summary),
        data=_json(_data(rows, threshold, cards, thumbnails or {}, groups)),
        style=style,
        style_hash=_csp_hash(style),
        script=script,
        script_hash=_csp_hash(script),
    )
    # A folder's name may hold bytes that are no UTF-8; the data are ASCII and keep theirs.
    write_atomically(path, text.encode("utf-8", "replace"))


def _asset(name: str) -> str:
    return resources.files(__name__).joinpath(name).read_text(encoding="utf-8")


def _csp_hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _json(value: Any) -> str:
    """JSON that can end no script element; lone surrogates come through as escapes."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _percent(share: float | None) -> str:
    if share is None or math.isnan(share):
        return "unknown"
    return f"{100 * share:.1f}".removesuffix(".0") + "\N{NO-BREAK SPACE}%"


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested mappings as one, with dotted names."""
    flat: dict[str, str] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = str(value)
    return flat


def _data(
    rows: Sequence[Row],
    threshold: float,
    cards: Sequence[Card],
    thumbnails: Mapping[int, NDArray[np.uint8]],
    groups: Sequence[Group],
) -> dict[str, Any]:
    columns = {name: [_text(getattr(row, name)) for row in rows] for name in Row._fields}
    return {
        # A review belongs to this very manifest.
        "key": "rvqvae-review-" + hashlib.sha256(_json(columns).encode()).hexdigest(),
        "threshold": threshold,
        "columns": columns,
        "cards": _cards(rows, threshold, cards),
        "groups": _groups(groups, len(rows)),
        "thumbnails": _thumbnails(cards, groups, thumbnails),
    }


def _cards(rows: Sequence[Row], threshold: float, cards: Sequence[Card]) -> list[dict[str, Any]]:
    sections = _sections(rows, threshold)
    return [
        {
            "row": _checked(card, len(rows)).index,
            "alike": card.alike,
            "section": SECTIONS[int(sections[card.index])]["name"],
            "size": max(card.image.shape[1:]),
            "image": _png(card.image.transpose(1, 2, 0)),
            "heat": _png(heat_colours(card.heat)),
            "nearest": _png(card.nearest.transpose(1, 2, 0)),
        }
        for card in cards
    ]


def _thumbnails(
    cards: Sequence[Card], groups: Sequence[Group], pictures: Mapping[int, NDArray[np.uint8]]
) -> dict[int, str]:
    """By row, of what is alike to a card or shown of a group, and has no card."""
    wanted = {row for card in cards for row in card.alike} | {row for group in groups for row in group.shown}
    wanted -= {card.index for card in cards}
    if missing := wanted - pictures.keys():
        raise InputError(f"row {min(missing)} is shown without a card and has no thumbnail: give one")
    return {row: _small(pictures[row].transpose(1, 2, 0)) for row in sorted(wanted)}


def _groups(groups: Sequence[Group], rows: int) -> list[dict[str, Any]]:
    for row in (row for group in groups for row in (*group.rows, *group.shown)):
        if not 0 <= row < rows:
            raise InputError(f"a group has row {row}, but there are {rows} rows: give the index of a row")
    return [{"rows": group.rows, "shown": group.shown} for group in groups]


def _checked(card: Card, rows: int) -> Card:
    for row in (card.index, *card.alike):
        if not 0 <= row < rows:
            raise InputError(f"a card shows row {row}, but there are {rows} rows: give the index of a row")
    for name, picture in (("image", card.image), ("nearest", card.nearest)):
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[0] not in (1, 3):
            raise InputError(
                f"a card's {name} is {picture.dtype} {picture.shape}: give uint8 (C, H, W) of 1 or 3 channels"
            )
    if card.heat.ndim != 2:
        raise InputError(f"a card's heat has shape {card.heat.shape}: give one value for each pixel (H, W)")
    return card


def _sections(rows: Sequence[Row], threshold: float) -> NDArray[np.bool_]:
    """Whether each row ranks higher among the nearest to the threshold than among the most outlying."""
    score = np.array([row.score for row in rows], dtype=float)
    probability = np.array([row.outlier_probability for row in rows], dtype=float)
    outlying = np.lexsort((score, -probability))
    borderline = np.argsort(np.abs(probability - threshold), kind="stable")
    return np.argsort(borderline) < np.argsort(outlying)


def _png(picture: NDArray[np.uint8]) -> str:
    """A picture (H, W, 1 | 3 | 4) as a data URI, at its own size."""
    return _encoded(picture, "png", optimize=True)


def _small(picture: NDArray[np.uint8]) -> str:
    """A thumbnail (H, W, 1 | 3): exact where that costs little."""
    if max(picture.shape) <= EXACT:
        return _encoded(picture, "png", optimize=True)
    return _encoded(picture, "jpeg", quality=75)


def _encoded(picture: NDArray[np.uint8], format: str, **options: Any) -> str:
    image = Image.fromarray(picture.squeeze(2) if picture.shape[2] == 1 else picture)
    buffer = io.BytesIO()
    image.save(buffer, format=format, **options)
    return f"data:image/{format};base64," + base64.b64encode(buffer.getvalue()).decode()


def heat_colours(heat: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Evidence as a layer over the image: from clear over yellow to red, scaled to its own maximum."""
    evidence = np.nan_to_num(heat, nan=0, posinf=0, neginf=0).clip(0)
    levels = np.round(HEAT_LEVELS * evidence / (evidence.max(initial=0) or 1)) / HEAT_LEVELS
    share = levels[..., None]
    colour = (1 - share) * HEAT_LOW + share * HEAT_HIGH
    return np.concatenate([colour, 230 * np.sqrt(share)], -1).round().astype(np.uint8)


def _text(value: object) -> str:
    """As `write_manifest` writes it."""
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if isinstance(value, float | np.floating):
        return "" if math.isnan(value) else repr(float(value))
    return str(value)
