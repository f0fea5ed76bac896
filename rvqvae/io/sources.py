"""Image files as pictures: what a folder, a .zip, a .npz or a shard holds, and the decoding of one file."""

from __future__ import annotations

import hashlib
import math
import os
import stat
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from heapq import heappop, heappush
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from rvqvae.errors import InputError
from rvqvae.io.arrays import MIN_SIDE, axes_of
from rvqvae.io.shards import SHARDS, Shard, check_bytes, is_shard, missing_shards, open_shard

Size = tuple[int, int]
"""Height and width in pixels."""

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif"})
# Pillow reads more, but those are not what the suffixes say, and one of them (EPS) starts a program.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
KINDS = "a folder nor a .zip nor a .npz nor a .tar nor a .parquet"
GREY_MODES = frozenset({"1", "L", "LA", "I", "I;16", "I;16L", "I;16B"})
MAX_ARRAY = 2**33
"""Bytes of a compressed array, which is held in memory."""
ORIENTATION = 0x0112


class Source(NamedTuple):
    """The images of a folder, a .zip, a .npz or a shard: their names, and how to get at them."""

    names: list[str]
    """POSIX paths, sorted; ``x[0]``, ``x[1]``... in a .npz. A folder that cannot be listed and a shard that
    is missing or damaged are names, with a ``/`` at their end, so that no image is missed in silence."""
    read: Callable[[str], bytes]
    """The bytes of a name; raises whatever goes wrong."""
    open: Callable[[bytes], Image.Image]
    """The picture in such bytes, its pixels not decoded yet; raises whatever goes wrong."""
    channels: int | None = None
    """1 or 3 if the source itself says so, as a .npz does."""
    shape: tuple[int, ...] = ()
    """Of a row of a .npz."""


class Side(NamedTuple):
    """How images are decoded; ``read_source(path, **side._asdict())`` decodes others alike."""

    size: Size
    channels: int
    """1 (grey) or 3 (RGB)."""


class Header(NamedTuple):
    """What a file tells without being decoded."""

    sha256: str
    """Empty if the bytes cannot be read."""
    size: Size
    """Upright."""
    mode: str
    """Pillow's."""
    reason: str
    """Why it is no good, or empty."""


@contextmanager
def open_source(path: str | Path) -> Iterator[Source]:
    """Open a folder, .zip, .npz, .tar or .parquet for reading; InputError if it is none or holds no image.

    Files count as images by their suffix, whatever is in them; files without one are left out, as are
    hidden ones and ``__MACOSX``. Links are followed, but each folder is visited once. Of members of one
    name in a .zip or .tar the last counts, as when it is unpacked. The images of a shard, be it given or in a
    folder, are named below it: ``shard-0001.tar/a/b.png``, ``train.parquet/0000012.jpg``.
    """
    path = Path(path)
    try:
        if path.is_dir():
            files = list(_walk(str(path)))
            source, archive = _tree(str(path), files, missing_shards(filter(is_shard, files))), None
        elif path.suffix.lower() == ".zip":
            archive = zipfile.ZipFile(path)
            members = (name for name in archive.namelist() if not name.endswith("/"))
            names = sorted({name for name in members if _is_image(name)})
            source = Source(names, partial(_read_member, archive), _open_picture)
        elif path.suffix.lower() == ".npz":
            source, archive = _rows_of(path), None
        elif is_shard(path.name) and path.exists():
            source, archive = _tree(str(path.parent), [path.name], {}), None
            if source.names == [f"{path.name}/"]:
                source.read(source.names[0])
        elif path.exists():
            raise InputError(f"{path} is neither {KINDS}")
        else:
            raise FileNotFoundError
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist: give {KINDS.replace(' nor', ',')}") from error
    except Exception as error:
        raise unreadable(str(path), why(error)) from error
    try:
        if not source.names:
            raise InputError(
                f"{path} holds no images: none of its files ends in {', '.join(sorted({*SUFFIXES, *SHARDS}))}"
            )
        yield source
    finally:
        if archive is not None:
            archive.close()


def inspect(source: Source, name: str) -> Header:
    """Hash a file and read its header; never raises."""
    sha256 = ""
    try:
        content = source.read(name)
        sha256 = hashlib.sha256(content).hexdigest()
        with source.open(content) as picture:
            size = _upright_size(picture)
            if min(size) < MIN_SIDE:
                raise ValueError(
                    f"its height {size[0]} and width {size[1]} must be at least {MIN_SIDE} pixels"
                )
            return Header(sha256, size, picture.mode, "")
    except Exception as error:
        return Header(sha256, (0, 0), "", why(error))


