"""Image arrays in one layout."""

from __future__ import annotations

import mmap
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rvqvae.errors import InputError

Layout = Literal["nhw", "nhwc", "nchw"]
"""Axes of an image array: (N,H,W) grey, (N,H,W,3) colour, (N,1|3,H,W)."""

MIN_SIDE, MAX_SIDE = 8, 256


def layout_of(images: ArrayLike) -> Layout:
    """Name the layout of a uint8 image array; InputError if it is none of the three.

    As sides have at least 8 pixels, no 4-axis shape is ambiguous. A 3-axis array is always a stack of
    grey images: give a single colour image a leading axis, ``image[None]``.
    """
    array = _as_array(images)
    layout = axes_of(array)
    height, width = _to_nchw(array, layout).shape[2:]
    single = array.ndim == 3 and width in (1, 3)
    remedy = "give a single colour image a leading axis, image[None]" if single else "resize the images"
    check_sides(height, width, f"images of shape {array.shape}", remedy)
    return layout


def axes_of(array: NDArray[Any]) -> Layout:
    """As `layout_of`, but of any sides."""
    shape = array.shape
    if array.dtype.kind == "f":
        raise InputError(
            f"images have dtype {array.dtype}, but float images have no agreed range: give uint8 in 0..255, "
            "for values in 0..1 (255 * images).round().astype('uint8')"
        )
    if array.dtype != np.uint8:
        raise InputError(
            f"images have dtype {array.dtype}, not uint8: use images.astype('uint8') if their range is 0..255"
        )
    if array.size == 0:
        raise InputError(f"images have shape {shape}, which is empty: give at least one image")
    if array.ndim == 3:
        return "nhw"
    if array.ndim == 4 and shape[1] in (1, 3):
        return "nchw"
    if array.ndim == 4 and shape[3] == 3:
        return "nhwc"
    remedies = {1: "drop the last axis, images[..., 0]", 4: "drop the alpha channel, images[..., :3]"}
    remedy = remedies.get(shape[3] if array.ndim == 4 else 0, "reshape them")
    raise InputError(f"images have shape {shape}, not (N,H,W), (N,H,W,3) or (N,1|3,H,W): {remedy}")


def as_nchw(images: ArrayLike) -> NDArray[np.uint8]:
    """Return uint8 images of any `Layout` as contiguous uint8 (N,C,H,W), C in {1,3}; sides 8..256."""
    array = _as_array(images)
    return np.ascontiguousarray(_to_nchw(array, layout_of(array)))


def from_nchw(images: NDArray[Any], layout: Layout) -> NDArray[Any]:
    """Give (N,C,H,W) images back in `layout`; the inverse of `as_nchw`. Any dtype."""
    if images.ndim != 4 or (layout == "nhw" and images.shape[1] != 1):
        raise InputError(f"images of shape {images.shape} cannot be laid out as {layout!r}")
    if layout == "nhw":
        return images[:, 0]
    if layout == "nhwc":
        return np.ascontiguousarray(images.transpose(0, 2, 3, 1))
    return images


def check_sides(height: int, width: int, what: str, remedy: str) -> None:
    """InputError, ending in `remedy`, if a side is out of 8..256 pixels."""
    if not (MIN_SIDE <= height <= MAX_SIDE and MIN_SIDE <= width <= MAX_SIDE):
        raise InputError(
            f"{what}: height {height} and width {width} must be {MIN_SIDE} to {MAX_SIDE} pixels: {remedy}"
        )


def _as_array(images: ArrayLike) -> NDArray[Any]:
    try:
        array = np.asarray(images)
        # A pandas Series of arrays, for one.
        return np.stack(list(array)) if array.dtype == object and array.ndim == 1 else array
    except ValueError as error:
        raise InputError("images differ in shape: resize them to one size and stack them") from error


def _to_nchw(array: NDArray[Any], layout: Layout) -> NDArray[Any]:
    if layout == "nhw":
        return array[:, None]
    return array.transpose(0, 3, 1, 2) if layout == "nhwc" else array


def release_pages(images: NDArray[Any]) -> None:
    """Give the pages of a mapped file that were looked at back to the system, which counts them as memory of
    the process; they are read again when wanted. Of other arrays, and of private copies of files, nothing."""
    owner, base = images, images.base
    while isinstance(base, np.ndarray):
        owner, base = base, base.base
    # What was written into a private copy (mode "c") would be lost; Windows knows no advice.
    if isinstance(base, mmap.mmap) and getattr(owner, "mode", "c") != "c" and hasattr(base, "madvise"):
        base.madvise(mmap.MADV_DONTNEED)
