"""What the page shows of a cleaning: pictures, heat maps, and how the images lie to each other."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from rvqvae.io.reading import Inventory
from rvqvae.report.page import View
from rvqvae.report.pictures import Pictures

if TYPE_CHECKING:
    from rvqvae.estimator import RobustVQVAE

OUTLYING, BORDERLINE = 120, 80
"""Images with a heat map: the most outlying and those nearest to the threshold."""


class Review(NamedTuple):
    """As `write_report` takes it."""

    pictures: Pictures
    view: View
    sizes: dict[int, tuple[int, int]]
    originals: str | None


def review(found: Inventory, estimator: RobustVQVAE, source: Path, out: Path) -> Review:
    """The page's content, of a cleaning of ``source`` with its results in the folder ``out``."""
    from rvqvae.report.projection import project  # Late, as it is slow to import

    return Review(
        Pictures(found.images, found.rows),
        View(
            estimator.embedding_,
            project(estimator.embedding_),
            estimator.groups_,
            estimator.inquiry_.rules + estimator.offset_,
            -estimator.offset_,
            estimator.inquiry_.said,
        ),
        {row: size for row, size in enumerate(found.sizes) if _is_distorted(size, found.side.size)},
        _link(source, out),
    )


def heat_maps(found: Inventory, estimator: RobustVQVAE) -> dict[int, NDArray[np.float32]]:
    """Heat maps (H, W) of the most telling images, by row; the estimator's networks make them."""
    shown = _most_telling(estimator, estimator.threshold_)
    maps = estimator.anomaly_map(found.images[shown])
    return {int(found.rows[i]): evidence for i, evidence in zip(shown, maps, strict=True)}


def _most_telling(estimator: RobustVQVAE, threshold: float) -> NDArray[np.intp]:
    probability = estimator.outlier_probability_
    order = np.lexsort((estimator.scores_, -probability))
    near = np.argsort(np.abs(probability - threshold), kind="stable")
    return np.union1d(order[:OUTLYING], near[:BORDERLINE])


def _is_distorted(size: tuple[int, int], thumbnail: tuple[int, int]) -> bool:
    """Whether a file's ratio of height and width is visibly another than its thumbnail's."""
    (height, width), (tall, wide) = size, thumbnail
    return min(size) > 0 and abs(height * wide - width * tall) > 0.02 * width * tall


def _link(source: Path, out: Path) -> str | None:
    """The folder of the originals as a URL relative to the page; None if they are in no folder."""
    if not source.is_dir():
        return None
    try:
        path = Path(os.path.relpath(source.resolve(), out.resolve()))
    except ValueError:  # Another drive
        return source.resolve().as_uri() + "/"
    return quote(os.fsencode(path.as_posix())) + "/"
