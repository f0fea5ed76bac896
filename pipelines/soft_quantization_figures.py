"""The codes of two models as points of a plane."""

from __future__ import annotations

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from sklearn.manifold import TSNE

from rvqvae.figures import STYLE

POINTS = 2000
"""Codes that are shown: more would hide each other."""
COLOURS = matplotlib.colormaps["tab10"]


def latents_figure(
    panels: dict[str, tuple[NDArray[np.float32], NDArray[np.int64], float]], seed: int
) -> Figure:
    """``panels``: codes (N, D), digits (N,) and clustering accuracy of each model, side by side."""
    with matplotlib.rc_context(STYLE):
        figure = Figure((4.4 * len(panels), 5.0), layout="constrained")
        axes = figure.subplots(1, len(panels), squeeze=False)[0]
        for panel, (name, (codes, labels, accuracy)) in zip(axes, panels.items(), strict=True):
            points, digits = project(codes[:POINTS], seed), labels[:POINTS]
            panel.scatter(*points.T, s=7, linewidths=0, alpha=0.75, color=COLOURS(digits))
            panel.set_title(f"{name}: clustering accuracy {accuracy:.3f}")
            panel.set(xticks=[], yticks=[])
            panel.spines[:].set_visible(False)
        handles = [
            Line2D([], [], marker="o", linestyle="", markersize=6, color=COLOURS(digit), label=str(digit))
            for digit in range(10)
        ]
        figure.legend(handles=handles, title="digit (not known to the models)", loc="outside lower center",
                      ncols=10, columnspacing=1.2, handletextpad=0.1)  # fmt: skip
        figure.suptitle("Codes before the quantiser, test digits, t-SNE", x=0.01, ha="left", fontsize=11)
    return figure


def project(codes: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    """(N, D) -> (N, 2) by t-SNE, which keeps neighbours and not distances."""
    perplexity = min(30.0, (len(codes) - 1) / 3)
    return TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(codes)
