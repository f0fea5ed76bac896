"""Pictures of images, scores and training (matplotlib's object interface, no global state)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, StrMethodFormatter
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from torchvision.utils import make_grid

ACCENT = "#c8321e"
"""What does not belong: outliers, flagged images."""
INK = "#333333"
MUTED = "#8a8a8a"
_SHADES = ("#333333", "#8a8a8a", "#bdbdbd", "#5f7f99")
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
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        Image.fromarray(picture).save(partial, format="PNG")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def reconstruction_figure(
    originals: Images, reconstructions: Images, marks: ArrayLike | None = None, columns: int = 16
) -> Figure:
    """Originals, each above its reconstruction; images that ``marks`` flags are framed."""
    flags = _flags(marks, len(originals))
    starts = range(0, len(originals), columns)
    with matplotlib.rc_context(STYLE):
        sheet = _Sheet(columns, [2] * len(starts), torch.as_tensor(originals).shape[2:])
        for start in starts:
            part = slice(start, start + columns)
            pair = [_filled(images[part], columns) for images in (originals, reconstructions)]
            axes = sheet.block(torch.cat(pair), _filled_flags([flags[part], flags[part]], columns))
            sheet.title(axes, "original", y=0.25, bold=False)
            sheet.title(axes, "reconstruction", y=0.75, bold=False)
        return sheet.figure


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


def score_histogram(
    scores: ArrayLike,
    is_outlier: ArrayLike | None = None,
    threshold: float | None = None,
    *,
    label: str = "score (higher: more normal)",
) -> Figure:
    """Distribution of scores, by truth where it is known, with the threshold that was used."""
    values = np.asarray(scores, dtype=float)
    finite = np.isfinite(values)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6, 2.8), layout="constrained")
        axes = figure.subplots()
        # A few extreme scores must not squeeze all others into one bin.
        low, high = np.quantile(values[finite], [0.002, 0.998]) if finite.any() else (0.0, 1.0)
        margin = 0.02 * (high - low) or 0.5
        bins = np.linspace(low - margin, high + margin, 61).tolist()
        shown = np.clip(values, bins[0], bins[-1])
        if is_outlier is None:
            axes.hist(shown[finite], bins, color=MUTED)
        else:
            outlier = np.asarray(is_outlier, dtype=bool)
            for mask, colour, name in ((~outlier, MUTED, "inliers"), (outlier, ACCENT, "outliers")):
                count = int((mask & finite).sum())
                axes.hist(shown[mask & finite], bins, color=colour, alpha=0.75, label=f"{name} ({count:,})")
        if threshold is not None:
            axes.axvline(
                threshold, color=INK, linewidth=1, linestyle="--", label=f"threshold {threshold:.3g}"
            )
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="best")
        axes.set(xlabel=label, ylabel="images")
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        return figure


PANELS: Mapping[str, tuple[str, ...]] = {
    "Loss": ("loss", "reconstruction", "commitment"),
    "Set size": ("inliers", "outliers", "flips"),
    "Codebook perplexity": ("perplexity",),
    "Share of dead codes": ("dead",),
}
"""Panels of ``curves_figure``, each with the words that its curves' names contain."""


def curves_figure(history: Sequence[Mapping[str, float]]) -> Figure:
    """Losses, set sizes and codebook use per epoch, from one mapping of numbers for each epoch."""
    names = list(dict.fromkeys(name for record in history for name in record))
    panels: dict[str, list[str]] = {}
    for name in names:
        panel = next(
            (p for p, words in reversed(list(PANELS.items())) if any(w in name for w in words)), None
        )
        if panel is not None:
            panels.setdefault(panel, []).append(name)
    epochs = [record.get("epoch", index) for index, record in enumerate(history)]
    shown = [panel for panel in PANELS if panel in panels]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(3.1 * max(1, len(shown)), 2.7), layout="constrained")
        for axes, panel in zip(figure.subplots(1, max(1, len(shown)), squeeze=False)[0], shown, strict=False):
            _curves(axes, epochs, {n: [record.get(n) for record in history] for n in panels[panel]})
            axes.set(title=panel, xlabel="epoch")
        return figure


def _curves(axes: Axes, epochs: Sequence[float], curves: Mapping[str, Sequence[float | None]]) -> None:
    shades = iter(_SHADES * len(curves))
    for name, values in curves.items():
        colour = ACCENT if "outlier" in name else next(shades)
        numbers = [np.nan if value is None else value for value in values]
        marker = "o" if len(numbers) == 1 else None
        label = name.replace("_", " ").replace("/", " ").replace(".", " ")
        axes.plot(epochs, numbers, color=colour, linewidth=1.4, marker=marker, label=label)
    axes.set_ylim(bottom=min(0, axes.get_ylim()[0]))
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    axes.legend(loc="best")


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

    def title(
        self, axes: Axes, title: str, caption: str | None = None, *, y: float | None = None, bold: bool = True
    ) -> None:
        """Write beside the block, ``y`` from its top (0) to its bottom (1)."""
        place: Any = {
            "xycoords": "axes fraction",
            "textcoords": "offset points",
            "ha": "right",
            "va": "center",
        }
        middle = 1 - (0.5 if y is None else y)
        weight = "bold" if bold else "normal"
        lift = 7 if caption else 0
        axes.annotate(title, (0, middle), (-8, lift), weight=weight, **place)
        if caption:
            axes.annotate(caption, (0, middle), (-8, -lift), color=MUTED, fontsize=8, **place)


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


def _filled_flags(parts: Sequence[NDArray[np.bool_]], columns: int) -> NDArray[np.bool_]:
    return np.concatenate([np.pad(part, (0, -len(part) % columns)) for part in parts])
