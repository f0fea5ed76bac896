"""Who belongs? Pairs of inliers and outliers x rates x seeds x methods, the rate unknown to every method.

    python -m pipelines.study                                # the committed samples, one seed, all peers
    python -m pipelines.study --peers []                     # rvqvae alone
    python -m pipelines.study --root ROOT --seeds [0,1,2]    # the full sets (ROOT as torchvision stores them)
    python -m pipelines.study --pairs [mnist/fashion_mnist] --rates [0,0.1,0.3,0.45] --peers [AE,VAE]

Every cell is kept in OUT/cells.csv as soon as it is measured, so the same command continues, and one with
more pairs, rates, seeds or peers adds to it. OUT/table.md and three figures say what came out. Only
`rvqvae` decides whom to drop; the peers need a rate for that, so they are compared by AUROC alone. Members
of the autoencoder family also score held-out images, as `rvqvae` does, so a rate of 0 says something of them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
from jsonargparse import auto_cli
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from sklearn.metrics import roc_auc_score

from pipelines.common import peers as others
from pipelines.common.command import exit_status
from pipelines.common.pairs import draw, require
from pipelines.common.store import append_row, claim, read_rows, write_rows
from pipelines.common.tables import as_markdown, as_rich
from pipelines.detection import figures, tables
from pipelines.detection.cells import NAN, Cell, metered, probability_file
from pipelines.detection.own import METHODS, OWN, Images, Vector
from rvqvae.contamination import Contaminated
from rvqvae.errors import InputError
from rvqvae.tracking.runs import Tracker

PAIRS = (
    "mnist/fashion_mnist", "fashion_mnist/mnist", "mnist/noise", "mnist:4", "fashion_mnist:0",
    "tinted_fashion/tinted_mnist", "flower/china",
)  # fmt: skip
CLEAN = ("mnist", "fashion_mnist", "mnist:1", "mnist:4", "fashion_mnist:0", "fashion_mnist:1")
HELD_OUT = 0.3
"""Outliers among the held-out images where training had none."""
WIDTH = 120
"""Characters that the tables need; a narrower terminal breaks their lines, which loses nothing."""
RATES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.45)


class Case:
    """One mixture, its held-out twin, and its views, each made when it is first asked for."""

    def __init__(self, pair: str, rate: float, seed: int, total: int, root: str | None) -> None:
        self.key = (pair, rate, seed)
        self.drawn = draw(pair, rate, seed, total, root)
        new = HELD_OUT if rate == 0 and "/" in pair else rate
        self.held_out = cache(lambda: draw(pair, new, seed, total, root, train=False))
        self.view = cache(
            lambda name: metered(lambda: others.view_of(self.drawn.images, name, seed))
        )  # (matrix, cost)

    def measure(self, method: str, epochs: int, out: Path) -> Cell:
        if method in METHODS:
            return self._own(method, epochs, out)
        return self._member(method) if method in others.FAMILY else self._peer(method)

    def _own(self, method: str, epochs: int, out: Path) -> Cell:
        truth = self.drawn.is_outlier
        found, cost = metered(lambda: METHODS[method](self.drawn.images, self.key[2], epochs))
        cell = Cell(
            *self.key,
            method,
            len(truth),
            auroc(truth, found.score),
            heldout_auroc=self._heldout_auroc(found.score_new),
            estimated_rate=float(found.is_outlier.mean()),
            rate_low=found.interval[0],
            rate_high=found.interval[1],
            outliers_kept=float((~found.is_outlier)[truth].mean()) if truth.any() else NAN,
            inliers_dropped=float(found.is_outlier[~truth].mean()),
            verdict=found.verdict,
            seconds=cost.seconds,
            peak_gib=cost.gib,
        )
        if found.probability is not None and method == OWN:
            path = probability_file(out, cell)
            path.parent.mkdir(parents=True, exist_ok=True)
            np.savez_compressed(path, probability=found.probability, is_outlier=truth)
        return cell

    def _heldout_auroc(self, score_new: Callable[[Images], Vector] | None) -> float:
        if score_new is None:
            return NAN
        new: Contaminated = self.held_out()
        return auroc(new.is_outlier, score_new(new.images)) if new.is_outlier.any() else NAN

    def _member(self, method: str) -> Cell:
        truth, (view, seen) = self.drawn.is_outlier, self.view("pixels")
        model, fitted = metered(lambda: others.member(method, view, self.key[2]))
        return Cell(
            *self.key,
            method,
            len(truth),
            auroc(truth, model.score_samples(view)),
            heldout_auroc=self._heldout_auroc(lambda new: model.score_samples(others.view_of(new, "pixels"))),
            seconds=round(seen.seconds + fitted.seconds, 2),
            peak_gib=max(seen.gib, fitted.gib),
        )

    def _peer(self, method: str) -> Cell:
        truth = self.drawn.is_outlier
        view, seen = self.view(others.PEERS[method].view)
        score, fitted = metered(lambda: others.score(method, view, self.key[2]))
        return Cell(
            *self.key,
            method,
            len(truth),
            auroc(truth, score),
            seconds=round(seen.seconds + fitted.seconds, 2),
            peak_gib=max(seen.gib, fitted.gib),
        )


def auroc(truth: NDArray[np.bool_], score: NDArray[np.floating]) -> float:
    return float(roc_auc_score(truth, -score)) if truth.any() else NAN


def study(
    pairs: tuple[str, ...] = PAIRS,
    rates: tuple[float, ...] = RATES,
    seeds: tuple[int, ...] = (0,),
    clean: tuple[str, ...] = CLEAN,
    total: int = 4000,
    root: str | None = None,
    out: str = "runs/study",
    methods: tuple[str, ...] = (OWN,),
    peers: tuple[str, ...] = others.OUTSIDE,
    epochs: int = 20,
    tracking: bool = True,
) -> None:
    """Measure who is called an outlier.

    Args:
        pairs: a/b, a:class or a:class/b of mnist, fashion_mnist, tinted_mnist, tinted_fashion, flower,
            china, noise
        rates: outliers / total
        seeds: of the draws and the methods
        clean: sets, or classes of them as mnist:4, that must stay whole; measured at rate 0
        total: images of a mixture, fewer where the source has fewer
        root: folder with the full sets; the committed samples without it
        out: folder of the results
        methods: of our own: rvqvae, learned (nothing pretrained)
        peers: other people's detectors to measure, and members of the autoencoder family by name, as VAE;
            [] for none
        epochs: of the joint training
        tracking: report to MLflow
    """
    folder, console = Path(out), Console()
    check(pairs, rates, seeds, clean, total, methods, peers)
    claim(folder, {"total": total, "full_sets": root is not None, "epochs": epochs})
    cells = read_rows(folder / "cells.csv", Cell)
    wanted = [(p, r, s) for s in seeds for p in pairs for r in rates] + [
        (c, 0.0, s) for s in seeds for c in clean
    ]
    parent = Tracker(
        "study",
        run_name=f"{len(pairs)} pairs x {len(rates)} rates x {len(seeds)} seeds",
        params={"pairs": pairs, "rates": rates, "seeds": seeds, "clean": clean, "peers": peers}
        | {"methods": methods, "total": total, "full_sets": root is not None, "epochs": epochs},
        directory=folder,
        enabled=tracking,
    )
    with parent:
        fill(cells, folder, wanted, methods, peers, epochs, total, root, console)
        report(parent, folder, cells, console)


def check(
    pairs: tuple[str, ...],
    rates: tuple[float, ...],
    seeds: tuple[int, ...],
    clean: tuple[str, ...],
    total: int,
    methods: tuple[str, ...],
    peers: tuple[str, ...],
) -> None:
    """Fail now rather than after an hour."""
    others.require(peers)
    if unknown := [name for name in methods if name not in METHODS]:
        raise InputError(f"methods={unknown} are unknown: choose from {', '.join(METHODS)}")
    for pair in (*pairs, *clean):
        require(pair)
    if not ((pairs and rates) or clean) or not seeds:
        raise InputError("there is nothing to measure: give --seeds, and --pairs with --rates or --clean")
    if min(seeds) < 0:
        raise InputError(f"seeds={list(seeds)} are out of range: they must be >= 0")
    if not all(0 <= rate < 0.5 for rate in rates):
        raise InputError(f"rates={list(rates)} are out of range: outliers / total is >= 0 and below 0.5")
    if total < 100:
        raise InputError(f"total={total} is out of range: it must be >= 100")


def fill(
    cells: list[Cell],
    folder: Path,
    wanted: list[tuple[str, float, int]],
    methods: tuple[str, ...],
    peers: tuple[str, ...],
    epochs: int,
    total: int,
    root: str | None,
    console: Console,
) -> None:
    """Measure the cells that are not there yet, and keep each at once."""
    path = folder / "cells.csv"
    write_rows(path, Cell, cells)
    done = {cell[:4] for cell in cells}
    missing = {
        key: [name for name in (*methods, *comparable(peers, *key[:2])) if (*key, name) not in done]
        for key in wanted
    }
    for key in track([key for key in missing if missing[key]], "study", console=console):
        case = Case(*key, total, root)
        for method in missing[key]:
            cells.append(case.measure(method, epochs, folder))
            append_row(path, cells[-1])


def comparable(peers: tuple[str, ...], pair: str, rate: float) -> list[str]:
    """Those that can be measured: without outliers in training, by held-out images alone."""
    return [name for name in peers if rate or (name in others.FAMILY and "/" in pair)]


def report(parent: Tracker, folder: Path, cells: list[Cell], console: Console) -> None:
    """Tables and figures to the folder, and all of it to MLflow: a run for each method, inside one."""
    sheets = tables.sheets(cells)
    console.width = max(console.width, WIDTH)
    for sheet in sheets:
        console.print(as_rich(sheet))
    parent.text(as_markdown(sheets), "table.md")
    parent.artifact(folder / "cells.csv")
    for name, figure in figures.figures(folder, cells).items():
        parent.figure(figure, f"{name}.png")
    for method in tables.methods(cells):
        with parent.child(method, {"method": method}) as child:
            for percent, values in tables.curves(cells, method).items():
                child.metrics(values, step=percent)
    console.print(f"kept in {folder}", highlight=False)


def main() -> int:
    return exit_status(lambda: auto_cli(study))


if __name__ == "__main__":
    sys.exit(main())