def decode(source: Source, side: Side, name: str) -> NDArray[np.uint8] | str:
    """The pixels of a file, uint8 (C,H,W), or why it is no good; never raises."""
    try:
        picture = read_picture(source, name, side.size)
    except Exception as error:
        return why(error)
    if side.channels == 1:
        return np.asarray(picture.convert("L"))[None]
    return np.ascontiguousarray(np.asarray(picture.convert("RGB")).transpose(2, 0, 1))


def is_coloured(source: Source, size: Size, name: str) -> bool:
    """Whether any pixel is not grey: formats and palettes without a grey mode hide grey pictures."""
    pixels = decode(source, Side(size, 3), name)
    return not isinstance(pixels, str) and bool((pixels != pixels[:1]).any())


def same_pixels(source: Source, one: str, other: str) -> bool:
    """Whether two files decode to the same picture, at its full size; never raises."""
    try:
        first, second = (np.asarray(read_picture(source, name).convert("RGB")) for name in (one, other))
    except Exception:  # Their reduced sizes could be read, so at worst two rows stay where one would do.
        return False
    return np.array_equal(first, second)


def read_picture(source: Source, name: str, size: Size | None = None) -> Image.Image:
    """Decode a file to a picture of mode L or RGB, upright, and resized if asked; raises what goes wrong."""
    with source.open(source.read(name)) as picture:
        if size is not None:
            # A JPEG is decoded at a fraction of its size, but as in Image.thumbnail at least at twice ours.
            picture.draft(None, (2 * max(size), 2 * max(size)))
        picture.load()
        with suppress(Exception):  # EXIF may be damaged where pixels are not.
            ImageOps.exif_transpose(picture, in_place=True)
        upright = _to_eight_bits(picture)
    if size is None or (upright.height, upright.width) == size:
        return upright
    return upright.resize(size[::-1], Image.Resampling.BICUBIC, reducing_gap=2.0)


def why(error: Exception) -> str:
    """An error in one plain line."""
    if isinstance(error, UnidentifiedImageError):
        return "it is not an image of a known format"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split()) or type(error).__name__


def unreadable(name: str, reason: str) -> InputError:
    return InputError(f"{name} cannot be read: {reason}: repair or remove it")


def _walk(root: str) -> Iterator[str]:
    """Names of the files below `root` that are not hidden; of folders that cannot be listed, with a ``/``.

    Every folder is visited once, so loops of links end, and under its own name before that of a link.
    """
    seen: set[tuple[int, int]] = set()
    waiting = [(False, "")]
    while waiting:
        _, folder = heappop(waiting)
        try:
            status = os.stat(os.path.join(root, folder))
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(os.path.join(root, folder)) as found:
                items = [item for item in found if not _hidden(item.name)]
        except OSError:
            if not folder:
                raise
            yield folder
            continue
        for item in items:
            if os.path.isdir(item.path) if item.is_symlink() else item.is_dir():
                heappush(waiting, (item.is_symlink(), f"{folder}{item.name}/"))
            else:
                yield folder + item.name


def _hidden(part: str) -> bool:
    return part.startswith(".") or part == "__MACOSX"


def files_of(folder: str | Path) -> list[str]:
    """Names of the image files and shards in a folder, as `Source.names`; no shard is opened."""
    names = list(_walk(str(folder)))
    return sorted(name for name in names if name.endswith("/") or is_shard(name) or _is_image(name))


