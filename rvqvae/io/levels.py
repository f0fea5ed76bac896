"""Values of more than 8 bits as grey levels: one scale for a whole set, found from the set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Levels = tuple[float, float]
"""The values that become 0 and 255."""

DEEP_MODES = frozenset({"I;16", "I;16L", "I;16B", "I;16N", "I", "F"})
"""Pillow's, of more than 8 bits."""
REACH = 3.0
"""Widths beyond the usual range of an image that still count for the scale: a few images that reach further
(a hot pixel, another camera) are clipped, so that the others keep at least 36 of 256 levels."""


def deep_values(picture: Image.Image, tags: Mapping[int, Any] | None = None) -> NDArray[Any] | None:
    """Values (H,W) of a grey picture of 16 or 32 bits, signed, or of floats, as the file has them; else None.

    ``tags`` are a TIFF's, by default the picture's own. Larger is brighter: where white is 0, values are
    inverted. Raises ValueError for values that are no finite numbers.
    """
    tags = getattr(picture, "tag_v2", {}) if tags is None else tags
    bits, kind = tags.get(258), tags.get(339, (1,))
    signed_bytes = picture.mode == "L" and kind == (2,)
    if picture.mode not in DEEP_MODES and not signed_bytes:
        return None
    values = np.asarray(picture)
    # Pillow takes signed bytes for unsigned, unsigned values of 32 bits for signed, and inverts bytes only.
    if signed_bytes:
        values = values.view(np.int8)
    elif picture.mode == "I" and bits == (32,) and kind == (1,):
        values = values.view(np.uint32)
    if tags.get(262) == 0 and not signed_bytes:
        values = -values if values.dtype.kind == "f" else ~values
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise ValueError("it has values that are not finite numbers: replace them")
    return values


def range_of(values: NDArray[Any]) -> Levels:
    return float(values.min()), float(values.max())


def common_levels(ranges: Sequence[Levels]) -> Levels | None:
    """One scale for images of these smallest and largest values (ours: no file says which bits are used).

    Whole numbers from 0 on get the fewest bits that hold them, from 0 to 2**bits - 1, so that 8 bits in a
    16-bit file come out as they went in. Others, signed or far from 0, get their own smallest and largest.
    None if there are no images.
    """
    if not ranges:
        return None
    smallest, largest = np.array(ranges, float).T
    varied = largest > smallest
    if varied.any():
        width = float(np.median((largest - smallest)[varied]))
        low = max(smallest.min(), np.median(smallest[varied]) - REACH * width)
        high = min(largest.max(), np.median(largest[varied]) + REACH * width)
    else:
        low, high = smallest.min(), largest.max()
    if 0 <= low <= high / 2 and float(low).is_integer() and float(high).is_integer():
        return 0.0, float(2 ** max(1, int(high).bit_length()) - 1)
    return float(low), float(high) if high > low else float(low) + 1


def to_grey(values: NDArray[Any], levels: Levels) -> NDArray[np.uint8]:
    """Values of any shape on the scale, rounded; what lies outside is clipped."""
    low, high = levels
    exact: NDArray[Any] = values.astype(np.float32 if values.dtype.itemsize <= 2 else np.float64)
    # First, as what lies far outside of a narrow scale would overflow.
    within: NDArray[Any] = np.clip(exact, low, high)
    return np.round((within - low) / (high - low) * 255).astype(np.uint8)
