"""Where the images of an experiment come from: MNIST, Fashion-MNIST, a photograph, or a domain in a .npz."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from data.recipes import load
from pipelines.common.domains import fitted
from pipelines.common.labelled import Labelled, halved, labelled_images
from pipelines.common.pairs import PHOTOS, tiles
from rvqvae.io.arrays import as_nchw

HELD_OUT = 3
"""One in so many images of a domain, which is smaller than MNIST."""
TILES = 1000
"""Parts of a photograph in each half."""


class Source(NamedTuple):
    """The two halves of a data set."""

    training: Labelled
    held_out: Labelled


class Pair(NamedTuple):
    """Images (N, C, H, W) of one size and colour mode, the inliers' own."""

    inliers: Source
    outliers: Source


def source(name: str, root: str | None) -> Source:
    """``name`` is that of a data set or photograph, or a .npz of ``x`` and kinds ``y``. Raises InputError."""
    if name.endswith(".npz"):
        return Source(*halved(*labelled_images(name), HELD_OUT))
    if name in PHOTOS:
        parts = [tiles(name, TILES, [0, train], train).transpose(0, 2, 3, 1) for train in (True, False)]
        return Source(*((x, np.zeros(len(x), np.int64)) for x in parts))
    return Source(load(name, root), load(name, root, train=False))


def pair(inliers: str, outliers: str, root: str | None, side: int | None = None) -> Pair:
    """All in the inliers' colours, and in their size or ``side`` squared, as a cleaning job reads them."""
    own, others = source(inliers, root), source(outliers, root)
    shape = own.training[0].shape[1:]
    if side is not None:
        shape = (side, side, *shape[2:])
    alike: list[Source] = [
        Source(*((as_nchw(fitted(x, shape)), y) for x, y in halves)) for halves in (own, others)
    ]
    return Pair(*alike)
