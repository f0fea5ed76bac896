"""Files to images, in a stream: the pixels of a source, and which of its files are damaged or duplicates.

Threads decode large files, as Pillow releases the interpreter's lock meanwhile. With small ones they would
pass it on all the time: two threads took 2.4 seconds for 10,000 digits as PNG, one takes 1.0. The start of
processes and the transfer of pixels cost more than they save.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import IO, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rvqvae.atomic import replacing
from rvqvae.errors import InputError, check_whole
from rvqvae.io.arrays import MAX_SIDE, MIN_SIDE, check_sides
from rvqvae.io.duplicates import near_duplicates
from rvqvae.io.issues import Figures, find_issues
from rvqvae.io.ledger import Entry, Ledger
from rvqvae.io.left_out import LeftOut
from rvqvae.io.levels import Levels, common_levels
from rvqvae.io.pictures import (
    GREY_MODES,
    Header,
    Side,
    Size,
    decode,
    decode_measured,
    fingerprint,
    inspect,
    is_coloured,
    pixel_limit,
)
from rvqvae.io.sources import Source, open_source, unreadable
from rvqvae.progress import Progress, silent

DEFAULT_SIDE = 64
CHUNK, IN_FLIGHT = 16, 16
QUICK = 0.5e-3
"""Seconds a file, below which the threads wait."""

A = TypeVar("A")
B = TypeVar("B")


class Inventory(NamedTuple):
    """Every image file of a source, and the pixels of the good ones."""

    entries: tuple[Entry, ...]
    """Sorted by path; the rows of a .npz in their order."""
    images: NDArray[np.uint8]
    """uint8 (M,C,H,W), C in {1,3}: the entries whose status is ok, in order."""
    rows: NDArray[np.int64]
    """int64 (M,): the index of each image in `entries`."""
    side: Side
    left_out: LeftOut = LeftOut()
    """Every other regular file of the source."""
    sizes: tuple[Size, ...] = ()
    """Height and width of each entry's file, upright; zeros if it is unreadable."""
    reduced: int = 0
    """Images whose colours have more than 8 bits, of which the upper 8 are read."""


class ImageSet(NamedTuple):
    """Images and where each one came from."""

    images: NDArray[np.uint8]
    """uint8 (N,C,H,W), C in {1,3}."""
    paths: tuple[str, ...]
    """N names, as `Entry.path`."""


def read_source(
    path: str | Path | Source,
    *,
    size: int | Size | None = None,
    channels: int | None = None,
    levels: Levels | None = None,
    store: Path | None = None,
    workers: int | None = None,
    progress: Progress = silent,
    deduplicate: bool = True,
    labels: Mapping[str, str] | None = None,
    issues: bool = False,
) -> Inventory:
    """Read every image of a folder (recursive), a .zip, or a .npz (array ``x``); bad files are never fatal.

    EXIF rotations are applied, transparency is laid on mid-grey, and of animations the first frame is read.
    Colour of 16 bits a channel is read at 8, as Pillow gives no more, and counted in `reduced`; grey keeps
    its depth until `levels`.
    Files count as images by their suffix, whatever is in them; every other file is counted in `left_out`.
    Linked files and folders are read, each folder once.

    `size` (pixels, 8..256, or height and width) resizes every image without cropping; without it, images
    all of one size up to 64 pixels keep it, and others become 64x64. `channels` is 1 (grey) or 3 (RGB);
    without it, images are grey if every pixel of all is. `levels` are the values that become 0 and 255 in
    grey files of more than 8 bits; without it, `common_levels` finds them from the set. `store` is a .npy
    file to keep the pixels in, which are then memory-mapped. `workers` threads decode large files (by default
    one per core).

    With `deduplicate`, files that are equal in every value (`fingerprint`) are left out of the images but for
    the first, unless they are of different classes, which their entries then say; near duplicates (the
    same picture compressed or resized) are named in their entry. ``labels`` are the classes of names;
    without them, they are the folders, where every image lies in one. ``issues`` looks for faults of single
    images (`find_issues`).

    InputError for arguments out of range, a missing source, or one without a single readable image.
    """
    wanted = _check_size(size)
    if channels not in (None, 1, 3):
        raise InputError(f"channels={channels!r} is out of range: it must be 1 (grey) or 3 (RGB)")
    with open_source(path) as source, _threads(workers) as pool:
        headers = list(_in_order(pool, partial(inspect, source), source.names, progress, "scan"))
        ledger = Ledger(source.names, headers, labels=labels)
        if deduplicate:
            ledger.join_equal_files()
        readable = ledger.readable()
        wanted = wanted or _default_size(source, readable)
        levels = levels or common_levels([h.levels for h in readable.values() if h.levels])
        side = Side(wanted, channels or _channels(source, pool, readable, wanted), levels)
        todo = ledger.open_rows()
        names = [source.names[i] for i in todo]
        measured: dict[int, Figures] = {}
        if issues:
            found = _in_order(pool, partial(decode_measured, source, side), names, progress, "decode")
            decoded = _pixels_of(zip(todo, found, strict=True), measured)
        else:
            decoded = _in_order(pool, partial(decode, source, side), names, progress, "decode")
        good = _sift(source, ledger, zip(todo, decoded, strict=True), deduplicate)
        shape = (len(todo), side.channels, *side.size)
        images = _keep_in_memory(good, shape) if store is None else _keep_in_file(good, shape, store)
    rows = np.array(ledger.open_rows(), np.int64)
    near = near_duplicates(images) if deduplicate else {}
    ledger.near = {int(rows[i]): int(rows[j]) for i, j in near.items()}
    if issues:
        kinds = find_issues([measured[i] for i in rows], [headers[i].size for i in rows])
        ledger.issues = {int(i): [kind for kind in kinds if kinds[kind][at]] for at, i in enumerate(rows)}
    entries = tuple(map(ledger.entry, range(len(headers))))
    sizes, reduced = tuple(header.size for header in headers), sum(headers[i].reduced for i in rows)
    return Inventory(entries, images, rows, side, source.left_out, sizes, reduced)


