"""Pictures of the family: codes of two numbers, and samples, from the arrays that its methods kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from scipy.stats import rankdata

from rvqvae.figures import STYLE, generation_figure

FLAT = ("PCA-2", "AE-2")
COLOURS = matplotlib.colormaps["tab10"]


def figures(folder: Path, lines: Sequence[Any]) -> dict[str, Figure]:
    """Those whose methods have run, with their numbers; of the first seed."""
    seed = min((line.seed for line in lines), default=0)
    value = {(line.method, line.measure): line.value for line in lines if line.seed == seed}
    made = {}
    codes = {name: path for name in FLAT if (path := array(folder, name, seed)).exists()}
    if codes:
        made["dimensions"] = scatter(
            codes, {name: (value[name, "squared error"], value[name, "trustworthiness"]) for name in codes}
        )
    samples = {
        line.method: path
        for line in lines
        if line.job == "generation"
        and line.seed == seed
        and (path := array(folder, f"samples {line.method}", seed)).exists()
    }
    if samples:
        pictures = {name: np.load(path)["images"] for name, path in samples.items()}
        captions = {name: f"FD {value[name, 'FD (features)']:.0f}" for name in samples}
        made["generation"] = generation_figure(pictures, captions, note="Lower FD is better.")
    return made


def array(folder: Path, name: str, seed: int) -> Path:
    return folder / "arrays" / f"{name}-seed{seed}.npz"


def scatter(codes: dict[str, Path], measured: dict[str, tuple[float, float]]) -> Figure:
    """Held-out digits by two numbers each, one panel a method.

    By ranks: an autoencoder's numbers have no scale of their own, and a few far ones would crowd the rest.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure((4.2 * len(codes), 4.4), layout="constrained")
        panels = figure.subplots(1, len(codes), squeeze=False)[0]
        for panel, (name, path) in zip(panels, codes.items(), strict=True):
            with np.load(path) as kept:
                points, labels = rankdata(kept["codes"], axis=0), kept["labels"]
            for digit in range(10):
                part = points[labels == digit]
                panel.scatter(*part.T, s=5, linewidths=0, alpha=0.7, color=COLOURS(digit), label=str(digit))
                panel.annotate(
                    str(digit), np.median(part, 0), weight="bold", size=12, ha="center", va="center",
                    path_effects=[withStroke(linewidth=3, foreground="white")],
                )  # fmt: skip
            error, trust = measured[name]
            panel.set_title(f"{name}: squared error {error:.1f}, trustworthiness {trust:.3f}")
            panel.set(xticks=[], yticks=[], xlabel="rank of the first number", ylabel="rank of the second")
            for side in panel.spines.values():
                side.set_visible(False)
        return figure
