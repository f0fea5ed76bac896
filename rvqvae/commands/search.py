"""Find more images like some: the nearest neighbours by what a model compares images by.

Compared are the vectors by which the model tells who belongs: leading principal components of pixels,
features and style, side by side. Every query is compared with every image, so the neighbours are exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rvqvae.atomic import write_atomically
from rvqvae.commands.folder import check_file
from rvqvae.commands.read import load_model, read_for_model, read_query
from rvqvae.errors import InputError, check_whole
from rvqvae.io.duplicates import same_picture
from rvqvae.io.manifest import write_table
from rvqvae.io.pictures import SUFFIXES
from rvqvae.io.reading import Inventory
from rvqvae.progress import Progress, silent

if TYPE_CHECKING:
    from rvqvae.estimator import RobustVQVAE

COLUMNS = ("query", "rank", "path", "distance", "near_duplicate")
BATCH = 1024
"""Images whose views are held at a time."""
MAX_SHOWN, TITLE = 24, 20
"""Queries in a picture at most, and letters of a name in it."""
MIN_COLUMNS, MAX_COLUMNS = 12, 22
"""Images in a row of a picture, blanks among them."""


class Match(NamedTuple):
    """An image that is like a query."""

    query: str
    rank: int
    """From 1, the nearest."""
    path: str
    distance: float
    """Euclidean, of the vectors, whose coordinates are scaled by what the model was fitted to."""
    near_duplicate: bool
    """Whether both are the same picture, but for compression or size."""


class Searched(NamedTuple):
    """What was found, and where it is written."""

    matches: list[Match]
    """By query, in the order of their names, then by rank."""
    queries: int
    images: int
    unreadable: int
    """Of queries and images."""
    out: Path | None
    picture: Path | None

    def lines(self) -> list[str]:
        files = " and ".join(str(path) for path in (self.out, self.picture) if path is not None)
        return [
            *(table_of(self.matches) if self.out is None else []),
            f"{self.queries:,} {'query' if self.queries == 1 else 'queries'} among {self.images:,} images, "
            f"{self.unreadable:,} unreadable.",
            *([f"What was found is in {files}."] if files else []),
        ]


class Neighbours(NamedTuple):
    """The rows nearest to each of Q queries, nearest first."""

    rows: NDArray[np.int64]
    """(Q, k)."""
    distances: NDArray[np.float64]
    """(Q, k)."""


def search(
    model: str | Path,
    query: str | Path,
    images: str | Path,
    *,
    out: str | Path | None = None,
    k: int = 10,
    picture: str | Path | None = None,
    seed: int = 0,
    device: str | None = None,
    workers: int | None = None,
    progress: Progress = silent,
) -> Searched:
    """Find the images in IMAGES that are most like QUERY, nearest first, as the model compares them.

    The table has query, rank, path, distance and near_duplicate. A query is no match of itself. The result
    does not depend on the seed.

      rvqvae search cleaned/model photos/odd.png photos
      rvqvae search cleaned/model odd photos -k 20 --out matches.csv --picture matches.png

    Args:
        query: one image, or many: a folder (with its subfolders), a .zip, or a .npz with an array x
        images: what to search, likewise
        out: table to write, such as matches.csv
        k: images to find for each query
        picture: picture (PNG) of what was found: a row for each query
        progress: called with stage, steps done and steps in all

    Raises:
        InputError: for bad input, a damaged model, fewer than ``k`` images, or an output inside what is read
    """
    out, picture = (None if place is None else Path(place) for place in (out, picture))
    for place in (out, picture):
        if place is not None:
            check_file(place, "matches.csv", query, images, model)
    check_whole("k", k)
    check_whole("seed", seed, 0)
    estimator, side = load_model(model, device, progress)
    with (
        read_query(query, side, workers, progress) as asked,
        read_for_model(images, side, None, workers, progress) as found,
    ):
        itself = _rows_of_queries(query, asked, images, found)
        if k > len(found.rows) - (itself.max() >= 0):
            raise InputError(
                f"k={k} is more than the {len(found.rows)} readable images in {images}, the query left out: "
                "ask for fewer"
            )
        gallery = compared_by(estimator, found.images, progress)
        near = neighbours(compared_by(estimator, asked.images), gallery, k, itself)
        matches = _matches(asked, found, near)
        if picture is not None:
            write_atomically(picture, _picture(asked, found, near))
    if out is not None:
        write_table(out, COLUMNS, matches)
    bad = [e for source in (asked, found) for e in source.entries if e.status == "unreadable"]
    return Searched(matches, len(asked.rows), len(found.entries), len(bad), out, picture)


def compared_by(
    estimator: RobustVQVAE, images: NDArray[np.uint8], progress: Progress = silent
) -> NDArray[np.float32]:
    """(N, d) vectors of uint8 images (N, C, H, W): the view in which membership compares them."""
    parts = []
    for start in range(0, len(images), BATCH):
        batch = np.asarray(images[start : start + BATCH])
        parts.append(estimator._scorer.vectors(batch))
        progress("compare", start + len(batch), len(images))
    return np.concatenate(parts)


def neighbours(
    queries: NDArray[np.float32],
    vectors: NDArray[np.float32],
    k: int,
    itself: NDArray[np.int64] | None = None,
) -> Neighbours:
    """The ``k`` of N ``vectors`` (N, d) nearest to each of ``queries`` (Q, d), by comparing with all.

    ``itself`` (Q,): the row that is a query and is left out, or -1.
    """
    from sklearn.neighbors import NearestNeighbors

    itself = np.full(len(queries), -1) if itself is None else itself
    search = NearestNeighbors(n_neighbors=min(len(vectors), k + 1), algorithm="brute").fit(vectors)
    rows = search.kneighbors(queries, return_distance=False)
    # Again from the differences, as the fast formula rounds those of near duplicates.
    distances = np.stack(
        [np.sqrt(np.square(vectors[r] - q).sum(1)) for r, q in zip(rows, queries, strict=True)]
    )
    distances[rows == itself[:, None]] = np.inf
    order = np.argsort(distances, 1, kind="stable")[:, :k]
    return Neighbours(np.take_along_axis(rows, order, 1), np.take_along_axis(distances, order, 1))


def _rows_of_queries(
    query: str | Path, asked: Inventory, images: str | Path, found: Inventory
) -> NDArray[np.int64]:
    """For each query its own row among the images, or -1."""
    one, other = Path(query), Path(images)
    # A single image stands for the folder it is in.
    one = one.parent if one.suffix.lower() in SUFFIXES and one.is_file() else one
    known = {(other / found.entries[row].path).resolve(): i for i, row in enumerate(found.rows)}
    return np.array([known.get((one / asked.entries[row].path).resolve(), -1) for row in asked.rows])


def _matches(asked: Inventory, found: Inventory, near: Neighbours) -> list[Match]:
    return [
        Match(
            asked.entries[asked.rows[i]].path,
            rank,
            found.entries[found.rows[row]].path,
            float(distance),
            same_picture(asked.images[i], found.images[row]),
        )
        for i in range(len(asked.rows))
        for rank, (row, distance) in enumerate(zip(near.rows[i], near.distances[i], strict=True), 1)
    ]


def _picture(asked: Inventory, found: Inventory, near: Neighbours) -> bytes:
    """PNG of the first queries, each followed by what is most like it."""
    from rvqvae.figures import generation_figure, png_of

    blank = np.full((1, *asked.images.shape[1:]), 255, np.uint8)
    names = [_title(asked.entries[row].path) for row in asked.rows[:MAX_SHOWN]]
    rows = {
        f"{i}. {name}" if len(names) > 1 else name: np.concatenate(
            [asked.images[i - 1][None], blank, found.images[near.rows[i - 1]]]
        )
        for i, name in enumerate(names, 1)
    }
    note = f"Left the {'queries' if len(names) > 1 else 'query'}, then the most alike, nearest first."
    if len(asked.rows) > MAX_SHOWN:
        note += f" The first {MAX_SHOWN} of {len(asked.rows):,} queries."
    columns = min(max(2 + near.rows.shape[1], MIN_COLUMNS), MAX_COLUMNS)
    return png_of(generation_figure(rows, columns=columns, note=note))


def _title(path: str) -> str:
    """The end of a name, in letters that any font has; a dollar sign would begin a formula."""
    name = Path(path).name.encode("ascii", "replace").decode().replace("$", "S")
    name = "".join(c if c.isprintable() else "?" for c in name)
    return name if len(name) <= TITLE else f"{name[: TITLE - 10]}...{name[-7:]}"


def table_of(matches: Sequence[Match], queries: int = 5) -> list[str]:
    """Lines for a terminal: what is most like the first queries."""
    names = list(dict.fromkeys(match.query for match in matches))
    lines = []
    for name in names[:queries]:
        lines.append(f"Most like {name}:")
        for match in matches:
            if match.query == name:
                same = ", the same picture" if match.near_duplicate else ""
                lines.append(f"{match.rank:4d}. {match.path} (distance {match.distance:.3f}{same})")
    if len(names) > queries:
        lines.append(f"... and {len(names) - queries:,} more queries: see --out.")
    return lines
