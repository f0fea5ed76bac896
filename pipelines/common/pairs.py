"""Pairs of inliers and outliers, named in a word, drawn from sets that need no download.

``a/b`` is b among a; ``a:4`` is class 4 of a among a's other classes, class 4 being the inliers; ``a:4/b``
is b among class 4 of a. At rate 0 all that is left are the inliers: ``a`` or ``a:4`` alone.
"""

from __future__ import annotations

import numpy as np
from matplotlib.colors import hsv_to_rgb
from numpy.typing import NDArray
from sklearn.datasets import load_sample_image

from data.recipes import load
from rvqvae.contamination import Contaminated, contaminate
from rvqvae.errors import InputError

Images = NDArray[np.uint8]

GREY = {"mnist": "mnist", "fashion_mnist": "fashion_mnist"}
TINTED = {"tinted_mnist": "mnist", "tinted_fashion": "fashion_mnist"}
PHOTOS = {"flower": "flower.jpg", "china": "china.jpg"}
NOISE = "noise"
SIDE = 32
"""Pixels of a tile's side."""
BAND, TRAIN_BAND = 80, 48
"""Columns of a photo come in bands, of which the first ``TRAIN_BAND`` are for training, the rest held out."""


def draw(
    pair: str, rate: float, seed: int, total: int, root: str | None = None, train: bool = True
) -> Contaminated:
    """``total`` images (N, C, H, W) of ``pair``, or as many as there are; held-out ones unless ``train``."""
    first, _, second = pair.partition("/")
    shape = (1, 28, 28)
    inliers, outliers = pool(first, [seed, train, 0], total, root, train, shape)
    if second:
        outliers, _ = pool(second, [seed, train, 1], total, root, train, inliers.shape[1:])
    if rate and not len(outliers):
        raise InputError(f"pair={pair!r} has no outliers: name them as {first}/OTHER or {first}:CLASS")
    total = min(total, int(len(inliers) / (1 - rate)), int(len(outliers) / rate) if rate else total)
    return contaminate(inliers, outliers, rate, seed, total=total)


def require(pair: str) -> None:
    """Fail before anything is measured if there is no such pair."""
    for source in pair.split("/", 1):
        name, colon, label = source.partition(":")
        classes = "0123456789" if name in GREY | TINTED else ""
        if name not in [*GREY, *TINTED, *PHOTOS, NOISE] or (
            colon and (len(label) != 1 or label not in classes)
        ):
            raise InputError(
                f"{source!r} in {pair!r} is not a set of images: choose from "
                + ", ".join([*GREY, *TINTED, *PHOTOS, NOISE])
                + ", the first four also with a class as in mnist:4"
            )


def pool(
    source: str, seed: list[int], total: int, root: str | None, train: bool, shape: tuple[int, ...]
) -> tuple[Images, Images]:
    """The images that ``source`` names, and those of the other classes if it names a class."""
    require(source)
    name, _, label = source.partition(":")
    if name == NOISE:
        images = np.random.default_rng(seed).integers(0, 256, (total, *shape), dtype=np.uint8)
        return images, images[:0]
    if name in PHOTOS:
        images = tiles(name, total, seed, train)
        return images, images[:0]
    grey, labels = load((GREY | TINTED)[name], root, train)
    wanted, others = grey, grey[:0]
    if label:
        wanted, others = grey[labels == int(label)], grey[labels != int(label)]
    if name in GREY:
        return wanted[:, None], others[:, None]
    return tint(wanted, total, [*seed, 0]), tint(others, total, [*seed, 1])


def tint(grey: Images, total: int, seed: list[int]) -> Images:
    """At most ``total`` of the images (N, H, W) in colour: a bright hue on a dark one, both drawn at random.

    Whatever the images show, their colours come from one distribution, so colour tells nothing.
    """
    rng = np.random.default_rng(seed)
    grey = grey[rng.permutation(len(grey))[:total]]
    hues = rng.random((2, len(grey)))
    saturation, value = np.full(len(grey), 0.7), np.ones(len(grey))
    front, back = (
        hsv_to_rgb(np.stack([hue, saturation, level * value], 1)).astype(np.float32)[:, :, None, None]
        for hue, level in zip(hues, (1.0, 0.35), strict=True)
    )
    share = grey[:, None].astype(np.float32)
    return np.rint(share * front + (255 - share) * back).astype(np.uint8)


def tiles(name: str, total: int, seed: list[int], train: bool) -> Images:
    """``total`` random tiles of a photograph; they overlap, but training ones never with held-out ones."""
    photo = load_sample_image(PHOTOS[name]).transpose(2, 0, 1)
    rng = np.random.default_rng(seed)
    bands = rng.integers(0, photo.shape[2] // BAND, total) * BAND
    low, high = (0, TRAIN_BAND) if train else (TRAIN_BAND, BAND)
    columns = bands + rng.integers(low, high - SIDE, total, endpoint=True)
    rows = rng.integers(0, photo.shape[1] - SIDE, total, endpoint=True)
    return np.stack([photo[:, y : y + SIDE, x : x + SIDE] for y, x in zip(rows, columns, strict=True)])
