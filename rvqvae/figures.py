"""Pictures of images (matplotlib's object interface, no global state)."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from torchvision.utils import make_grid

from rvqvae.atomic import replacing

ACCENT = "#c8321e"
"""What does not belong: outliers, flagged images."""
INK = "#333333"
MUTED = "#8a8a8a"
STYLE: Any = {
    "figure.dpi": 150,
    "savefig.dpi": 150,
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 8,
}
"""Settings for ``matplotlib.rc_context`` under which all figures of the project are drawn."""
_GAP = 2  # pixels between images of a grid

Images = NDArray[np.uint8] | torch.Tensor


def image_grid(images: Images, columns: int = 16) -> NDArray[np.uint8]:
    """uint8 images (N, 1 | 3, H, W) as one picture (height, width, 3), row by row, on white."""
    tensor = torch.as_tensor(images)
    if tensor.ndim != 4 or not len(tensor) or tensor.dtype != torch.uint8:
        raise ValueError(f"images must be uint8 (N, C, H, W), not {tensor.dtype} {tuple(tensor.shape)}")
    grid = make_grid(tensor, nrow=columns, padding=_GAP, pad_value=255)
    return np.ascontiguousarray(grid.permute(1, 2, 0).numpy())


def save_png(path: str | Path, picture: NDArray[np.uint8]) -> None:
    """Write a picture (height, width[, 3]), whole or not at all."""
    with replacing(Path(path), sync=False) as file:
        Image.fromarray(picture).save(file, format="PNG")


def png_of(figure: Figure) -> bytes:
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return content.getvalue()


def generation_figure(
    rows: Mapping[str, Images],
    captions: Mapping[str, str] | None = None,
    flagged: Mapping[str, ArrayLike] | None = None,
    *,
    columns: int = 16,
    note: str | None = None,
) -> Figure:
    """One block of images for each row, its title and caption at the left, flagged images framed."""
    with matplotlib.rc_context(STYLE):
        lines = [-(-len(images) // columns) for images in rows.values()]
        shape = torch.as_tensor(next(iter(rows.values()))).shape[2:]
        sheet = _Sheet(columns, lines, shape, note=note)
        for title, images in rows.items():
            axes = sheet.block(torch.as_tensor(images), _flags((flagged or {}).get(title), len(images)))
            caption = (captions or {}).get(title)
            sheet.title(axes, title, caption)
        return sheet.figure


class _Sheet:
    """A figure of image blocks below each other, with a column of titles at the left; sizes in inches."""

    left, right, between, edge, width = 1.5, 0.1, 0.14, 0.1, 7.2

    def __init__(
        self, columns: int, lines: Sequence[int], shape: Sequence[int], note: str | None = None
    ) -> None:
        self._columns = columns
        self._cell = (int(shape[0]) + _GAP, int(shape[1]) + _GAP)
        scale = self.width / (columns * self._cell[1] + _GAP)
        self._heights = [scale * (n * self._cell[0] + _GAP) for n in lines]
        foot = 0.28 if note else 0.0
        total = sum(self._heights) + self.between * (len(lines) - 1) + 2 * self.edge + foot
        self.figure = Figure(figsize=(self.left + self.width + self.right, total))
        self._top = total - self.edge
        self._blocks = iter(self._heights)
        if note:
            self.figure.text(self.left / self._inches[0], 0.1 / total, note, color=MUTED, fontsize=8)

    @property
    def _inches(self) -> tuple[float, float]:
        width, height = self.figure.get_size_inches()
        return float(width), float(height)

    def block(self, images: torch.Tensor, flags: NDArray[np.bool_]) -> Axes:
        """Draw the next block and frame its flagged images."""
        height = next(self._blocks)
        full_width, full_height = self._inches
        self._top -= height
        picture = image_grid(_filled(images, self._columns), self._columns)
        axes = self.figure.add_axes(
            (self.left / full_width, self._top / full_height, self.width / full_width, height / full_height)
        )
        self._top -= self.between
        axes.imshow(picture, interpolation="nearest", aspect="auto")
        axes.set_axis_off()
        for index in np.flatnonzero(flags):
            line, column = divmod(int(index), self._columns)
            corner = (column * self._cell[1] + _GAP / 2 - 0.5, line * self._cell[0] + _GAP / 2 - 0.5)
            frame = Rectangle(
                corner, self._cell[1], self._cell[0], fill=False, edgecolor=ACCENT, linewidth=1.5, zorder=3
            )
            axes.add_patch(frame)
        return axes

    def title(self, axes: Axes, title: str, caption: str | None = None) -> None:
        """Write to the left of the block."""
        place: Any = {
            "xycoords": "axes fraction",
            "textcoords": "offset points",
            "ha": "right",
            "va": "center",
        }
        lift = 7 if caption else 0
        axes.annotate(title, (0, 0.5), (-8, lift), weight="bold", **place)
        if caption:
            axes.annotate(caption, (0, 0.5), (-8, -lift), color=MUTED, fontsize=8, **place)


def _flags(marks: ArrayLike | None, count: int) -> NDArray[np.bool_]:
    flags = np.zeros(count, dtype=bool) if marks is None else np.asarray(marks, dtype=bool)
    if flags.shape != (count,):
        raise ValueError(f"{count} images need {count} marks, not an array of shape {flags.shape}")
    return flags


def _filled(images: Images, columns: int) -> torch.Tensor:
    """The images and white ones after them, so that the last line is full."""
    tensor = torch.as_tensor(images)
    missing = -len(tensor) % columns
    return torch.cat([tensor, tensor.new_full((missing, *tensor.shape[1:]), 255)])
