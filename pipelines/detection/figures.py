"""The study's figures: AUROC against rate, estimated against true rate, and what a probability is worth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import binomtest

from pipelines.common.peers import FAMILY
from pipelines.detection.cells import Cell, probability_file
from pipelines.detection.own import OWN
from pipelines.detection.tables import methods
from rvqvae.figures import ACCENT, INK, MUTED, STYLE

COLUMNS = 4
OWN_LOOK = {"color": INK, "linewidth": 2.4, "marker": "o", "markersize": 4, "zorder": 5}
# Okabe and Ito's colours, which colour-blind readers tell apart. Dashed: sees features; solid: sees pixels.
PEER_LOOKS: dict[str, tuple[Any, str]] = {
    "IForest-features": ("#d55e00", "--"),
    "IForest-pixels": ("#d55e00", "-"),
    "MCD": ("#cc79a7", "--"),
    "LOF": ("#c9b400", "--"),
    "AutoEncoder": ("#009e73", "-"),
    "DeepSVDD": ("#0072b2", "-"),
    "ECOD": ("#56b4e9", "-"),
    "cleanlab": ("#e69f00", "--"),
}
# The family's members, which all see pixels: dotted, so that the ten of them stay apart from the others.
PEER_LOOKS |= {name: (matplotlib.colormaps["tab10"](i), ":") for i, name in enumerate(FAMILY)}
BINS = 10
CLEAN = "clean sets"

Probabilities = tuple[NDArray[np.float64], NDArray[np.bool_]]
"""(M,) of being an outlier, and the truth."""


def figures(folder: Path, cells: Sequence[Cell]) -> dict[str, Figure]:
    """Those that the cells suffice for, by name."""
    dirty = [cell for cell in cells if cell.rate > 0]
    own = [cell for cell in cells if cell.method == OWN]
    known = [cell for cell in own if probability_file(folder, cell).exists()]
    with matplotlib.rc_context(STYLE):
        made = {
            "auroc": auroc_figure(dirty) if dirty else None,
            "rates": rate_figure(own) if own else None,
            "reliability": reliability_figure(folder, known) if known else None,
        }
    return {name: figure for name, figure in made.items() if figure}


def auroc_figure(cells: Sequence[Cell]) -> Figure:
    """A panel for each pair, a line for each method: the mean of the seeds."""
    figure, panels = grid(pairs_of(cells), "outliers / total", "AUROC")
    for pair, axes in panels.items():
        for method in methods(cells):
            here = [cell for cell in cells if (cell.pair, cell.method) == (pair, method)]
            rates = sorted({cell.rate for cell in here})
            means = [np.mean([cell.auroc for cell in here if cell.rate == rate]) for rate in rates]
            axes.plot(rates, means, label=method, **look_of(method))
        axes.axhline(0.5, color=MUTED, linewidth=0.8, linestyle=":", zorder=0)
        axes.set(ylim=(-0.02, 1.03), xlim=(0, 0.5))
    handles, labels = next(iter(panels.values())).get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, handlelength=3)
    return figure


def look_of(method: str) -> dict[str, Any]:
    if method == OWN:
        return OWN_LOOK
    colour, dashes = PEER_LOOKS[method]
    return {"color": colour, "linestyle": dashes, "linewidth": 1.3}


def rate_figure(cells: Sequence[Cell]) -> Figure:
    """Estimated against true rate, with the 95 % intervals; the clean sets in a panel of their own."""
    clean = [cell for cell in cells if cell.rate == 0]
    pairs = pairs_of([cell for cell in cells if cell.rate > 0])
    figure, panels = grid([*pairs, *([CLEAN] if clean else [])], "outliers / total", "estimated rate")
    for pair in pairs:
        axes = panels[pair]
        axes.plot([0, 0.5], [0, 0.5], color=MUTED, linewidth=0.8, zorder=0)
        for cell, shift in apart([cell for cell in cells if cell.pair == pair], 0.012):
            estimate(axes, cell, cell.rate + shift)
        axes.set(xlim=(-0.02, 0.52), ylim=(-0.02, 0.62))
    note = "" if np.isnan([cell.rate_low for cell in cells]).all() else "bar: 95 % interval, red if it misses"
    panels[(pairs or [CLEAN])[0]].annotate(note, (0.02, 0.97), xycoords="axes fraction", fontsize=7)
    if clean:
        draw_clean(panels[CLEAN], clean)
    return figure


def draw_clean(axes: Axes, cells: Sequence[Cell]) -> None:
    """A line for each set, its name above it: the estimates, all of which should be 0."""
    names = pairs_of(cells)
    axes.axvline(0, color=MUTED, linewidth=0.8, zorder=0)
    for cell, shift in apart(cells, 0.12):
        estimate(axes, cell, names.index(cell.pair) + shift, across=True)
    for row, name in enumerate(names):
        axes.annotate(name, (0, row - 0.3), (4, 0), textcoords="offset points", va="center", fontsize=7)
    largest = np.nanmax([[cell.estimated_rate, cell.rate_high] for cell in cells])
    axes.set(xlim=(-0.005, max(0.05, 1.1 * largest)), ylim=(len(names) - 0.5, -0.7))
    axes.set(xlabel="estimated rate", ylabel="", yticks=[])


def apart(cells: Sequence[Cell], step: float) -> list[tuple[Cell, float]]:
    """Each cell with a shift of its own among the seeds, so that none hides another."""
    seeds = sorted({cell.seed for cell in cells})
    return [(cell, step * (seeds.index(cell.seed) - (len(seeds) - 1) / 2)) for cell in cells]


def estimate(axes: Axes, cell: Cell, place: float, *, across: bool = False) -> None:
    """A rate with its interval; it stands out if the interval misses the truth."""
    misses = not np.isnan(cell.rate_low) and not cell.rate_low <= cell.rate <= cell.rate_high
    colour = ACCENT if misses else INK
    line, point = (
        (axes.hlines, (cell.estimated_rate, place)) if across else (axes.vlines, (place, cell.estimated_rate))
    )
    line(place, cell.rate_low, cell.rate_high, color=colour, linewidth=1.3, alpha=0.6)
    axes.plot(*point, "o", color=colour, markersize=3)


def reliability_figure(folder: Path, cells: Sequence[Cell]) -> Figure:
    """Of the images that get a probability, how many are outliers: all cells together, and pair by pair."""
    dirty = [cell for cell in cells if cell.rate > 0]
    parts = {"all cells": list(cells)} | {
        pair: [cell for cell in dirty if cell.pair == pair] for pair in pairs_of(dirty)
    }
    figure, panels = grid(list(parts), "probability of being an outlier", "share of outliers")
    for title, axes in panels.items():
        draw_reliability(axes, *load_probabilities(folder, parts[title]))
    return figure


def load_probabilities(folder: Path, cells: Sequence[Cell]) -> Probabilities:
    parts = []
    for cell in cells:
        with np.load(probability_file(folder, cell)) as arrays:
            parts.append((arrays["probability"], arrays["is_outlier"]))
    probability, truth = zip(*parts, strict=True)
    return np.concatenate(probability), np.concatenate(truth)


def draw_reliability(axes: Axes, probability: NDArray[np.float64], truth: NDArray[np.bool_]) -> None:
    """A point for each tenth of the probabilities, larger where more images are, with its 95 % interval."""
    place = np.minimum((probability * BINS).astype(int), BINS - 1)
    error = 0.0
    for tenth in np.unique(place):
        inside = place == tenth
        mean, share, weight = probability[inside].mean(), truth[inside].mean(), inside.mean()
        interval = binomtest(int(truth[inside].sum()), int(inside.sum())).proportion_ci(method="wilson")
        axes.vlines(mean, interval.low, interval.high, color=INK, linewidth=1.3, alpha=0.6)
        axes.scatter(mean, share, s=12 + 150 * weight, color=INK, linewidth=0, alpha=0.8)
        error += weight * abs(mean - share)
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8, zorder=0)
    axes.annotate(
        f"calibration error {error:.3f}", (0.98, 0.03), xycoords="axes fraction", ha="right", fontsize=7
    )
    axes.set(xlim=(-0.08, 1.08), ylim=(-0.19, 1.08))


def pairs_of(cells: Sequence[Cell]) -> list[str]:
    return list(dict.fromkeys(cell.pair for cell in cells))


def grid(titles: Sequence[str], xlabel: str, ylabel: str) -> tuple[Figure, dict[str, Axes]]:
    """A figure with a panel for each title, in lines of ``COLUMNS``."""
    columns = min(COLUMNS, len(titles))
    lines = -(-len(titles) // columns)
    figure = Figure(figsize=(max(4.2, 2.5 * columns), 2.4 * lines + 0.5), layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False).ravel()
    for i, axes in enumerate(panels):
        if i >= len(titles):
            axes.set_axis_off()
            continue
        axes.set_title(titles[i])
        if i % columns == 0:
            axes.set_ylabel(ylabel)
        if i + columns >= len(titles):
            axes.set_xlabel(xlabel)
    return figure, dict(zip(titles, panels, strict=False))
