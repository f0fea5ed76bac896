"""Thumbnails in sprite sheets, and heat maps, as the page shows them."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rvqvae.atomic import write_atomically
from rvqvae.errors import InputError

ACROSS = 16
"""Thumbnails beside and below each other in a sheet: 256 of 64 pixels are 4 MiB when decoded."""
INLINE = 1000
"""Most thumbnails that the page itself contains; more are in files, which are read when they are shown."""
PIXELS, MIN_SIDE, MAX_SIDE = 82e6, 64, 128
"""Of all thumbnails together, which keeps 20,000 below some 20 MB; of a thumbnail's longer side."""
JPEG_BLOCK = 16
"""Side of what JPEG compresses together: with tiles of whole blocks none shows through its neighbour."""
CRISP = 32
"""Pixels of a thumbnail so small that the page enlarges it, and every flaw with it."""
HEAT_LOW, HEAT_HIGH = np.array([255, 205, 60]), np.array([205, 25, 15])  # of red, green, blue
HEAT_LEVELS = 32  # few, so that the PNG is small
HEAT_SIDE = 96
HOTTEST = 3.0


class Pictures(NamedTuple):
    """The images that could be read."""

    images: NDArray[np.uint8]
    """uint8 (M, C, H, W), C in {1, 3}; may be mapped from a file."""
    rows: NDArray[np.int64]
    """int64 (M,): of the manifest, ascending."""


class Sheets(NamedTuple):
    """Where the page finds the thumbnail of an image: the place'th tile, sheet after sheet, row by row."""

    urls: list[str]
    tile: tuple[int, int]
    """Height and width from tile to tile, in pixels."""
    size: tuple[int, int]
    """Height and width of a thumbnail in the corner of its tile."""
    places: dict[int, int]
    """By the index of the image."""


def make_sheets(
    images: NDArray[np.uint8], order: NDArray[np.intp], put: Callable[[int, bytes], str]
) -> Sheets:
    """Thumbnails of the images in ``order``, indices of ``images`` uint8 (M, C, H, W).

    ``put`` takes the number of a sheet and its JPEG, and returns the sheet's URL.
    """
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3):
        raise InputError(f"images are {images.dtype} {images.shape}: give uint8 (M, 1|3, H, W)")
    size = _thumbnail_size(images.shape[2:], len(order))
    height, width = (math.ceil(side / JPEG_BLOCK) * JPEG_BLOCK for side in size)
    urls: list[str] = []
    for start in range(0, len(order), ACROSS**2):
        some = order[start : start + ACROSS**2]
        sheet = np.zeros((math.ceil(len(some) / ACROSS) * height, ACROSS * width, images.shape[1]), np.uint8)
        for i, index in enumerate(some):
            y, x = i // ACROSS * height, i % ACROSS * width
            sheet[y : y + height, x : x + width] = _filled(_thumbnail(images[index], size), (height, width))
        urls.append(put(len(urls), _encoded(sheet, "jpeg", quality=92 if max(size) <= CRISP else 78)))
    return Sheets(urls, (height, width), size, {int(index): place for place, index in enumerate(order)})


def inline_sheet(number: int, content: bytes) -> str:
    """The sheet itself, as the URL of `make_sheets`."""
    return _uri("jpeg", content)


def write_sheet(folder: Path, number: int, content: bytes) -> str:
    """The sheet as a file in a folder beside the page; that of an earlier page is replaced."""
    name = f"sheet-{number:03d}.jpg"
    write_atomically(folder / name, content)
    return f"{folder.name}/{name}"


def _thumbnail_size(size: Sequence[int], count: int) -> tuple[int, int]:
    """Height and width that keep the ratio, and never enlarge."""
    longest = min(MAX_SIDE, max(MIN_SIDE, int(math.sqrt(PIXELS / max(count, 1)))), max(size))
    height, width = (max(1, round(side * longest / max(size))) for side in size)
    return height, width


def _thumbnail(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """(C, H, W) as (height, width, C)."""
    picture = image.transpose(1, 2, 0)
    if picture.shape[:2] == size:
        return picture
    small = Image.fromarray(picture.squeeze(2) if picture.shape[2] == 1 else picture).resize(
        size[::-1], Image.Resampling.BOX
    )
    return np.asarray(small).reshape(*size, -1)


def _filled(picture: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Its last row and column repeated up to the end of its blocks, as JPEG would smear an edge there."""
    if picture.shape[:2] == size:
        return picture
    padding = ((0, size[0] - picture.shape[0]), (0, size[1] - picture.shape[1]), (0, 0))
    return np.pad(picture, padding, "edge")


def heat_uri(heat: NDArray[np.float32]) -> str:
    """Evidence (H, W) as a PNG to lay over the image."""
    if heat.ndim != 2:
        raise InputError(f"a heat map has shape {heat.shape}: give one value for each pixel (H, W)")
    picture = Image.fromarray(heat.astype(np.float32))
    picture.thumbnail((HEAT_SIDE, HEAT_SIDE))
    return _uri("png", _encoded(heat_colours(np.asarray(picture)), "png", optimize=True))


def heat_colours(heat: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Evidence as a layer over the image, on one scale: clear up to 1, where inliers are, red at HOTTEST."""
    evidence = (np.nan_to_num(heat, nan=0, posinf=0, neginf=0).clip(1, HOTTEST) - 1) / (HOTTEST - 1)
    levels = np.round(HEAT_LEVELS * evidence) / HEAT_LEVELS
    share = levels[..., None]
    colour = (1 - share) * HEAT_LOW + share * HEAT_HIGH
    return np.concatenate([colour, 230 * np.sqrt(share)], -1).round().astype(np.uint8)


def _encoded(picture: NDArray[np.uint8], format: str, **options: Any) -> bytes:
    image = Image.fromarray(picture.squeeze(2) if picture.shape[2] == 1 else picture)
    buffer = io.BytesIO()
    image.save(buffer, format=format, **options)
    return buffer.getvalue()


def _uri(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64," + base64.b64encode(content).decode()
