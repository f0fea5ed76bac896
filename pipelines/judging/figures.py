"""Pictures of a run over many scenarios: calibration, what answers are worth, and where it is most wrong."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pipelines.common.domains import Images
from pipelines.judging.cases import Row, Vector
from pipelines.judging.tables import ALL, calibration, kinds, of_kind, summarise
from rvqvae.figures import INK, MUTED, STYLE, image_grid

# Okabe and Ito's colours, which colour-blind readers tell apart.
COLOURS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#c9b400")
LOOKS = [(INK, "-"), *((colour, style) for style in ("-", "--") for colour in COLOURS)]
SHOWN = 12
"""Images in a row."""


def calibration_figure(said: dict[str, tuple[Vector, NDArray[np.bool_], Vector]]) -> Figure:
    """What is said against what is true, a line for each method."""
    with matplotlib.rc_context(STYLE):
        figure = Figure((4.2, 4), layout="constrained")
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8)
        for (method, told), colour in zip(said.items(), (INK, *COLOURS), strict=False):
            _, _, means, true, share = zip(*calibration(*told), strict=True)
            axes.plot(means, true, color=colour, label=method, zorder=3)
            axes.scatter(means, true, 400 * np.sqrt(share), color=colour, alpha=0.5, linewidths=0)
        axes.set(xlabel="probability said", ylabel="share that are outliers", xlim=(0, 1), ylim=(0, 1))
        axes.legend(loc="upper left")
    return figure


def answers_figure(rows: Sequence[Row], method: str) -> Figure:
    """Outliers left in by the number of answers, a line for each kind; other methods by their mean."""
    with matplotlib.rc_context(STYLE):
        figure = Figure((5.2, 3.6), layout="constrained")
        axes = figure.subplots()
        mine = [row for row in rows if row.method == method]
        dirty = [kind for kind in kinds(mine) if any(row.rate for row in of_kind(mine, kind))]
        for kind, (colour, style) in zip((ALL, *dirty), LOOKS, strict=False):
            stages = sorted({(row.groups + row.singles, row.groups) for row in of_kind(mine, kind)})
            means = [
                summarise(
                    [r for r in of_kind(mine, kind) if (r.groups + r.singles, r.groups) == stage]
                ).left_in
                for stage in stages
            ]
            look = {"color": colour, "linestyle": style, "linewidth": 2.4 if kind == ALL else 1.2}
            axes.plot([n for n, _ in stages], means, "o", markersize=3, label=kind, **look)
        others = sorted({(row.method, row.singles) for row in rows if row.method != method and row.singles})
        for (name, n), marker in zip(others, "sv^Dx*", strict=False):
            found = summarise([r for r in of_kind(rows, ALL) if (r.method, r.singles) == (name, n)])
            axes.plot(n, found.left_in, marker, color=MUTED, label=name, linestyle="none")
        axes.set(xlabel="answers", ylabel="outliers left in", ylim=(0, None))
        figure.legend(loc="outside right upper")
    return figure


class Wrong:
    """A set as it was judged: images (N, C, H, W), the truth, the decision, and the probability."""

    def __init__(
        self, row: Row, images: Images, truth: NDArray[np.bool_], out: NDArray[np.bool_], probability: Vector
    ) -> None:
        self.row, self.images = row, images
        sure = np.abs(probability - 0.5)
        self.strips = {
            "inliers kept": self._typical(~truth & ~out, sure),
            "inliers thrown out": self._typical(~truth & out, sure),
            "outliers left in": self._typical(truth & ~out, sure),
            "outliers dropped": self._typical(truth & out, sure),
        }

    def _typical(self, rows: NDArray[np.bool_], sure: Vector) -> tuple[int, Images]:
        """How many, and of them SHOWN: from the surest to the least sure, evenly."""
        found = np.flatnonzero(rows)[np.argsort(-sure[rows])]
        shown = found[np.unique(np.linspace(0, len(found) - 1, SHOWN).astype(int))] if len(found) else found
        return len(found), self.images[shown]


def wrong_figure(sets: Sequence[Wrong]) -> Figure:
    """The sets one below another, each with its four strips of images; empty ones are left out."""
    with matplotlib.rc_context(STYLE):
        heights = [[n for n, _ in wrong.strips.values()] for wrong in sets]
        lines = sum(sum(1 for n in counts if n) + 1 for counts in heights)
        figure = Figure((7, 0.62 * lines), layout="constrained")
        figure.get_layout_engine().set(rect=(0.1, 0, 0.9, 1))  # room for the names of the strips
        axes = iter(figure.subplots(lines, 1, squeeze=False)[:, 0])
        for wrong in sets:
            row, head = wrong.row, next(axes)
            text = f"{row.id}: {row.domains}, {row.rate:.0%} outliers among {row.samples}"
            head.text(0, 0, text, fontweight="bold", va="bottom")
            head.axis("off")
            for name, (n, images) in wrong.strips.items():
                if n:
                    strip = next(axes)
                    blank = np.full((SHOWN - len(images), *images.shape[1:]), 255, np.uint8)
                    strip.imshow(image_grid(np.concatenate([images, blank]), SHOWN))
                    strip.set_ylabel(f"{name}\n{n}", rotation=0, ha="right", va="center", fontsize=7)
                    strip.set(xticks=[], yticks=[])
                    strip.spines[:].set_visible(False)
    return figure
