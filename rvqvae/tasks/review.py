"""The images that the review page shows: with their heat map, and the inlier that is most like them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from rvqvae.report import Card
from rvqvae.sources import Inventory
from rvqvae.tasks.options import Progress

if TYPE_CHECKING:
    from rvqvae.estimator import RobustVQVAE

OUTLYING, BORDERLINE = 120, 80
THUMBNAIL = 96  # pixels
GRID, COMPONENTS, CANDIDATES = 16, 32, 20_000
BATCH = 1024


def review_cards(
    found: Inventory, estimator: RobustVQVAE, threshold: float, progress: Progress | None = None
) -> list[Card]:
    """Cards of the most outlying images and of those nearest to the threshold, most outlying first."""
    shown = _most_telling(estimator.scores_, estimator.outlier_probability_, threshold)
    images = found.images[shown]
    nearest = _nearest_kept(found.images, shown, estimator.inlier_mask_)
    heat = estimator.anomaly_map(images)
    cards = []
    for done, (index, other) in enumerate(zip(shown, nearest, strict=True), 1):
        cards.append(
            Card(
                int(found.rows[index]),
                _thumbnail(images[done - 1]),
                _small_heat(heat[done - 1]),
                _thumbnail(found.images[other]),
            )
        )
        if progress is not None:
            progress("report", done, len(shown))
    return cards


def _most_telling(
    scores: NDArray[np.float64], probability: NDArray[np.float64], threshold: float
) -> NDArray[np.intp]:
    """Indices of the images to show, in the order of how outlying they are."""
    outlying = np.lexsort((scores, -probability))
    borderline = np.argsort(np.abs(probability - threshold), kind="stable")
    wanted = np.zeros(len(scores), bool)
    wanted[outlying[:OUTLYING]] = wanted[borderline[:BORDERLINE]] = True
    return outlying[wanted[outlying]]


def _nearest_kept(
    images: NDArray[np.uint8], shown: NDArray[np.intp], kept: NDArray[np.bool_]
) -> NDArray[np.intp]:
    """For each image shown the kept one, other than itself, whose coarse pixels are nearest.

    Among at most CANDIDATES kept images, spread evenly; an image is its own neighbour only if none is kept.
    """
    pool = np.flatnonzero(kept)
    pool = pool[:: -(-len(pool) // CANDIDATES) or 1]
    if len(pool) < 2:
        return np.repeat(pool, len(shown)) if len(pool) else shown
    candidates = _coarse_pixels(images, pool)
    queries = _coarse_pixels(images, shown)
    count = min(COMPONENTS, *candidates.shape)
    space = PCA(count, svd_solver="covariance_eigh").fit(candidates)
    neighbours = NearestNeighbors(n_neighbors=2).fit(space.transform(candidates))
    found = pool[neighbours.kneighbors(space.transform(queries), return_distance=False)]
    return np.where(found[:, 0] == shown, found[:, 1], found[:, 0])


def _coarse_pixels(images: NDArray[np.uint8], rows: NDArray[np.intp]) -> NDArray[np.float32]:
    """(len(rows), C * GRID * GRID) block means of uint8 images (N, C, H, W)."""
    parts = [
        torch.nn.functional.adaptive_avg_pool2d(
            torch.from_numpy(images[rows[start : start + BATCH]]).float(), GRID
        ).flatten(1)
        for start in range(0, len(rows), BATCH)
    ]
    return torch.cat(parts).numpy()


def _thumbnail(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(C, H, W) with sides of at most THUMBNAIL."""
    if max(image.shape[1:]) <= THUMBNAIL:
        return np.asarray(image)
    picture = Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0))
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    pixels = np.asarray(picture)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def _small_heat(heat: NDArray[np.float32]) -> NDArray[np.float32]:
    picture = Image.fromarray(heat)
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    return np.asarray(picture)
