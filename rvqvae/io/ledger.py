"""What becomes of every file while a source is read: good, unreadable, or there already."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Literal, NamedTuple

from rvqvae.errors import InputError
from rvqvae.io.pictures import Header
from rvqvae.io.shards import is_shard

Status = Literal["ok", "unreadable", "duplicate"]
NEAR, CONFLICT = "near duplicate of", "label conflict: the same image in another class folder is"
"""How reasons of images that are ok begin."""
REASONS = {NEAR: "near duplicate", CONFLICT: "label conflict"}
"""What they are as kinds of issues."""


class Entry(NamedTuple):
    """What became of one image file."""

    path: str
    """POSIX, relative to the folder or archive; ``x[i]`` for rows of a .npz. Bytes that are not UTF-8 are
    kept by surrogateescape. A folder that cannot be listed is an entry too, with a ``/`` at its end."""
    sha256: str
    """Of the file's bytes, or the row's; empty if they could not be read."""
    status: Status
    reason: str
    """Why it is unreadable, ``exact duplicate of PATH``, or empty. Still ok: ``near duplicate of PATH``, and
    ``label conflict: the same image in another class folder is PATH``."""
    issues: tuple[str, ...] = ()
    """Kinds of faults, of an image that is ok."""
    label: str = ""
    """The class that the image is said to be of."""


@dataclass
class Ledger:
    """The fate of every file, by its index; a file is open while nothing speaks against it."""

    names: Sequence[str]
    headers: Sequence[Header]
    bad: dict[int, str] = field(default_factory=dict)
    twins: dict[int, int] = field(default_factory=dict)
    """The first exact duplicate, of the same class."""
    conflicts: dict[int, int] = field(default_factory=dict)
    """An exact duplicate in another class, for either of two."""
    near: dict[int, int] = field(default_factory=dict)
    labels: Mapping[str, str] | None = None
    """The class of each name; without them, its folder, where there is one for each class."""
    issues: dict[int, list[str]] | None = None
    """The kinds of faults of each image that is ok, where they were looked for."""

    def __post_init__(self) -> None:
        self.bad = {i: header.reason for i, header in enumerate(self.headers) if header.reason}
        good = [name for i, name in enumerate(self.names) if i not in self.bad]
        self._classes = dict(class_folders(good) if self.labels is None else self.labels)
        self._prints: dict[int, str] = {}
        self._first: dict[str, dict[str, int]] = {}

    def open_rows(self) -> list[int]:
        return [i for i in range(len(self.headers)) if i not in self.bad and i not in self.twins]

    def readable(self) -> dict[str, Header]:
        """Headers of the open rows by name; InputError if there are none."""
        rows = self.open_rows()
        if not rows:
            i = min(self.bad)
            raise InputError(
                f"none of the {len(self.names)} image files can be read: {self.names[i]}, for one, because "
                f"{self.bad[i]}: repair them"
            )
        return {self.names[i]: self.headers[i] for i in rows}

    def join_equal_files(self) -> None:
        """Note which files are equal byte for byte."""
        for i in self.open_rows():
            self._join(i, self.headers[i].sha256)

    def joined(self, one: int, other: int, fingerprint: Callable[[str], str]) -> bool:
        """Whether ``other`` is left out, because ``one``, which looks alike, or one before it equals it."""
        for i in (one, other):
            if i not in self._prints:
                self._prints[i] = fingerprint(self.names[i])
                self._join(i, self._prints[i])
        return other in self.twins

    def _join(self, i: int, content: str) -> None:
        """Make of file `i` a twin of the first of its content and class, and note those of other classes.

        Without a label of its own a file is of the class of its equals.
        """
        label = self._classes.get(self.names[i], "")
        same = self._first.setdefault(content, {})
        if label and "" in same:
            same[label] = same.pop("")
            self._classes[self.names[same[label]]] = label
        label = label or next(iter(same), "")
        if same.setdefault(label, i) != i:
            self.twins[i] = same[label]
        elif len(same) > 1:
            other = next(iter(same.values()))
            self.conflicts.setdefault(other, i)
            self.conflicts[i] = other

    def entry(self, i: int) -> Entry:
        entry = self._fate(i)._replace(label=self._classes.get(self.names[i], ""))
        if entry.status != "ok" or self.issues is None:
            return entry
        also = [kind for reason, kind in REASONS.items() if entry.reason.startswith(reason)]
        return entry._replace(issues=(*self.issues.get(i, ()), *also))

    def _fate(self, i: int) -> Entry:
        origin = i
        while origin in self.twins:
            origin = self.twins[origin]
        name, sha256 = self.names[i], self.headers[i].sha256
        if origin in self.bad:
            return Entry(name, sha256, "unreadable", self.bad[origin])
        if origin != i:
            return Entry(name, sha256, "duplicate", f"exact duplicate of {self.names[origin]}")
        if i in self.conflicts and self.conflicts[i] not in self.bad:
            return Entry(name, sha256, "ok", f"{CONFLICT} {self.names[self.conflicts[i]]}")
        return Entry(name, sha256, "ok", f"{NEAR} {self.names[self.near[i]]}" if i in self.near else "")


def class_folders(names: Sequence[str]) -> dict[str, str]:
    """The class of each image, the name of its folder, where a set has a folder for each class; else nothing.

    As torchvision's ImageFolder and Hugging Face's imagefolder have them: every image lies in a folder, all
    equally deep, so ``train/cat/1.png`` and ``test/cat/2.png`` are of one class. A shard is no folder.
    """
    folders = {name: [p for p in PurePosixPath(name).parts[:-1] if not is_shard(p)] for name in names}
    if len(set(map(len, folders.values()))) != 1 or not all(folders.values()):
        return {}
    return {name: parts[-1] for name, parts in folders.items()}
