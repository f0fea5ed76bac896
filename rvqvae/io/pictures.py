"""One image file as a picture: what is read, with which values, and when two are exactly the same."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from importlib.util import find_spec
from io import BytesIO
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, ImageSequence, UnidentifiedImageError, features

from rvqvae.errors import InputError
from rvqvae.io.arrays import MAX_SIDE, MIN_SIDE
from rvqvae.io.issues import Figures, measure
from rvqvae.io.jpeg import is_cut_short
from rvqvae.io.levels import DEEP_MODES, Levels, common_levels, deep_values, range_of, to_grey

if TYPE_CHECKING:
    from rvqvae.io.sources import Source

Size = tuple[int, int]
"""Height and width in pixels."""

# Pillow reads more, but those are not what the suffixes say, and one of them (EPS) starts a program.
FORMATS = {
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "WEBP": (".webp",),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
    "GIF": (".gif",),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
}
if features.check("avif"):
    FORMATS["AVIF"] = (".avif",)
if find_spec("pillow_heif"):
    FORMATS["HEIF"] = (".heic", ".heif")
SUFFIXES = frozenset(suffix for suffixes in FORMATS.values() for suffix in suffixes)
GREY_MODES = frozenset({"1", "L", "LA", "I", "F", "I;16", "I;16L", "I;16B", "I;16N"})
LOSSLESS_IN_RGBA = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA"})
ORIENTATION = 0x0112
PIXI = re.compile(rb"pixi....[^\0](.)", re.DOTALL)
"""The property of an AVIF or HEIF that says the bits of its channels (ISO/IEC 23008-12, 6.5.6)."""
BACKGROUND = 144
"""Grey under transparent pixels. White and black drawings on nothing are common, so on either of these one
kind would vanish; on mid-grey both stay visible and differ. 144 is none of the greys that drawings use."""
PIXELS = "RVQVAE_MAX_PIXELS"
"""Environment variable: pixels that a file may be decoded to."""
DEFAULT_PIXELS = 89_478_485
"""Pillow's own limit. 768 MB of RGB in the worst case, while it is decoded."""
REDUCED = 4
"""Times the limit that a JPEG may have which is decoded at a fraction of its size."""


class Side(NamedTuple):
    """How images are decoded; ``read_source(path, **side._asdict())`` decodes others alike."""

    size: Size
    channels: int
    """1 (grey) or 3 (RGB)."""
    levels: Levels | None = None
    """The values that become 0 and 255 where a grey file has more than 8 bits; None if none has."""


class Header(NamedTuple):
    """What a file tells before it is decoded for good."""

    sha256: str
    """Empty if the bytes cannot be read."""
    size: Size
    """Upright."""
    mode: str
    """Pillow's."""
    reason: str
    """Why it is no good, or empty."""
    levels: Levels | None = None
    """Smallest and largest value of a grey file of more than 8 bits."""
    reduced: bool = False
    """Whether the file has colours of more than 8 bits, of which Pillow gives the upper 8."""


def inspect(source: Source, name: str) -> Header:
    """Hash a file and read its header, and the values of more than 8 bits; never raises."""
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
            mode, bits = picture.mode, _stored_bits(picture, content)
            _reduce(picture, (MAX_SIDE, MAX_SIDE))
            if (values := deep_values(picture)) is not None:
                return Header(sha256, size, mode, "", range_of(values))
            return Header(sha256, size, mode, "", None, bits > 8)
    except Exception as error:
        return Header(sha256, (0, 0), "", why(error))


def decode(source: Source, side: Side, name: str) -> NDArray[np.uint8] | str:
    """The pixels of a file, uint8 (C,H,W), or why it is no good; never raises."""
    try:
        return _to_pixels(_read_upright(source, name, side), side)
    except Exception as error:
        return why(error)


def decode_measured(source: Source, side: Side, name: str) -> tuple[NDArray[np.uint8], Figures] | str:
    """As `decode`, with what the same picture shows of its faults, before it is made smaller or grey."""
    try:
        upright = _read_upright(source, name, side)
        return _to_pixels(upright, side), measure(upright)
    except Exception as error:
        return why(error)


def _to_pixels(picture: Image.Image, side: Side) -> NDArray[np.uint8]:
    if (picture.height, picture.width) != side.size:
        picture = picture.resize(side.size[::-1], Image.Resampling.BICUBIC, reducing_gap=2.0)
    if side.channels == 1:
        return np.asarray(picture.convert("L"))[None]
    return np.ascontiguousarray(np.asarray(picture.convert("RGB")).transpose(2, 0, 1))


def is_coloured(source: Source, size: Size, name: str) -> bool:
    """Whether any pixel is not grey: formats and palettes without a grey mode hide grey pictures."""
    pixels = decode(source, Side(size, 3), name)
    return not isinstance(pixels, str) and bool((pixels != pixels[:1]).any())


def fingerprint(source: Source, name: str) -> str:
    """Equal for two files if, and only if, every value of every frame is equal; never raises.

    Values are compared undamaged: at their full size and depth, and with what is transparent. How they are
    stored makes no difference as long as nothing is lost: a grey picture equals the same one in RGB or with a
    palette. Where Pillow does not give the values as they are stored, files are equal only byte for byte.
    """
    content = b""
    try:
        content = source.read(name)
        with source.open(content) as picture:
            frames = getattr(picture, "n_frames", 1)
            if frames * picture.width * picture.height > pixel_limit():
                raise ValueError("compared by its bytes")
            digest = hashlib.sha256()
            for frame in ImageSequence.Iterator(picture):
                if frame.mode not in DEEP_MODES and _stored_bits(frame, content) != 8:
                    raise ValueError("compared by its bytes")
                _add_values(frame, digest.update)
            return digest.hexdigest()
    except Exception:  # Its reduced size could be read, so at worst two rows stay where one would do.
        return f"{name if not content else hashlib.sha256(content).hexdigest()} as a file"


