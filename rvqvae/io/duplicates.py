"""Which images are the same picture, compressed or resized."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

GRID = 8
TABLES, PROJECTIONS, WIDTH = 8, 8, 1.5
WINDOW = 8
BATCH = 256
PAIRS = 2**16
"""Pairs of thumbnails that are compared at a time."""
TOLERANCE = 0.08
"""Root mean square difference of near duplicates, in units of their standard deviation."""


def near_duplicates(images: NDArray[np.uint8], tolerance: float = TOLERANCE) -> dict[int, int]:
    """Map each near duplicate among uint8 (N,C,H,W) images, by index, to an earlier one of the same picture.

    Two images are one picture if their root mean square difference is at most `tolerance` times the smaller
    of their standard deviations, each channel's about its own mean: the colour that a set has in common is
    no likeness. Compressing or resizing stays below 0.05 (a little above on tiny images); different digits or
    clothes stay above 0.17. Images of one tone have nothing to compare and are left out.

    Only images whose 8x8 thumbnails fall into one bucket of a locality-sensitive hash (random projections,
    rounded; Datar et al. 2004) are compared, so the cost is linear in N, whatever the images.
    """
    thumbnails, deviations = _thumbnails(images)
    pairs = _candidates(thumbnails, 2 * tolerance * _shrinkage(*images.shape[2:]))
    pairs = pairs[deviations[pairs].min(axis=1) >= 1]
    same = _differences(images, pairs) <= tolerance * deviations[pairs].min(axis=1)
    # Reversed, so that of several earlier ones the first is named.
    return {int(late): int(early) for early, late in pairs[same][::-1]}


def same_picture(one: NDArray[np.uint8], other: NDArray[np.uint8], tolerance: float = TOLERANCE) -> bool:
    """Whether two images uint8 (C,H,W) are one picture, as in `near_duplicates`."""
    pair = np.stack([one, other]).astype(np.float32)
    return bool(np.sqrt(np.square(pair[0] - pair[1]).mean()) <= tolerance * _deviations(pair).min())


def _deviations(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Root mean square of the pixels' distances from the mean of their channel, float32 (N,)."""
    deviations: NDArray[np.float32] = np.sqrt(images.var(axis=(2, 3)).mean(axis=1))
    return deviations


def _thumbnails(images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Centred grey thumbnails in units of each image's deviation, float32 (N,64), and the deviations (N,)."""
    thumbnails = np.empty((len(images), GRID * GRID), np.float32)
    deviations = np.empty(len(images), np.float32)
    for start in range(0, len(images), BATCH):
        batch = images[start : start + BATCH].astype(np.float32)
        deviations[start : start + BATCH] = _deviations(batch)
        small = _block_means(_block_means(batch.mean(axis=1), 1), 2)
        thumbnails[start : start + BATCH] = small.reshape(len(batch), -1)
    thumbnails -= thumbnails.mean(axis=1, keepdims=True)
    thumbnails /= np.maximum(deviations, 1)[:, None]
    return thumbnails, deviations


def _block_means(array: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """Means over 8 blocks of an axis of at least 8, as equal as its length allows."""
    edges = np.arange(GRID + 1) * array.shape[axis] // GRID
    lengths = np.diff(edges).astype(np.float32).reshape(-1, *[1] * (array.ndim - axis - 1))
    means: NDArray[np.float32] = np.add.reduceat(array, edges[:-1], axis=axis) / lengths
    return means


def _shrinkage(height: int, width: int) -> float:
    """By how much at most a root mean square grows from an image to its unequal block means."""
    return float(np.sqrt((height / GRID) * (width / GRID) / ((height // GRID) * (width // GRID))))


def _candidates(thumbnails: NDArray[np.float32], limit: float) -> NDArray[np.intp]:
    """Sorted pairs (P,2), smaller index first, of which a bucket holds both; at most 64 for each image.

    Of a million images these would be millions of pairs, nearly all for nothing. So only those are kept whose
    thumbnails differ by ``limit`` at most: twice the tolerance, once for the images' difference and once for
    that of their deviations, in units of which thumbnails are.
    """
    rng, mixing = np.random.default_rng(0), np.random.default_rng(1)
    n, found = len(thumbnails), [np.empty(0, np.intp)]
    for _ in range(TABLES):
        directions = rng.standard_normal((thumbnails.shape[1], PROJECTIONS), np.float32)
        places = thumbnails @ directions / WIDTH + rng.random(PROJECTIONS, np.float32)
        # Two buckets that a mixture takes for one would only add pairs to compare.
        buckets = np.floor(places).astype(np.int64) @ mixing.integers(-(2**62), 2**62, PROJECTIONS)
        order = np.argsort(buckets, kind="stable")
        # Bounded by a window, or a bucket of many alike, such as frames of a still camera, would be
        # compared all with all.
        for step in range(1, min(WINDOW + 1, len(order))):
            together = np.flatnonzero(buckets[order[:-step]] == buckets[order[step:]])
            for block in np.array_split(together, len(together) // PAIRS + 1):
                early, late = order[block], order[block + step]
                apart = np.square(thumbnails[early] - thumbnails[late]).mean(1)
                near = apart <= limit**2 * 1.01  # Of rounding.
                found.append(early[near] * n + late[near])
    keys = np.unique(np.concatenate(found))
    return np.stack([keys // n, keys % n], axis=1)


def _differences(images: NDArray[np.uint8], pairs: NDArray[np.intp]) -> NDArray[np.float32]:
    """Root mean square differences in grey levels, float32 (P,)."""
    differences = np.empty(len(pairs), np.float32)
    for start in range(0, len(pairs), BATCH):
        one, other = pairs[start : start + BATCH].T
        squares = (images[one].astype(np.float32) - images[other]) ** 2
        differences[start : start + BATCH] = np.sqrt(squares.mean(axis=(1, 2, 3)))
    return differences
