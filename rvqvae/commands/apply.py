"""Apply a manifest: the copy of what it keeps."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from rvqvae.commands.folder import Folder, check_outside, locked
from rvqvae.errors import InputError, some_of
from rvqvae.io.left_out import LeftOut
from rvqvae.io.manifest import Row, copy_kept, read_manifest, to_copy
from rvqvae.io.sources import Source, open_source

CLEAN = "clean"
NAMED = 20
"""Files named in a line at most."""
Copy = Literal["copy", "link"]


class Applied(NamedTuple):
    """What a reviewed manifest led to."""

    out: Path
    copied: int
    unlisted: int
    """Image files of the source that the manifest says nothing of; they are not copied."""
    duplicates: int
    """Exact duplicates among the copied, which the reviewer wanted."""
    unreadable: tuple[str, ...]
    """Files that the reviewer wanted, and that are no images that can be read; they are not copied."""
    left_out: LeftOut

    def lines(self) -> list[str]:
        unlisted = (
            f"; {self.unlisted:,} that the manifest does not list are left out" if self.unlisted else ""
        )
        lines = [f"{self.copied:,} images are in {self.out / CLEAN}{unlisted}."]
        if self.duplicates:
            lines.append(
                f"{self.duplicates:,} of them are exact duplicates, kept because the manifest says so."
            )
        if self.unreadable:
            lines.append(
                f"{len(self.unreadable):,} that the manifest keeps cannot be read as images, and are not "
                f"copied: {some_of(self.unreadable, NAMED)}."
            )
        return lines + self.left_out.lines(copied=True)


def copy_kind(copy: bool, link: bool) -> Copy | None:
    """What two flags ask for; InputError for both."""
    if copy and link:
        raise InputError("--copy and --link exclude each other: give one of them")
    return "copy" if copy else "link" if link else None


def apply_manifest(images: str | Path, manifest: str | Path, out: str | Path, copy: Copy) -> Applied:
    """Copy what a reviewed manifest keeps into ``out/clean/``, or link to it; nothing is trained.

    `out` may be the folder of the cleaning that was reviewed. InputError as for `clean`, for a damaged
    manifest, and for a file that has changed since.
    """
    images, out = Path(images), Path(out)
    check_outside(out, images)
    rows = read_manifest(manifest)
    with open_source(images) as source, locked(out) as folder:
        return Applied(
            out,
            copy_clean(rows, source, folder, copy),
            len(set(source.names) - {row.path for row in rows}),
            sum(row.status == "duplicate" for row in to_copy(rows)),
            tuple(row.path for row in rows if row.keep and row.status == "unreadable"),
            source.left_out,
        )


def copy_clean(rows: Sequence[Row], images: Source, folder: Folder, copy: Copy) -> int:
    """Make ``clean/`` in the folder, whole or not at all; complete it if it is there; return how many.

    InputError if it is there and holds what the rows do not keep.
    """
    target = folder.path / CLEAN
    if target.exists():
        kept = {Path(row.path).as_posix() for row in to_copy(rows)} | {"clean.npz"}
        extra = sorted(name for name in _names_below(target) if name not in kept)
        if extra:
            raise InputError(
                f"{target} holds {extra[0]!r}, which this manifest does not keep: remove it, or give another "
                "folder"
            )
        return copy_kept(rows, images, target, link=copy == "link")
    unfinished = folder.work / CLEAN
    count = copy_kept(rows, images, unfinished, link=copy == "link")
    unfinished.mkdir(exist_ok=True)
    os.replace(unfinished, target)
    return count


def _names_below(folder: Path) -> list[str]:
    """POSIX names of the files and links in a folder, relative to it."""
    return [
        Path(root, name).relative_to(folder).as_posix()
        for root, folders, files in os.walk(folder)
        for name in [*files, *(f for f in folders if Path(root, f).is_symlink())]
    ]
