"""The account of what is no image: every regular file that is not read is counted, archives are named."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from rvqvae.errors import some_of

ARCHIVES = frozenset(
    {".zip", ".npz", ".tar", ".parquet", ".7z", ".rar", ".gz", ".tgz", ".bz2", ".xz", ".zst"}
)
"""Shards too, which are read in a folder but not in an archive."""
LABELS = frozenset({".txt", ".json", ".jsonl", ".xml", ".csv", ".tsv", ".yaml", ".yml"})
SYSTEM_NAMES = frozenset({".ds_store", "thumbs.db", "ehthumbs.db", "desktop.ini", ".directory"})
SYSTEM, HIDDEN, BARE = "system files", "hidden files", "no suffix"
NAMED = 5
"""Archives named in a line at most."""


@dataclass
class LeftOut:
    """What a source holds beside its images."""

    counts: Counter[str] = field(default_factory=Counter)
    """Files by suffix in lower case, such as ``.txt``; or "no suffix", "hidden files", "system files"."""
    archives: list[str] = field(default_factory=list)
    """Names of archives inside the source, which nothing looks into."""

    def add(self, name: str) -> None:
        """Count one file by its POSIX name."""
        kind = kind_of(name)
        self.counts[kind] += 1
        if kind in ARCHIVES:
            self.archives.append(name)

    @property
    def labels(self) -> int:
        """Files that may hold labels or captions of the images."""
        return sum(count for kind, count in self.counts.items() if kind in LABELS)

    def as_json(self) -> dict[str, int]:
        """Counts by kind, the most first."""
        return dict(sorted(self.counts.items(), key=lambda item: (-item[1], item[0])))

    @classmethod
    def read(cls, counts: Mapping[str, int], archives: Iterable[str]) -> LeftOut:
        """From what `as_json` gave, and the archives."""
        return cls(Counter(counts), list(archives))

    def lines(self, copied: bool = False) -> list[str]:
        """What is said on screen, with ``copied`` also of labels; nothing if nothing was left out."""
        if not self.counts:
            return []
        kinds = ", ".join(
            f"{count:,} {kind.replace('files', 'file') if count == 1 else kind}"
            for kind, count in self.as_json().items()
        )
        lines = [f"Left out, as no images: {kinds}."]
        if self.counts[".heic"] + self.counts[".heif"]:
            lines.append("To read .heic and .heif, install the extra: rvqvae[heif].")
        if self.counts[".avif"]:
            lines.append("To read .avif, install a Pillow that is built with it.")
        if self.archives:
            named = some_of(sorted(self.archives), NAMED)
            lines.append(f"Not looked into: {named}. Unpack an archive, or give it by itself.")
        if copied and self.labels:
            files = "1 file" if self.labels == 1 else f"{self.labels:,} files"
            lines.append(f"Beside the images, {files} may hold labels; the copy is without.")
        return lines


def kind_of(name: str) -> str:
    """What a file that is not read is counted as."""
    path = PurePosixPath(name)
    if path.name.lower() in SYSTEM_NAMES or path.name.startswith("._") or "__MACOSX" in path.parts:
        return SYSTEM
    return HIDDEN if is_hidden(name) else path.suffix.lower() or BARE


def is_hidden(name: str) -> bool:
    """Whether a file, or a folder that it is in, is hidden, as ``..`` is too."""
    return any(part.startswith(".") or part == "__MACOSX" for part in PurePosixPath(name).parts)