def open_picture(content: bytes) -> Image.Image:
    """The picture in such bytes, its pixels not decoded yet; raises whatever goes wrong."""
    try:
        return Image.open(BytesIO(content), formats=_formats())
    except UnidentifiedImageError:
        if content.startswith((b"II*\0", b"MM\0*")):
            raise ValueError(
                "it is a damaged TIFF, or of a kind that is not read, such as 64 bits: save it with 8 or 16"
            ) from None
        raise


def pixel_limit() -> int:
    """Pixels that a file may be decoded to; InputError for a variable that is no number."""
    text = os.environ.get(PIXELS, "")
    if text and not (text.isascii() and text.isdigit() and int(text)):
        raise InputError(f"{PIXELS}={text!r} is not a number of pixels: give one such as {DEFAULT_PIXELS}")
    return int(text or DEFAULT_PIXELS)


def why(error: Exception) -> str:
    """An error in one plain line."""
    if isinstance(error, UnidentifiedImageError):
        return "it is not an image of a known format"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split()) or type(error).__name__


@cache
def _formats() -> tuple[str, ...]:
    if "HEIF" in FORMATS:
        from pillow_heif import register_heif_opener

        register_heif_opener()
    return tuple(FORMATS)


def _read_upright(source: Source, name: str, side: Side) -> Image.Image:
    """Decode a file to a picture of mode L or RGB, upright; raises what goes wrong."""
    content = source.read(name)
    with source.open(content) as picture:
        # A JPEG is decoded at a fraction of its size, but as in Image.thumbnail at least at twice ours.
        reduced = _reduce(picture, side.size)
        picture.load()
        if picture.format in ("JPEG", "MPO") and is_cut_short(content, picture, reduced):
            raise ValueError("its data end before the picture does, the rest would be grey")
        with suppress(Exception):  # EXIF may be damaged where pixels are not.
            ImageOps.exif_transpose(picture, in_place=True)
        return _to_eight_bits(picture, side.levels)


def _reduce(picture: Image.Image, size: Size) -> tuple[int, int]:
    """Have a JPEG decoded at least at twice a size, return what was asked for; ValueError if it is huge."""
    limit, whole, asked = pixel_limit(), picture.width * picture.height, (2 * max(size), 2 * max(size))
    picture.draft(None, asked)
    needed = max(picture.width * picture.height, -(-whole // REDUCED))
    if needed > limit:
        raise ValueError(
            f"it has {whole:,} pixels, above the limit of {limit:,}: set {PIXELS}={needed} to read it"
        )
    return asked


def _upright_size(picture: Image.Image) -> Size:
    width, height = picture.size
    turned = False
    # Pillow turns a TIFF by itself, and would decode a whole PNG in search of EXIF that its header lacks.
    if picture.format in ("JPEG", "MPO", "WEBP") or "exif" in picture.info:
        with suppress(Exception):  # As in _read_upright.
            turned = picture.getexif().get(ORIENTATION, 1) >= 5
    return (width, height) if turned else (height, width)


def _to_eight_bits(picture: Image.Image, levels: Levels | None) -> Image.Image:
    """Convert any mode of Pillow to L if it is a grey one, else to RGB."""
    if (values := deep_values(picture)) is not None:
        return Image.fromarray(to_grey(values, levels or common_levels([range_of(values)]) or (0, 255)))
    grey = picture.mode in ("1", "L", "LA")
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, (*3 * [BACKGROUND], 255)), picture)
    return picture.convert("L" if grey else "RGB")


def _stored_bits(picture: Image.Image, content: bytes) -> int:
    """Bits of a value as the file has it, 8 if it has fewer; 0 if they are unknown."""
    bits = 8
    if picture.format == "PNG":
        bits = content[24]
    elif picture.format == "TIFF":
        bits = max(getattr(picture, "tag_v2", {}).get(258, (1,)))
    elif picture.format == "PPM":
        header = picture.tile[0].args  # type: ignore[attr-defined]
        largest = [a for a in header if isinstance(a, int)] if isinstance(header, tuple) else []
        bits = max(largest, default=1).bit_length()
    elif picture.format in ("AVIF", "HEIF"):
        found = PIXI.search(content)
        return max(8, found[1][0]) if found else 0
    return max(8, bits)


def _add_values(frame: Image.Image, add: Callable[[bytes], None]) -> None:
    tags = getattr(frame, "tag_v2", {})
    with suppress(Exception):  # As in _read_upright; in place it would spoil the next frame.
        frame = ImageOps.exif_transpose(frame)
    values, kind = deep_values(frame, tags), "grey"
    if values is not None:
        values = values.astype(np.float64 if values.dtype.kind == "f" else np.int64)
    else:
        kind = "" if frame.mode in LOSSLESS_IN_RGBA else frame.mode
        values = np.asarray(frame if kind else frame.convert("RGBA"))
    add(f"{kind} {values.shape} {values.dtype}".encode())
    add(values.tobytes())
