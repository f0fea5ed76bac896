"""Who belongs? Pairs of inliers and outliers x rates x seeds x methods, the rate unknown to every method.

    python -m pipelines.study                                # the committed samples, one seed
    python -m pipelines.study --root ROOT --seeds [0,1,2]    # the full sets (ROOT as torchvision stores them)

Every cell is kept in OUT/cells.csv as soon as it is measured, so the same command continues. Only `rvqvae`
decides whom to drop; the peers need a rate for that, so they are compared by AUROC alone.
"""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import NamedTuple, get_type_hints

import numpy as np
from jsonargparse import auto_cli
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table
from sklearn.covariance import EllipticEnvelope
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import LocalOutlierFactor

from data.recipes import load
from rvqvae.checkpoint import write_atomically
from rvqvae.contamination import Contaminated, contaminate, noise_images, split_classes
from rvqvae.errors import InputError
from rvqvae.features import extract_views
from rvqvae.membership import warm_start

Images = NDArray[np.uint8]
Views = list[NDArray[np.generic]]
PAIRS = ("mnist/fashion_mnist", "fashion_mnist/mnist", "mnist/noise", "mnist:4", "fashion_mnist:0")
CLEAN = ("mnist", "fashion_mnist")
PEERS = ("IForest", "MCD", "LOF")


class Cell(NamedTuple):
    """One measurement; nan where there is nothing to measure."""

    pair: str
    rate: float
    seed: int
    method: str
    images: int
    auroc: float
    estimated_rate: float
    outliers_kept: float
    inliers_dropped: float
    seconds: float


def draw(pair: str, rate: float, seed: int, total: int, root: str | None) -> Contaminated:
    """``a/b``: b among a; ``a:4``: class 4 of a among its other classes; ``a``: a as it is."""
    name, _, other = pair.partition("/")
    name, _, label = name.partition(":")
    images, labels = load(name, root)
    images = images[:, None]
    if label:
        inliers, outliers = split_classes(images, labels, int(label))
    elif other == "noise":
        inliers, outliers = images, noise_images(total, (1, 28, 28), "uniform", seed)
    else:
        inliers, outliers = images, load(other, root)[0][:, None] if other else images[:0]
    total = min(total, int(len(inliers) / (1 - rate)), int(len(outliers) / rate) if rate else total)
    return contaminate(inliers, outliers, rate, seed, total=total)


def peer_scores(method: str, views: Views, seed: int) -> NDArray[np.float64]:
    """(N,) higher = more normal; scikit-learn's defaults, on the features, the view that suits them best."""
    x = PCA(min(48, len(views[1]) - 1), random_state=seed).fit_transform(views[1])
    if method == "LOF":
        return LocalOutlierFactor().fit(x).negative_outlier_factor_
    makers: dict[str, Callable[[], IsolationForest | EllipticEnvelope]] = {
        "IForest": lambda: IsolationForest(random_state=seed),
        "MCD": lambda: EllipticEnvelope(random_state=seed),
    }
    return makers[method]().fit(x).score_samples(x)


def measure(pair: str, rate: float, seed: int, total: int, root: str | None, peers: bool) -> list[Cell]:
    """All methods on one contaminated set."""
    mixture = draw(pair, rate, seed, total, root)
    truth, n = mixture.is_outlier, len(mixture.images)

    def auroc(score: NDArray[np.float64]) -> float:
        return float(roc_auc_score(truth, -score)) if truth.any() else float("nan")

    begin = perf_counter()
    views = extract_views(mixture.images)
    start = warm_start(views, images=mixture.images, seed=seed)
    found = start.is_outlier
    kept = float((~found)[truth].mean()) if truth.any() else float("nan")
    seconds = round(perf_counter() - begin, 1)
    dropped = float(found[~truth].mean())
    cells = [
        Cell(pair, rate, seed, "rvqvae", n, auroc(start.score), float(found.mean()), kept, dropped, seconds)
    ]
    nan = float("nan")
    for method in PEERS if peers and truth.any() else ():
        begin = perf_counter()
        score = auroc(peer_scores(method, views, seed))
        cells.append(
            Cell(pair, rate, seed, method, n, score, nan, nan, nan, round(perf_counter() - begin, 1))
        )
    return cells


def read(path: Path) -> list[Cell]:
    """The cells measured so far; a last line that a kill cut short is left out."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["seconds"]]
    return [Cell(**{key: kind(row[key]) for key, kind in get_type_hints(Cell).items()}) for row in rows]


def table(cells: list[Cell]) -> Table:
    """Mean over seeds of each pair and rate."""
    made = Table(caption="AUROC; of rvqvae also: estimated rate, outliers kept, inliers dropped")
    for i, title in enumerate(["pair", "rate", "rvqvae", "est.", "kept", "dropped", *PEERS]):
        made.add_column(title, justify="right" if i else "left")
    for pair, rate in dict.fromkeys((cell.pair, cell.rate) for cell in cells):
        here = [cell for cell in cells if (cell.pair, cell.rate) == (pair, rate)]
        own = [cell for cell in here if cell.method == "rvqvae"]
        numbers = [np.mean([getattr(cell, key) for cell in own]) for key in Cell._fields[5:9]]
        numbers += [np.mean([c.auroc for c in here if c.method == m] or [np.nan]) for m in PEERS]
        made.add_row(pair, f"{rate:g}", *("" if np.isnan(x) else f"{x:.3f}" for x in numbers))
    return made


def study(
    pairs: tuple[str, ...] = PAIRS,
    rates: tuple[float, ...] = (0.05, 0.1, 0.2, 0.3, 0.4, 0.45),
    seeds: tuple[int, ...] = (0,),
    total: int = 4000,
    root: str | None = None,
    out: str = "runs/study",
    peers: bool = True,
) -> None:
    """Measure who is called an outlier.

    Args:
        pairs: a/b, a/noise or a:class, of mnist and fashion_mnist
        rates: outliers / total; clean sets are measured besides
        seeds: of the draws and the methods
        total: images of a set, fewer where the source has fewer
        root: folder with the full sets; the committed samples without it
        out: folder of the results
        peers: measure scikit-learn's detectors too
    """
    path = Path(out) / "cells.csv"
    cells = read(path)
    done = {cell[:3] for cell in cells}
    wanted = [(p, r, s) for s in seeds for p in pairs for r in rates] + [
        (c, 0.0, s) for s in seeds for c in CLEAN
    ]
    # Whole lines only, then one line after the other: a kill costs the cell it fell into.
    text = io.StringIO()
    csv.writer(text).writerows([Cell._fields, *cells])
    write_atomically(path, text.getvalue().encode())
    with path.open("a", newline="") as file:
        writer = csv.writer(file)
        for key in track([key for key in wanted if key not in done], "study"):
            fresh = measure(*key, total, root, peers)
            writer.writerows(fresh)
            file.flush()
            cells += fresh
    Console().print(table(cells))


if __name__ == "__main__":
    try:
        auto_cli(study)
    except InputError as error:
        sys.exit(f"error: {error}")
