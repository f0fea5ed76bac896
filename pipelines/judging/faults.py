"""Folders of image files with planted faults, whose kinds are known."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from rvqvae.errors import InputError

Picture = Image.Image
Random = np.random.Generator
SUFFIXES = (".jpg", ".jpeg", ".png")
WIDTH, HEIGHT = 320, 240
SMALLEST = 640
"""Pixels of the longer side of a photograph that crops are taken of."""


def _exposed(picture: Picture, change: Callable[[NDArray[np.floating]], NDArray[np.floating]]) -> Picture:
    values = change(np.asarray(picture, np.float32))
    return Image.fromarray(values.round().clip(0, 255).astype(np.uint8))


def dark(picture: Picture, rng: Random) -> Picture:
    """A sixth of the light or less."""
    share = rng.uniform(0.03, 0.17)
    return _exposed(picture, lambda values: share * values)


def bright(picture: Picture, rng: Random) -> Picture:
    """What is left of the contrast is a twentieth or less, all of it near white."""
    share = rng.uniform(0.005, 0.05)
    return _exposed(picture, lambda values: 255 - share * (255 - values))


def blurred(picture: Picture, rng: Random) -> Picture:
    """A Gaussian of 1.5 to 4 hundredths of the longer side."""
    return picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.015, 0.04) * max(picture.size)))


def low_information(picture: Picture, rng: Random) -> Picture:
    """One tone with a rectangle of another."""
    tones = rng.integers(40, 216, (2, len(picture.getbands())))
    flat = Image.new(picture.mode, picture.size, tuple(map(int, tones[0])))
    width, height = (int(side * rng.uniform(0.05, 0.5)) for side in picture.size)
    flat.paste(tuple(map(int, tones[1])), (width, height, 2 * width, 2 * height))
    return flat


def odd_size(picture: Picture, rng: Random) -> Picture:
    """A quarter of the sides or less, or four times as large or more; at least 8 pixels."""
    least = max(0.1, 8 / min(picture.size))
    factor = rng.uniform(least, max(0.25, least)) if rng.random() < 0.5 else rng.uniform(4, 6)
    return picture.resize([max(8, round(side * factor)) for side in picture.size])


def odd_aspect_ratio(picture: Picture, rng: Random) -> Picture:
    """A strip of a third to a sixth of one side; at least 8 pixels."""
    sides = list(picture.size)
    axis = int(rng.integers(2))
    sides[axis] = max(8, round(sides[axis] * rng.uniform(1 / 6, 1 / 3)))
    if sides[axis] * 3 > sides[1 - axis]:
        sides[axis] = max(8, sides[1 - axis] // 4)
    left, top = ((whole - side) // 2 for whole, side in zip(picture.size, sides, strict=True))
    return picture.crop((left, top, left + sides[0], top + sides[1]))


def grey(picture: Picture, rng: Random) -> Picture:
    """Without colour, half of them stored as if there were some."""
    shades = picture.convert("L")
    return shades if rng.random() < 0.5 else shades.convert("RGB")


def near_duplicate(picture: Picture, rng: Random) -> Picture:
    """The same picture, a tenth to a third smaller and compressed again."""
    share = rng.uniform(0.67, 0.9)
    buffer = BytesIO()
    picture.resize([max(8, round(side * share)) for side in picture.size]).save(buffer, "JPEG", quality=60)
    return Image.open(buffer)


PLANTS: dict[str, Callable[[Picture, Random], Picture]] = {
    "dark": dark,
    "bright": bright,
    "blurred": blurred,
    "low information": low_information,
    "odd size": odd_size,
    "odd aspect ratio": odd_aspect_ratio,
    "grey": grey,
    "near duplicate": near_duplicate,
}


def photographs(folder: Path, count: int, rng: Random) -> Iterator[Picture]:
    """Crops of the photographs in a folder, of 320 x 240 pixels; InputError if there are none."""
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    opened = [picture for path in files if max((picture := Image.open(path)).size) >= SMALLEST]
    if not opened:
        raise InputError(f"{folder} holds no photograph of {SMALLEST} pixels or more: give another folder")
    whole = []
    for picture in opened:
        picture.draft("RGB", (2 * SMALLEST, 2 * SMALLEST))
        whole.append(picture.convert("RGB"))
    for _ in range(count):
        picture = whole[int(rng.integers(len(whole)))]
        most = min(picture.width / WIDTH, picture.height / HEIGHT)
        scale = rng.uniform(0.4, 0.9) * most
        width, height = int(scale * WIDTH), int(scale * HEIGHT)
        left = int(rng.integers(picture.width - width + 1))
        top = int(rng.integers(picture.height - height + 1))
        crop = picture.crop((left, top, left + width, top + height))
        yield crop.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)


def plant(
    pictures: Iterator[Picture], count: int, share: float, out: Path, rng: Random
) -> dict[str, str | None]:
    """Write ``count`` pictures as files, of which about ``share`` of each kind in `PLANTS` have that fault.

    Returns the kind of each file name, None for those without a planted one. A near duplicate is a file
    beside that of which it is one.
    """
    out.mkdir(parents=True)
    first = next(pictures)
    colour = first.mode == "RGB"
    kinds = [kind for kind in PLANTS if colour or kind != "grey"]
    each = max(1, round(share * count))
    todo: list[str | None] = [kind for kind in kinds for _ in range(each)]
    todo += [None] * (count - len(todo))
    rng.shuffle(todo)
    truth: dict[str, str | None] = {}

    def write(picture: Picture, kind: str | None) -> None:
        # Photographs are JPEG, drawings and small tiles PNG.
        name = f"{len(truth):05d}.{'jpg' if max(first.size) > 128 else 'png'}"
        picture.save(out / name, quality=90)
        truth[name] = kind

    def all_pictures() -> Iterator[Picture]:
        yield first
        yield from pictures

    for picture, kind in zip(all_pictures(), todo, strict=False):
        if kind == "near duplicate":
            write(picture, kind)
        write(picture if kind is None else PLANTS[kind](picture, rng), kind)
    return truth