def load_images(path: str | Path, size: int | None = None) -> ImageSet:
    """Load every image as `read_source` does, duplicates included, but refuse a source with a bad file.

    Without `size` (pixels, 8..256; square) all images must have one size. InputError for a missing or
    empty source, an unreadable image, or sides out of 8..256.
    """
    wanted = _check_size(size)
    with open_source(path) as source, _threads(None) as pool:
        names = source.names
        headers = dict(zip(names, _in_order(pool, partial(inspect, source), names), strict=True))
        for name, header in headers.items():
            if header.reason:
                raise unreadable(name, header.reason)
        wanted = wanted or _one_size(path, headers)
        levels = common_levels([header.levels for header in headers.values() if header.levels])
        side = Side(wanted, _channels(source, pool, headers, wanted), levels)
        images = np.empty((len(names), side.channels, *side.size), np.uint8)
        for i, pixels in enumerate(_in_order(pool, partial(decode, source, side), names)):
            if isinstance(pixels, str):
                raise unreadable(names[i], pixels)
            images[i] = pixels
    return ImageSet(images, tuple(names))


def _pixels_of(
    found: Iterable[tuple[int, tuple[NDArray[np.uint8], Figures] | str]], measured: dict[int, Figures]
) -> Iterator[NDArray[np.uint8] | str]:
    """The pixels alone; the figures go to ``measured``."""
    for i, one in found:
        if isinstance(one, str):
            yield one
        else:
            pixels, measured[i] = one
            yield pixels


def _sift(
    source: Source,
    ledger: Ledger,
    decoded: Iterable[tuple[int, NDArray[np.uint8] | str]],
    deduplicate: bool,
) -> Iterator[NDArray[np.uint8]]:
    """Yield the good pixels, and note in the ledger which rows were bad or equal to an earlier one.

    InputError at the end if there were none.
    """
    first: dict[tuple[Size, bytes], int] = {}
    for i, pixels in decoded:
        if isinstance(pixels, str):
            ledger.bad[i] = pixels
            continue
        if deduplicate:
            # Equal at the size that is read: only then is it worth while to look at every value.
            key = ledger.headers[i].size, hashlib.sha256(pixels.data).digest()
            origin = first.setdefault(key, i)
            if origin != i and ledger.joined(origin, i, partial(fingerprint, source)):
                continue
        yield pixels
    ledger.readable()


