"""Labels that people gave to images, from a table."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from rvqvae.errors import InputError, some_of
from rvqvae.io.manifest import read_table

COLUMNS = ("path", "label")
NAMED = 3


def read_labels(path: str | Path, names: Sequence[str]) -> dict[str, str]:
    """The label of each image, from a CSV with the columns ``path`` and ``label``; others are left out.

    ``names`` are the images of the source, which need not all have a label; an empty one is none.
    InputError, with the line, for a missing file or column, a path that is none of the names, or two labels
    of one image.
    """
    known, labels, unknown = set(names), dict[str, str](), list[str]()
    for where, fields in read_table(path, COLUMNS, f"labels are a CSV with {','.join(COLUMNS)}"):
        name, label = fields["path"], (fields["label"] or "").strip()
        if name not in known:
            unknown.append(name)
        elif label and labels.setdefault(name, label) != label:
            raise InputError(
                f"{where}: {name!r} is {label!r} here and {labels[name]!r} above: give it one label"
            )
    if unknown:
        raise InputError(
            f"{path} labels what is not among the images, in {len(unknown):,} of its lines: "
            f"{some_of(list(map(repr, unknown)), NAMED)}: "
            "write paths as manifest.csv has them, or remove these lines"
        )
    if not labels:
        raise InputError(f"{path} holds no label: give one for each image in the column 'label'")
    return labels


def digest_of_labels(labels: Mapping[str, str]) -> str:
    """Equal for equal labels of the same names."""
    return hashlib.sha256(repr(sorted(labels.items())).encode("utf-8", "surrogateescape")).hexdigest()
