"""Tables of texts, for the terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table


class Sheet(NamedTuple):
    """A table of texts."""

    title: str
    head: list[str]
    lines: list[list[str]]
    note: str = ""


def spread(values: Sequence[float], form: str = "{:.3f}") -> str:
    """The mean of the numbers that are known, with their standard deviation if there are several."""
    known = [value for value in values if not np.isnan(value)]
    if not known:
        return ""
    mean = form.format(np.mean(known))
    return mean if len(known) == 1 else f"{mean} ±{form.format(np.std(known, ddof=1))}"


def as_rich(sheet: Sheet) -> Table:
    """As narrow as its words allow: a mean and its spread, and a long name, go on two lines."""
    made = Table(title=sheet.title or None, caption=sheet.note, caption_justify="left", title_justify="left")
    made.box, made.padding, made.show_edge = SIMPLE_HEAD, (0, 1, 0, 0), False
    for i, (name, *values) in enumerate(zip(sheet.head, *sheet.lines, strict=True)):
        name = name.replace("-", "- ")
        width = max(len(word) for text in (name, *values) for word in text.split() or [""])
        made.add_column(name, min_width=width, max_width=width, justify="right" if i else "left")
    for line in sheet.lines:
        made.add_row(*line)
    return made


def as_markdown(sheets: Sequence[Sheet]) -> str:
    return "\n".join(_markdown(sheet) for sheet in sheets)


def _markdown(sheet: Sheet) -> str:
    rule = ["---", *["---:"] * (len(sheet.head) - 1)]
    lines = [f"| {' | '.join(line)} |" for line in [sheet.head, rule, *sheet.lines]]
    title = [f"## {sheet.title}", ""] if sheet.title else []
    return "\n".join([*title, *lines, "", sheet.note, ""])
