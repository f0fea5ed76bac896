"""The folder of an experiment: its settings, and its results row by row, so that a run cut short goes on."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, get_type_hints

import yaml

from rvqvae.atomic import write_atomically
from rvqvae.errors import InputError

R = TypeVar("R", bound=NamedTuple)
CONFIG = "config.yaml"


def claim(out: Path, settings: Mapping[str, Any], free: Collection[str] = ()) -> None:
    """Make the folder of an experiment, or find it as an earlier run with these settings left it.

    Settings named in ``free`` may differ. InputError for a folder that holds something else.
    """
    path, wanted = out / CONFIG, json.loads(json.dumps(settings))
    try:
        if path.exists():
            found = yaml.safe_load(path.read_text(encoding="utf-8"))
            for name in [*wanted, *found]:
                if name not in free and found.get(name) != wanted.get(name):
                    raise InputError(
                        f"out={str(out)!r} holds another experiment, with {name}={found.get(name)!r} where "
                        f"this one has {wanted.get(name)!r}: choose another --out"
                    )
            return
        if out.exists() and any(out.iterdir()):
            raise InputError(f"out={str(out)!r} is not empty: choose another --out")
        write_atomically(path, yaml.safe_dump(wanted, sort_keys=False).encode())
    except (OSError, yaml.YAMLError, TypeError, AttributeError) as error:
        raise InputError(f"out={str(out)!r} cannot be used: {error}") from error


def read_rows(path: Path, kind: type[R]) -> list[R]:
    """Rows of a NamedTuple of text and numbers; none if there is no file.

    A last line that a kill cut short is left out. InputError where the columns are not the fields.
    """
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    lines = csv.reader(text[: text.rfind("\n") + 1].splitlines())
    columns = next(lines, [])
    if columns != list(kind._fields):
        raise InputError(
            f"{path} has the columns {', '.join(columns) or '(none)'}, not {', '.join(kind._fields)}: "
            "it is of another version; choose another --out or delete the file"
        )
    types = get_type_hints(kind).values()
    return [kind(*(parse(value) for parse, value in zip(types, line, strict=True))) for line in lines]


def write_rows(path: Path, kind: type[R], rows: Sequence[R]) -> None:
    """All of the rows, or what was there before."""
    write_atomically(path, _csv([kind._fields, *rows]).encode())


def append_row(path: Path, row: NamedTuple) -> None:
    """A kill costs this row at most, as `read_rows` leaves a cut line out."""
    with path.open("a", encoding="utf-8", newline="") as file:
        file.write(_csv([row]))


def _csv(rows: Iterable[tuple]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
