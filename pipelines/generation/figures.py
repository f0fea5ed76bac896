"""Pictures of scores and of training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter
from numpy.typing import ArrayLike

from rvqvae.figures import ACCENT, INK, MUTED, STYLE

_SHADES = ("#333333", "#8a8a8a", "#bdbdbd", "#5f7f99")


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
