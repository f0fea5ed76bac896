"""JPEG files whose data end too early although an end is marked, which decoders fill with grey in silence."""

from __future__ import annotations

import re
from io import BytesIO

import numpy as np
from PIL import Image

MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)
"""What ends a scan: neither a stuffed byte, nor a restart, nor fill."""
HUFFMAN = frozenset({0xC0, 0xC1, 0xC2})
"""Frames whose data this test is for: an arithmetic coder may leave out zeros at the end."""
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
END, SCAN = 0xD9, 0xDA
FILLER = bytes(range(1, 255)) * 16


def is_cut_short(content: bytes, picture: Image.Image, reduced: tuple[int, int] | None = None) -> bool:
    """Whether the decoded ``picture`` of the JPEG in ``content`` lacks data for its last blocks.

    ``reduced`` is what its ``draft`` was asked for, width and height in pixels.

    libjpeg decodes missing blocks as mid-grey, with a warning that Pillow does not pass on. A picture may be
    grey itself, so it is decoded again with other bytes where its data end: the pixels of a whole one do not
    depend on what follows. Only pictures that end in mid-grey, or have several scans, are decoded twice.
    """
    if not _ends_in_grey(picture) and content.count(b"\xff\xda") < 2:
        return False
    frame, scans, end = _structure(content)
    if end is None or frame not in HUFFMAN or not (scans > 1 or _ends_in_grey(picture)):
        return False
    filled = BytesIO(content[:end] + FILLER + b"\xff\xd9")
    with Image.open(filled, formats=("JPEG",)) as other:
        if reduced is not None:
            other.draft(None, reduced)
        return not np.array_equal(np.asarray(other), np.asarray(picture))


def _ends_in_grey(picture: Image.Image) -> bool:
    last = np.asarray(picture.crop((picture.width - 1, picture.height - 1, picture.width, picture.height)))
    return bool((abs(last[..., :3].astype(int) - 128) <= 2).all())


def _structure(content: bytes) -> tuple[int, int, int | None]:
    """Kind of the frame, number of scans, and where the first picture's end marker is."""
    frame, scans, at = 0, 0, 2
    while at + 4 <= len(content) + 2 and content[at : at + 1] == b"\xff":
        code = content[at + 1] if at + 1 < len(content) else 0
        if code == END:
            return frame, scans, at
        if code == 0xFF:
            at += 1
            continue
        if code in FRAMES:
            frame = code
        at += 2 + int.from_bytes(content[at + 2 : at + 4], "big")
        if code == SCAN:
            scans += 1
            found = MARKER.search(content, at)
            at = found.start() if found else len(content)
    return frame, scans, None
