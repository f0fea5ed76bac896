"""The table of a cleaning, one row for each file, and the copy that it asks for."""

from __future__ import annotations

import codecs
import csv
import hashlib
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from io import BytesIO, StringIO
from pathlib import Path
from typing import NamedTuple, cast, get_args

import numpy as np

from rvqvae.atomic import replacing, write_atomically, writing
from rvqvae.errors import InputError, some_of
from rvqvae.io.ledger import Status
from rvqvae.io.pictures import why
from rvqvae.io.shards import is_shard
from rvqvae.io.sources import Source, open_source

MAX_BYTES = 2**32
"""Bytes of a manifest, which is read into memory whole: some 20 million rows."""


class Row(NamedTuple):
    """What is known about one image file."""

    path: str
    """As `Entry.path`."""
    sha256: str
    status: Status
    score: float
    """Higher is more normal; nan if there is none."""
    outlier_probability: float
    """0..1, or nan."""
    keep: bool
    reason: str
    issues: str = ""
    """Kinds of faults, such as ``dark; blurred``."""
    label: str = ""
    """The class that the image is said to be of."""
    suggested_label: str = ""
    """The class that a likely mislabelled image looks like."""
    label_probability: float = math.nan
    """Of the label, 0..1, out of fold; nan if there is none."""


NAMED = 3
"""Missing files named in a line at most."""
NEEDED = 7
"""Columns that every manifest has; earlier versions wrote no more."""


def write_manifest(path: str | Path, rows: Iterable[Row]) -> None:
    """Write rows as `write_table` does."""
    write_table(path, Row._fields, rows)


def write_table(path: str | Path, names: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV; the file appears complete or not at all. InputError if the disk refuses.

    Names that are not UTF-8 keep their bytes, numbers all their digits; nan is an empty field.
    """
    lines = [csv_line(names), *(csv_line(map(field_text, row)) for row in rows)]
    write_atomically(Path(path), "".join(lines).encode("utf-8", "surrogateescape"))


def read_manifest(path: str | Path) -> list[Row]:
    """Read what `write_manifest` wrote, perhaps edited since: other columns are left out.

    ``keep`` may be true, 1 or yes, false, 0 or no, in any case. InputError, with the line, for a missing
    file or column, or a bad value.
    """
    needed = Row._fields[:NEEDED]
    table = read_table(path, needed, f"a manifest has {','.join(needed)}, with commas")
    return [_parse(fields, place) for place, fields in table]


def read_table(path: str | Path, needed: Sequence[str], wanted: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Where each row of a CSV is, to name in an error, and its fields; None for those that it lacks.

    ``wanted`` says what table should be given. InputError, with the line, for a missing file, one of the
    ``needed`` columns that is missing, or damage.
    """
    reader = csv.DictReader(StringIO(_text(path, wanted), newline=""), strict=True)
    try:
        names = reader.fieldnames or ()
        if missing := [name for name in needed if name not in names]:
            found = next((f", and {mark!r} for commas" for mark in ";\t|" if mark in "".join(names)), "")
            raise InputError(f"{path} lacks the column {missing[0]!r}{found}: {wanted}")
        for fields in reader:
            yield f"{path}, line {reader.line_num}", fields
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.reader.line_num}: {error}: repair this line") from error


def _text(path: str | Path, wanted: str) -> str:
    """The text of a table; bytes that are no UTF-8 become surrogates. InputError if it cannot be read."""
    try:
        if (size := Path(path).stat().st_size) > MAX_BYTES:
            raise InputError(f"{path} has {size:,} bytes, above the limit of {MAX_BYTES:,}: split it")
        content = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {why(error)}: {wanted}") from error
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise InputError(f"{path} is UTF-16 text: save it as UTF-8")
    return content.decode("utf-8-sig", "surrogateescape")


def to_copy(rows: Iterable[Row]) -> list[Row]:
    """The rows that are kept and can be: what a reviewer keeps is kept, duplicates too, if it can be read."""
    return [row for row in rows if row.keep and row.status != "unreadable"]


def copy_kept(rows: Iterable[Row], source: str | Path | Source, out: str | Path, link: bool = False) -> int:
    """Copy the files that `to_copy` names into the folder `out`, under their own names; return how many.

    `link` makes symbolic links instead. Of a .npz the kept rows are written to ``clean.npz``. What is there
    already is left alone, so a broken-off copy can be taken up again.

    InputError for a name that leads out of `out`, a source file that is missing or has changed since, a
    different file in the way, a folder `out` inside `source`, or a failure to write.
    """
    kept, out = to_copy(rows), Path(out)
    with writing(out), open_source(source) as opened:
        if link:
            check_linkable(opened)
        if opened.path.is_dir() and out.resolve().is_relative_to(opened.path.resolve()):
            raise InputError(f"{out} is inside {opened.path}, which is never written to: give another folder")
        if opened.shape:
            _put(out / "clean.npz", _rows_as_npz(opened, kept))
            return len(kept)
        targets = [_target(out, row.path) for row in kept]
        known = set(opened.names)
        if missing := [repr(row.path) for row in kept if row.path not in known]:
            raise InputError(
                f"{opened.path} lacks {len(missing):,} of the {len(kept):,} images that the manifest keeps, "
                f"{some_of(missing, NAMED)}: give the images that it was made of, or clean again"
            )
        for row, target in zip(kept, targets, strict=True):
            content = _unchanged(opened, row)
            if link:
                link_to(target, (opened.path / row.path).absolute())
            else:
                _put(target, content)
    return len(kept)


