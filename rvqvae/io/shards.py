"""Shards read in place: tar files as WebDataset has them, Parquet as Hugging Face datasets writes it.

Nothing is unpacked to the disk. The headers of a shard are not trusted: sizes are bounded, links are
not followed, and damage is not mistaken for the end of a shard.
"""

from __future__ import annotations

import io
import os
import re
import tarfile
import threading
from array import array
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from rvqvae.errors import InputError

TAR, PARQUET = ".tar", ".parquet"
SHARDS = (TAR, PARQUET)
MAX_BYTES = 2**30
"""Of an encoded image."""
MAX_HEADER = 2**20
"""Bytes of a header in a tar, of which a long name is the largest part."""
MAX_ROWS = 10_000_000
"""Of a Parquet shard: a few bytes of it can tell of any number of empty ones."""
ROWS = 16
"""Of a Parquet shard that are decoded together."""
KEPT = 2**26
"""Bytes of decoded rows kept for each row group in use, unless a single batch is larger."""
OPEN_GROUPS = 3
LINK, CUT = -1, -2
"""Sizes of members that cannot be read."""


class Shard(NamedTuple):
    """What one file holds."""

    names: list[str]
    """Sorted, each below the name of the shard."""
    read: Callable[[str], bytes]
    """The bytes of a name; raises whatever goes wrong."""
    fault: str = ""
    """Why there may have been more, or empty."""


def is_shard(name: str) -> bool:
    return name.lower().endswith(SHARDS)


def open_shard(
    path: str, name: str, wanted: Callable[[str], bool], leave_out: Callable[[str], None]
) -> Shard:
    """The members called ``name/...`` of the shard at `path` that are `wanted`; all rows of a Parquet file.

    `leave_out` is called with the name of each other file. A file that is no shard is one without names, and
    with a fault. InputError without pyarrow.
    """
    if os.path.exists(path) and not os.path.isfile(path):  # Reading a pipe would wait for ever.
        return Shard([], lambda name: b"", "it is not a regular file")
    if path.lower().endswith(TAR):
        return _tar(path, f"{name}/", wanted, leave_out)
    return _parquet(path, f"{name}/", wanted)


def missing_shards(names: Iterable[str]) -> dict[str, str]:
    """The first shard missing from each series, with a sentence that says how many are.

    Series are ``train-00000-of-00005.parquet``, and four to six digits at the end, as in ``a-000017.tar``.
    """
    series: dict[tuple[str, str], list[str]] = {}
    for name in names:
        if found := re.fullmatch(r"(.*?)(?<!\d)(\d{4,6})((?:-of-\d{4,6})?\.\w+)", name, re.DOTALL):
            series.setdefault((found[1], found[3]), []).append(found[2])
    missing: dict[str, str] = {}
    for (start, end), digits in series.items():
        numbers, width = set(map(int, digits)), len(digits[0])
        total = re.match(r"-of-(\d+)", end)
        wanted = range(int(total[1])) if total else range(min(numbers), max(numbers) + 1)
        absent = [number for number in wanted if number not in numbers]
        if absent and len({len(text) for text in digits}) == 1:
            more = f", as are {len(absent) - 1:,} more of its series" if len(absent) > 1 else ""
            missing[f"{start}{absent[0]:0{width}}{end}/"] = f"the shard is missing{more}"
    return missing


