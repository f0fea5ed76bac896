"""Results kept row by row in a CSV file, so that an interrupted run goes on after the last."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar, get_type_hints

from rvqvae.atomic import write_atomically
from rvqvae.errors import InputError

R = TypeVar("R", bound=NamedTuple)


def read_rows(path: Path, kind: type[R]) -> list[R]:
    """Rows of a NamedTuple of text and numbers; none if there is no file.

    Raises InputError where the columns are not the fields.
    """
    if not path.exists():
        return []
    columns, *lines = csv.reader(path.read_text(encoding="utf-8").splitlines())
    if columns != list(kind._fields):
        raise InputError(f"{path} has other columns than this version writes: choose another --out")
    types = get_type_hints(kind).values()
    return [kind(*(parse(value) for parse, value in zip(types, line, strict=True))) for line in lines]


def write_rows(path: Path, rows: Sequence[R]) -> None:
    """At least one row, in place of what was there."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([rows[0]._fields, *rows])
    write_atomically(path, text.getvalue().encode())
