"""The rows of the array ``x`` of a .npz, read in place where it is not compressed."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from rvqvae.errors import InputError
from rvqvae.io.arrays import Layout, axes_of

MAX_ARRAY = 2**33
"""Bytes of a compressed array, which is held in memory."""


class NpzImages(NamedTuple):
    """The images in the rows of a .npz."""

    shape: tuple[int, ...]
    """Of the array, in the layout."""
    layout: Layout
    read: Callable[[int], bytes]
    """The bytes of a row."""

    @property
    def channels(self) -> int:
        """1 (grey) or 3 (RGB)."""
        return 1 if self.layout == "nhw" or (self.layout == "nchw" and self.shape[1] == 1) else 3

    def picture(self, content: bytes) -> Image.Image:
        """The picture in the bytes of a row."""
        row = np.frombuffer(content, np.uint8).reshape(self.shape[1:])
        if self.layout == "nchw":
            row = row[0] if len(row) == 1 else row.transpose(1, 2, 0)
        return Image.fromarray(row)


def open_npz(path: Path) -> NpzImages:
    """The array ``x``, in any layout of `rvqvae.io.arrays`, read in place if it is not compressed.

    InputError if there is none, or none of images; ValueError for one that is damaged or too large.
    """
    with zipfile.ZipFile(path) as archive:
        members = {name.removesuffix(".npy"): name for name in archive.namelist()}
        if "x" not in members:
            raise InputError(
                f"{path} has no array 'x', only {sorted(members)}: save it with numpy.savez(path, x=images)"
            )
        info = archive.getinfo(members["x"])
        with archive.open(info) as member:
            if (version := np.lib.format.read_magic(member)) != (1, 0):
                raise ValueError(f"its array x is of version {version}, not (1, 0)")
            shape, by_columns, dtype = np.lib.format.read_array_header_1_0(member)
            start, size = member.tell(), math.prod(shape) * dtype.itemsize
            if dtype.hasobject:
                raise ValueError("its array x holds Python objects, and pickles are not loaded")
            if start + size != info.file_size:
                raise ValueError(
                    f"its array x should have {size:,} bytes, and has {info.file_size - start:,}"
                )
            if info.compress_type == zipfile.ZIP_STORED and not by_columns:
                while member.read(2**20):  # Which checks them against their checksum.
                    pass
                read = partial(_read_row, path, _data_of(path, info) + start, math.prod(shape[1:]))
                return NpzImages(shape, _layout(shape, dtype), read)
        if size > MAX_ARRAY:
            raise ValueError(
                f"its array x has {size:,} bytes, above the limit of {MAX_ARRAY:,} for one that is compressed"
            )
        with archive.open(info) as member:
            images = np.lib.format.read_array(member, allow_pickle=False)
    return NpzImages(shape, _layout(shape, dtype), lambda i: images[i].tobytes())


def _layout(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Layout:
    return axes_of(np.broadcast_to(np.zeros((), dtype), shape))  # Of no size: its form alone is looked at.


def _data_of(path: Path, info: zipfile.ZipInfo) -> int:
    """Where the content of a member of a .zip begins."""
    with open(path, "rb") as file:
        file.seek(info.header_offset)
        header = file.read(30)
    return (
        info.header_offset
        + 30
        + int.from_bytes(header[26:28], "little")
        + int.from_bytes(header[28:30], "little")
    )


def _read_row(path: Path, start: int, size: int, row: int) -> bytes:
    with open(path, "rb") as file:
        file.seek(start + row * size)
        content = file.read(size)
    if len(content) != size:
        raise ValueError("its file has been cut short")
    return content