class _Headers(io.BufferedReader):
    """A tar file whose headers alone are read."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= MAX_HEADER:
            raise ValueError(f"a header of {size:,} bytes is above the limit of {MAX_HEADER:,}")
        return super().read(size)


def _tar(path: str, prefix: str, wanted: Callable[[str], bool], leave_out: Callable[[str], None]) -> Shard:
    places: dict[str, tuple[int, int]] = {}
    try:
        with _Headers(io.FileIO(path)) as file:
            fault = _index(file, prefix, wanted, leave_out, places)
    except Exception as error:  # tarfile raises much more than its own errors on damaged headers.
        text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        fault = f"it can be read no further than its first {len(places):,} images: {_line(text)}"
    names = sorted(places)
    starts = array("q", (places[name][0] for name in names))
    sizes = array("q", (places[name][1] for name in names))

    def read(name: str) -> bytes:
        at = bisect_left(names, name)
        if at == len(names) or names[at] != name:
            raise KeyError(f"there is no {name}")
        if sizes[at] == LINK:
            raise ValueError("it is a link or a sparse file, which is not followed in a shard")
        check_bytes(sizes[at])
        with open(path, "rb") as file:
            file.seek(starts[at])
            content = file.read(sizes[at]) if sizes[at] > 0 else b""
        if len(content) != sizes[at]:
            raise ValueError("its shard ends before it does")
        return content

    return Shard(names, read, fault)


def _index(
    file: _Headers,
    prefix: str,
    wanted: Callable[[str], bool],
    leave_out: Callable[[str], None],
    places: dict[str, tuple[int, int]],
) -> str:
    """Note where each wanted member lies, the last of one name; return why there may be more, or nothing."""
    end = os.fstat(file.fileno()).st_size
    with tarfile.open(fileobj=file, mode="r:") as archive:
        last = -1
        while (member := archive.next()) is not None:
            archive.members.clear()  # type: ignore[attr-defined]  # A kilobyte each.
            if member.offset <= last:
                raise ValueError("its headers lead back to earlier ones")
            last = member.offset
            name = member.name.removeprefix("./")
            if member.isdir():
                continue
            if not wanted(name):
                leave_out(prefix + name)
                continue
            if not member.isreg() or member.issparse():
                places[prefix + name] = 0, LINK
            elif member.offset_data + member.size > end:
                places[prefix + name] = 0, CUT
            else:
                places[prefix + name] = member.offset_data, member.size
        file.seek(archive.offset)
        block = file.read(tarfile.BLOCKSIZE)
    if block.count(0) == tarfile.BLOCKSIZE:
        return ""
    how = "is damaged" if len(block) == tarfile.BLOCKSIZE else "ends without the mark of an end"
    return f"it {how} after the first {len(places):,} images"


def _parquet(path: str, prefix: str, wanted: Callable[[str], bool]) -> Shard:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise InputError(
            f"{path} needs pyarrow to be read: install the extra rvqvae[parquet], or give the images as files"
        ) from error
    try:
        rows = _Rows(path, parquet)
        names = [f"{prefix}{i:07d}{suffix}" for i, suffix in enumerate(rows.suffixes(wanted))]
    except Exception as error:
        return Shard([], lambda name: b"", f"it cannot be read: {_line(error)}")

    def read(name: str) -> bytes:
        at = int(PurePosixPath(name).stem)
        if not (0 <= at < len(names) and names[at] == name):
            raise KeyError(f"there is no {name}")
        content = rows[at]
        if content is None:
            raise ValueError("its bytes are not in the shard")
        check_bytes(len(content))
        return content

    return Shard(names, read)


class _Rows:
    """Encoded images by their row, of which those are kept that come next or came just before."""

    def __init__(self, path: str, parquet: Any) -> None:
        self._path, self._parquet = path, parquet
        self._lock = threading.Lock()
        self._groups: OrderedDict[int, _Group] = OrderedDict()
        with self._open() as file:
            meta = file.metadata
            if meta.num_rows > MAX_ROWS:
                raise ValueError(f"it tells of {meta.num_rows:,} rows, above the limit of {MAX_ROWS:,}")
            leaves = {meta.schema.column(i).path: meta.schema.column(i) for i in range(meta.num_columns)}
            self._column = _image_column(leaves)
            self._names = self._column.removesuffix(".bytes") + ".path"
            self._has_names = self._names in leaves and self._names != self._column
            self._first, count = array("q"), 0
            for group in range(meta.num_row_groups):
                self._first.append(count)
                count += meta.row_group(group).num_rows
            self._count = meta.num_rows
            if count != self._count:
                raise ValueError(f"it tells of {self._count:,} rows and holds {count:,}")

    def suffixes(self, wanted: Callable[[str], bool]) -> Iterator[str]:
        """Of the files that the rows were; ``.png``, as datasets encodes arrays, where they have no names."""
        if not self._has_names:
            yield from [".png"] * self._count
            return
        seen = 0
        with self._open() as file:
            for batch in file.iter_batches(batch_size=1024, columns=[self._names]):
                for name in _leaf(batch).to_pylist():
                    suffix = PurePosixPath(name or "").suffix.lower()
                    yield suffix if suffix.isascii() and wanted(f"a{suffix}") else ".png"
                    seen += 1
        if seen != self._count:
            raise ValueError(f"it tells of {self._count:,} rows and holds {seen:,}")

    def __getitem__(self, row: int) -> bytes | None:
        # One thread reads, and the others decode what it has read.
        with self._lock:
            number = bisect_left(self._first, row + 1) - 1
            group = self._groups.get(number)
            if group is None or not group.reaches(row - self._first[number]):
                group = self._groups[number] = _Group(self._batches(number))
            self._groups.move_to_end(number)
            while len(self._groups) > OPEN_GROUPS:
                self._groups.popitem(last=False)
            return group[row - self._first[number]]

    def _batches(self, number: int) -> Iterator[Any]:
        with self._open() as file:
            group = file.metadata.row_group(number)
            (chunk,) = (
                c for c in map(group.column, range(group.num_columns)) if c.path_in_schema == self._column
            )
            # Rows that repeat one large value of a dictionary take its size each once they are decoded.
            large = chunk.has_dictionary_page and chunk.total_uncompressed_size > KEPT
            rows = 1 if large else ROWS
            for batch in file.iter_batches(batch_size=rows, row_groups=[number], columns=[self._column]):
                yield _leaf(batch)

    def _open(self) -> Any:
        return self._parquet.ParquetFile(self._path, buffer_size=2**20, pre_buffer=False)


class _Group:
    """A row group from its start to where it has been read, without the oldest part."""

    def __init__(self, batches: Iterator[Any]) -> None:
        self._batches = batches
        self._kept: list[tuple[int, Any]] = []
        self._next = self._bytes = 0

    def reaches(self, row: int) -> bool:
        return not self._kept or row >= self._kept[0][0]

    def __getitem__(self, row: int) -> bytes | None:
        while row >= self._next:
            batch = next(self._batches, None)
            if batch is None:
                raise ValueError("its shard holds fewer rows than it tells of")
            self._kept.append((self._next, batch))
            self._next += len(batch)
            self._bytes += batch.nbytes
            while self._bytes > KEPT and len(self._kept) > 1:
                self._bytes -= self._kept.pop(0)[1].nbytes
        at = bisect_left(self._kept, row + 1, key=lambda item: item[0]) - 1
        start, batch = self._kept[at]
        value: bytes | None = batch[row - start].as_py()
        return value


def _image_column(leaves: dict[str, Any]) -> str:
    """The leaf with encoded images: of the column ``image``, else of the only one that has ``bytes``."""
    binary = [path for path, leaf in leaves.items() if leaf.physical_type == "BYTE_ARRAY"]
    for name in ("image.bytes", "image"):
        if name in binary:
            return name
    found = [path for path in binary if path.endswith(".bytes") and path.count(".") == 1]
    if len(found) != 1:
        raise ValueError("it has no column 'image' of encoded images (struct of bytes and path, or binary)")
    return found[0]


def _leaf(batch: Any) -> Any:
    """The one column that was asked for, out of its struct."""
    column = batch.column(0)
    while column.type.num_fields:
        # Unlike field(), it counts a struct that is null.
        (column,) = column.flatten()
    return column


def check_bytes(count: int) -> None:
    """Raises ValueError for sizes that no image has."""
    if count == 0:
        raise ValueError("it is empty")
    if count > MAX_BYTES:
        raise ValueError(f"it has {count:,} bytes, above the limit of {MAX_BYTES:,}")


def _line(error: object) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
