"""What the review page shows: images with their heat map, the nearest inlier and what is alike; groups."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from rvqvae.commands.options import Progress
from rvqvae.io.reading import Inventory
from rvqvae.report import Card, Group

if TYPE_CHECKING:
    from rvqvae.estimator import RobustVQVAE

OUTLYING, BORDERLINE = 120, 80
THUMBNAIL, SMALL = 96, 48  # pixels
ALIKE, POOL = 12, (900, 600)
"""Images that are shown as alike to each; the most outlying and the borderline ones among which they are
found, because those that belong clearly need no decision."""
GROUPED, LEARNED, MEMBERS = 100, 3000, 12
"""Images without which there are no groups; from which groups are learned at most; shown of each group."""
GRID, COMPONENTS, CANDIDATES = 16, 32, 20_000
BATCH = 1024


class Review(NamedTuple):
    """As `write_report` takes it."""

    cards: list[Card]
    groups: list[Group]
    thumbnails: dict[int, NDArray[np.uint8]]
    """Small pictures (C, H, W) of the rows that cards are alike to, or groups show."""


def review_cards(
    found: Inventory, estimator: RobustVQVAE, threshold: float, seed: int, progress: Progress | None = None
) -> Review:
    """Cards of the most telling images, and groups of all, the most outlying first of each."""
    cards = _cards(found, estimator, threshold, progress)
    groups = _groups(found, estimator, seed)
    others = {row for card in cards for row in card.alike} | {row for group in groups for row in group.shown}
    index = {int(row): i for i, row in enumerate(found.rows)}
    return Review(cards, groups, {row: _thumbnail(found.images[index[row]], SMALL) for row in others})


def _cards(
    found: Inventory, estimator: RobustVQVAE, threshold: float, progress: Progress | None = None
) -> list[Card]:
    """Cards of the most outlying images and of those nearest to the threshold, most outlying first."""
    shown = _most_telling(estimator, threshold, OUTLYING, BORDERLINE)
    images = found.images[shown]
    nearest = _nearest_kept(found.images, shown, estimator.inlier_mask_)
    alike = _alike(estimator.embedding_, shown, _most_telling(estimator, threshold, *POOL))
    heat = estimator.anomaly_map(images)
    cards = []
    for done, (index, other) in enumerate(zip(shown, nearest, strict=True), 1):
        cards.append(
            Card(
                int(found.rows[index]),
                _thumbnail(images[done - 1]),
                _small_heat(heat[done - 1]),
                _thumbnail(found.images[other]),
                tuple(int(row) for row in found.rows[alike[done - 1]]),
            )
        )
        if progress is not None:
            progress("report", done, len(shown))
    return cards


def _groups(found: Inventory, estimator: RobustVQVAE, seed: int) -> list[Group]:
    """All images in groups that look alike; none of a set so small that groups would be arbitrary."""
    from rvqvae.clustering.groups import default_groups, find_groups

    if (n := len(found.images)) < GROUPED:
        return []
    k = default_groups(n)
    labels, sureness = find_groups(estimator.embedding_, k, most=LEARNED, seed=seed)
    order = np.argsort(-sureness, kind="stable")
    members = [rows for rows in (order[labels[order] == group] for group in range(k)) if len(rows)]
    members.sort(key=lambda rows: -estimator.outlier_probability_[rows].mean())
    return [
        Group(_integers(found.rows[np.sort(rows)]), _integers(found.rows[rows[_spread(len(rows))]]))
        for rows in members
    ]


def _spread(n: int) -> NDArray[np.intp]:
    """At most MEMBERS of ``n`` places, evenly from the first to the last."""
    return np.unique(np.linspace(0, n - 1, MEMBERS).astype(np.intp))


def _integers(rows: NDArray[np.integer]) -> tuple[int, ...]:
    return tuple(map(int, rows))


def _most_telling(
    estimator: RobustVQVAE, threshold: float, outlying: int, borderline: int
) -> NDArray[np.intp]:
    """Indices of so many images, in the order of how outlying they are."""
    probability = estimator.outlier_probability_
    order = np.lexsort((estimator.scores_, -probability))
    near = np.argsort(np.abs(probability - threshold), kind="stable")
    wanted = np.zeros(len(order), bool)
    wanted[order[:outlying]] = wanted[near[:borderline]] = True
    return order[wanted[order]]


def _alike(
    embedding: NDArray[np.float32], shown: NDArray[np.intp], pool: NDArray[np.intp]
) -> NDArray[np.intp]:
    """(len(shown), at most ALIKE) indices from ``pool``, which holds ``shown``: those most like each."""
    vectors = embedding[pool]
    itself = np.flatnonzero(np.isin(pool, shown))
    near = NearestNeighbors(n_neighbors=min(ALIKE + 1, len(pool)), algorithm="brute").fit(vectors)
    rows = near.kneighbors(vectors[itself], return_distance=False)
    # Of equal images another may come first.
    order = np.argsort(rows != itself[:, None], 1, kind="stable")[:, 1:]
    return pool[np.take_along_axis(rows, order, 1)]


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


def _thumbnail(image: NDArray[np.uint8], side: int = THUMBNAIL) -> NDArray[np.uint8]:
    """(C, H, W) with sides of at most ``side``."""
    if max(image.shape[1:]) <= side:
        return np.asarray(image)
    picture = Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0))
    picture.thumbnail((side, side))
    pixels = np.asarray(picture)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def _small_heat(heat: NDArray[np.float32]) -> NDArray[np.float32]:
    picture = Image.fromarray(heat)
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    return np.asarray(picture)