def _is_image(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix.lower() in SUFFIXES and not any(map(_hidden, path.parts))


def _tree(root: str, files: list[str], faults: dict[str, str]) -> Source:
    """The images among the files below `root`, and those in the shards among them; `faults` are names too."""
    shards = {name: open_shard(os.path.join(root, name), name, _is_image) for name in files if is_shard(name)}
    faults = faults | {f"{name}/": shard.fault for name, shard in shards.items() if shard.fault}
    names = [name for name in files if name.endswith("/") or _is_image(name)]
    for shard in shards.values():
        names += shard.names
    return Source(sorted([*names, *faults]), partial(_read_below, root, shards, faults), _open_picture)


def _read_below(root: str, shards: dict[str, Shard], faults: dict[str, str], name: str) -> bytes:
    if name in faults:
        raise ValueError(faults[name])
    end = name.find("/") if shards else -1
    while end >= 0:
        if (shard := shards.get(name[:end])) is not None:
            return shard.read(name)
        end = name.find("/", end + 1)
    return _read_file(root, name)


def _read_file(root: str, name: str) -> bytes:
    path = os.path.join(root, name)
    status = os.stat(path)
    if stat.S_ISDIR(status.st_mode):
        raise ValueError("the folder cannot be listed")
    if not stat.S_ISREG(status.st_mode):  # Reading a pipe would wait for ever.
        raise ValueError("it is not a regular file")
    check_bytes(status.st_size)
    with open(path, "rb") as file:
        return file.read()


def _read_member(archive: zipfile.ZipFile, name: str) -> bytes:
    check_bytes(archive.getinfo(name).file_size)
    return archive.read(name)


def _open_picture(content: bytes) -> Image.Image:
    return Image.open(BytesIO(content), formats=FORMATS)


class _Rows(NamedTuple):
    """The array ``x`` of a .npz."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Callable[[int], bytes]


def _array_x(path: Path) -> _Rows:
    """Read in place if it is not compressed; InputError if there is none, or one too large for the memory."""
    with zipfile.ZipFile(path) as archive:
        members = {name.removesuffix(".npy"): name for name in archive.namelist()}
        if "x" not in members:
            raise InputError(
                f"{path} has no array 'x', only {sorted(members)}: save it with numpy.savez(path, x=images)"
            )
        info = archive.getinfo(members["x"])
        with archive.open(info) as member:
            if (version := np.lib.format.read_magic(member)) != (1, 0):
                raise ValueError(f"its array x is of version {version}, not (1, 0)")
            shape, by_columns, dtype = np.lib.format.read_array_header_1_0(member)
            start, size = member.tell(), math.prod(shape) * dtype.itemsize
            if dtype.hasobject:
                raise ValueError("its array x holds Python objects, and pickles are not loaded")
            if start + size != info.file_size:
                raise ValueError(
                    f"its array x should have {size:,} bytes, and has {info.file_size - start:,}"
                )
            if info.compress_type == zipfile.ZIP_STORED and not by_columns:
                while member.read(2**20):  # Which checks them against their checksum.
                    pass
                return _Rows(shape, dtype, partial(_read_row, path, _data_of(path, info) + start, shape[1:]))
        if size > MAX_ARRAY:
            raise ValueError(
                f"its array x has {size:,} bytes, above the limit of {MAX_ARRAY:,} for one that is compressed"
            )
        with archive.open(info) as member:
            images = np.lib.format.read_array(member, allow_pickle=False)
    return _Rows(shape, dtype, lambda i: images[i].tobytes())


def _data_of(path: Path, info: zipfile.ZipInfo) -> int:
    """Where the content of a member of a .zip begins."""
    with open(path, "rb") as file:
        file.seek(info.header_offset)
        header = file.read(30)
    return (
        info.header_offset
        + 30
        + int.from_bytes(header[26:28], "little")
        + int.from_bytes(header[28:30], "little")
    )


def _read_row(path: Path, start: int, shape: tuple[int, ...], row: int) -> bytes:
    size = math.prod(shape)
    with open(path, "rb") as file:
        file.seek(start + row * size)
        content = file.read(size)
    if len(content) != size:
        raise ValueError("its file has been cut short")
    return content


def _rows_of(path: Path) -> Source:
    """The rows of the array ``x`` of a .npz, in any layout of `rvqvae.io.arrays`."""
    rows = _array_x(path)
    images = np.broadcast_to(np.zeros((), rows.dtype), rows.shape)  # Of no size: its form alone is looked at.
    layout = axes_of(images)
    shape = rows.shape[1:]

    def picture(content: bytes) -> Image.Image:
        row = np.frombuffer(content, np.uint8).reshape(shape)
        if layout == "nchw":
            row = row[0] if len(row) == 1 else row.transpose(1, 2, 0)
        return Image.fromarray(row)

    return Source(
        [f"x[{i}]" for i in range(len(images))],
        lambda name: rows.read(int(name[2:-1])),
        picture,
        1 if layout == "nhw" or (layout == "nchw" and shape[0] == 1) else 3,
        shape,
    )


def _upright_size(picture: Image.Image) -> Size:
    width, height = picture.size
    turned = False
    # Pillow turns a TIFF by itself, and would decode a whole PNG in search of EXIF that its header lacks.
    if picture.format in ("JPEG", "MPO", "WEBP") or "exif" in picture.info:
        with suppress(Exception):  # As in read_picture.
            turned = picture.getexif().get(ORIENTATION, 1) >= 5
    return (width, height) if turned else (height, width)


def _to_eight_bits(picture: Image.Image) -> Image.Image:
    """Convert any mode of Pillow to L if it is a grey one, else to RGB."""
    if picture.mode.startswith("I"):
        # Pillow's own conversion clips 16-bit values at 255 instead of scaling them.
        values = np.asarray(picture)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError("it has 32-bit values, save it with 8 or 16 bits")
        return Image.fromarray(np.round(values / 257).astype(np.uint8))
    if picture.mode == "F":
        raise ValueError("it has float values, save it with 8 or 16 bits")
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return picture.convert("L" if picture.mode in ("1", "L") else "RGB")