def _keep_in_memory(rows: Iterable[NDArray[np.uint8]], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Stack at most shape[0] rows."""
    images = np.empty(shape, np.uint8)
    count = 0
    for row in rows:
        images[count] = row
        count += 1
    return images[:count]


def _keep_in_file(rows: Iterable[NDArray[np.uint8]], shape: tuple[int, ...], path: Path) -> NDArray[np.uint8]:
    """Stack at most shape[0] rows in a .npy that appears complete or not at all, and map it read-only.

    They are written, not mapped, because a map on a full disk kills the process.
    """
    with replacing(path, sync=False) as file:
        _write_header(file, shape)
        start, count = file.tell(), 0
        for row in rows:
            file.write(row.data)
            count += 1
        file.seek(0)
        _write_header(file, (count, *shape[1:]))
        # NumPy pads its headers so that the first axis can change.
        assert file.tell() == start
    images: NDArray[np.uint8] = np.load(path, mmap_mode="r")
    return images


def _write_header(file: IO[bytes], shape: tuple[int, ...]) -> None:
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})


@contextmanager
def _threads(workers: int | None) -> Iterator[ThreadPoolExecutor]:
    """A pool whose waiting work is dropped when an error ends the block."""
    if workers is not None:
        check_whole("workers", workers)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    pixel_limit()  # A variable that is no number is refused here, not file by file.
    pool = ThreadPoolExecutor(workers or cores)
    before = Image.MAX_IMAGE_PIXELS
    # Filters and limit are for the whole process: set here once, not in the threads.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        Image.MAX_IMAGE_PIXELS = None  # `rvqvae.io.pictures` has its own, of what is decoded.
        Image.init()
        try:
            yield pool
        finally:
            pool.shutdown(cancel_futures=True)
            Image.MAX_IMAGE_PIXELS = before


def _in_order(
    pool: ThreadPoolExecutor,
    function: Callable[[A], B],
    items: Sequence[A],
    progress: Progress = silent,
    stage: str = "",
) -> Iterator[B]:
    """Results of `function` in the order of `items`, of which a bounded number is in work at a time.

    Chunks go to the pool while the one before was slow.
    """
    chunks = deque(items[start : start + CHUNK] for start in range(0, len(items), CHUNK))
    waiting: deque[Future[tuple[list[B], bool]]] = deque()
    done, slow = 0, False

    def work(chunk: Sequence[A]) -> tuple[list[B], bool]:
        begin = perf_counter()
        results = [function(item) for item in chunk]
        return results, perf_counter() - begin > QUICK * len(chunk)

    while chunks or waiting:
        while chunks and slow and len(waiting) < IN_FLIGHT:
            waiting.append(pool.submit(work, chunks.popleft()))
        results, slow = waiting.popleft().result() if waiting else work(chunks.popleft())
        yield from results
        done += len(results)
        progress(stage, done, len(items))


def _channels(source: Source, pool: ThreadPoolExecutor, headers: dict[str, Header], size: Size) -> int:
    """1 if every pixel of all is grey, else 3; as a rule the first colour file decides."""
    if source.channels is not None:
        return source.channels
    names = [name for name, header in headers.items() if header.mode not in GREY_MODES]
    coloured = partial(is_coloured, source, size)
    if any(map(coloured, names[:CHUNK])) or any(_in_order(pool, coloured, names[CHUNK:])):
        return 3
    return 1


def _check_size(size: int | Size | None) -> Size | None:
    if size is None:
        return None
    height, width = size if isinstance(size, (tuple, list)) else (size, size)
    if not (MIN_SIDE <= height <= MAX_SIDE and MIN_SIDE <= width <= MAX_SIDE):
        raise InputError(f"size={size!r} is out of range: it must be from {MIN_SIDE} to {MAX_SIDE} pixels")
    return height, width


def _default_size(source: Source, headers: dict[str, Header]) -> Size:
    """The size of all, if they agree and it is small; files that turn out to be damaged have no say."""
    default = DEFAULT_SIDE, DEFAULT_SIDE
    names: dict[Size, list[str]] = {}
    for name, header in headers.items():
        names.setdefault(header.size, []).append(name)

    def real(size: Size) -> bool:
        return not all(isinstance(decode(source, Side(default, 1), name), str) for name in names[size])

    sizes = list(names) if len(names) == 1 else list(islice(filter(real, names), 2))
    return sizes[0] if len(sizes) == 1 and max(sizes[0]) <= DEFAULT_SIDE else default


def _one_size(path: str | Path, headers: dict[str, Header]) -> Size:
    first, size = next((name, header.size) for name, header in headers.items())
    for name, header in headers.items():
        check_sides(*header.size, name, "give a size to resize to, such as size=64")
        if header.size != size:
            raise InputError(
                f"{path} holds images of different sizes, {first} of {size} and {name} of {header.size} "
                "pixels (height, width): give one size for all, such as size=64"
            )
    return size