def check_linkable(source: Source) -> None:
    """InputError for images that are not files of their own."""
    if not source.path.is_dir():
        raise InputError(f"{source.path} is not a folder, so its images cannot be linked to: copy them")
    if shard := next(filter(is_shard, source.files), None):
        raise InputError(
            f"{source.path} holds the shard {shard}, whose images cannot be linked to: copy them"
        )


def csv_line(fields: Iterable[str]) -> str:
    """One line of CSV, as all our tables are written."""
    buffer = StringIO(newline="")
    # Only with this end of line does csv put names with a carriage return into quotes.
    csv.writer(buffer, lineterminator="\r\n").writerow(fields)
    return buffer.getvalue().removesuffix("\r\n") + "\n"


def field_text(value: object) -> str:
    """A field of a row as a manifest has it."""
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    return number_text(float(value)) if isinstance(value, float | np.floating) else str(value)


def number_text(value: float) -> str:
    """All its digits; empty for nan."""
    return "" if math.isnan(value) else repr(float(value))


def _parse(fields: dict[str, str], place: str) -> Row:
    if any(fields[name] is None for name in Row._fields[:NEEDED]):
        raise InputError(f"{place} has too few fields: a row needs {NEEDED}")
    if fields["status"] not in get_args(Status):
        raise InputError(f"{place}: status={fields['status']!r} must be one of {', '.join(get_args(Status))}")
    return Row(
        fields["path"],
        fields["sha256"],
        cast(Status, fields["status"]),
        _number(fields, "score", place),
        _number(fields, "outlier_probability", place),
        _truth(fields["keep"], place),
        fields["reason"],
        fields.get("issues") or "",
        fields.get("label") or "",
        fields.get("suggested_label") or "",
        _number(fields, "label_probability", place),
    )


def _number(fields: dict[str, str], name: str, place: str) -> float:
    try:
        return float(text) if (text := fields.get(name)) else math.nan
    except ValueError as error:
        raise InputError(f"{place}: {name}={fields[name]!r} must be a number or empty") from error


def _truth(text: str, place: str) -> bool:
    word = text.strip().lower()
    if word not in ("true", "1", "yes", "false", "0", "no"):
        raise InputError(f"{place}: keep={text!r} must be true or false")
    return word in ("true", "1", "yes")


def _target(out: Path, name: str) -> Path:
    """Where a name belongs below `out`; InputError if that is elsewhere, be it through a link in `out`."""
    target = out / name
    escapes = ".." in Path(name).parts or Path(name).anchor or "\0" in name
    if escapes or not name or not target.parent.resolve().is_relative_to(out.resolve()):
        raise InputError(f"{name!r} leads out of {out}: remove its row, or rename the file")
    return target


def _unchanged(source: Source, row: Row) -> bytes:
    """The bytes of a row's file, which must be those that the manifest speaks of."""
    try:
        content = source.read(row.path)
    except Exception as error:
        raise InputError(f"{row.path} cannot be read: {why(error)}: restore it, or clean again") from error
    if hashlib.sha256(content).hexdigest() != row.sha256:
        raise InputError(f"{row.path} has changed since the manifest was made: restore it, or clean again")
    return content


def _put(target: Path, content: bytes) -> None:
    if not os.path.lexists(target):
        # One name for all, so that what a killed copy left is overwritten when it is taken up again.
        with replacing(target, partial=".partial", sync=False) as file:
            file.write(content)
    elif not target.is_file() or target.read_bytes() != content:
        raise _in_the_way(target)


def link_to(target: Path, file: Path) -> None:
    """Make the symbolic link ``target``; InputError if something else is there."""
    if not os.path.lexists(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(file)
    elif not target.is_symlink() or os.readlink(target) != str(file):
        raise _in_the_way(target)


def _in_the_way(target: Path) -> InputError:
    return InputError(f"{target} is there already, and is another file: give another folder")


def _rows_as_npz(source: Source, rows: Sequence[Row]) -> bytes:
    content = b"".join(_unchanged(source, row) for row in rows)
    buffer = BytesIO()
    np.savez_compressed(buffer, x=np.frombuffer(content, np.uint8).reshape(len(rows), *source.shape))
    return buffer.getvalue()
