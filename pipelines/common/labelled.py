"""Other images than digits: a .npz with ``x`` uint8 (N, H, W) or (N, H, W, 3) and their kinds ``y`` (N,)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rvqvae.errors import InputError

Labelled = tuple[NDArray[np.uint8], NDArray[np.int64]]
HELD_OUT = 6
"""One in so many images."""


def labelled_images(path: str) -> Labelled:
    """The images of the .npz ``path`` and their kinds, numbered from 0."""
    try:
        with np.load(path) as file:
            return file["x"], np.unique(file["y"], return_inverse=True)[1]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"images={path!r} is no .npz with x and y: {error}") from error


def halved(
    images: NDArray[np.uint8], kinds: NDArray[np.int64], held_out: int = HELD_OUT
) -> tuple[Labelled, Labelled]:
    """For training, and one in ``held_out`` for testing; always the same."""
    order = np.random.default_rng(0).permutation(len(images))
    n = len(images) // held_out
    return (images[order[n:]], kinds[order[n:]]), (images[order[:n]], kinds[order[:n]])
