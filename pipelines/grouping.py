"""Which groups should a user look through? IMSAT's, k-means', HDBSCAN's, all in the joint view.

    python -m pipelines.grouping --root SUITE --datasets ROOT

On every contaminated set of a folder (`pipelines.common.domains`). A group is good if one glance settles it:
it holds inliers or outliers alone. Every row is kept in OUT/rows.csv when it is measured, so the same
command goes on.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import process_time
from typing import NamedTuple

import numpy as np
from jsonargparse import auto_cli
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from sklearn.cluster import HDBSCAN, KMeans

from pipelines.common.command import exit_status
from pipelines.common.store import append_row, claim, read_rows, write_rows
from pipelines.common.tables import Sheet, as_markdown, as_rich
from pipelines.judging.cases import Case
from pipelines.suite import sets_of
from rvqvae.clustering.clusters import default_clusters, find_clusters

Labels = NDArray[np.int64]
Vectors = NDArray[np.float32]
SMALL = 50
"""Images of a group on average, as membership has them."""
SETTLED = 0.9
"""Share of one kind in a group that one glance settles."""


def _imsat(z: Vectors, seed: int) -> Labels:
    return find_clusters(z, default_clusters(len(z)), seed=seed).labels


def _k_means(z: Vectors, seed: int) -> Labels:
    return KMeans(default_clusters(len(z)), n_init=1, random_state=seed).fit_predict(z).astype(np.int64)


def _small_k_means(z: Vectors, seed: int) -> Labels:
    return KMeans(max(2, len(z) // SMALL), n_init=1, random_state=seed).fit_predict(z).astype(np.int64)


def _hdbscan(z: Vectors, seed: int) -> Labels:
    """Of at least 10 images; what it calls noise is one group, the last."""
    labels = HDBSCAN(min_cluster_size=10, copy=True).fit_predict(z).astype(np.int64)
    return np.where(labels < 0, labels.max() + 1, labels)


METHODS: dict[str, Callable[[Vectors, int], Labels]] = {
    "IMSAT": _imsat,
    "k-means, as many": _k_means,
    "k-means, about 50 each": _small_k_means,
    "HDBSCAN": _hdbscan,
}


class Row(NamedTuple):
    """One method on one set."""

    id: str
    kind: str
    method: str
    groups: int
    largest: float
    """Share of the images in the largest group."""
    purity: float
    """Share of the images that are of the commoner side of their group."""
    settled: float
    """Share of the outliers in groups of which SETTLED or more are outliers."""
    lost: float
    """Share of the inliers in those groups."""
    seconds: float
    """Of the CPU."""


def measure(case: Case, method: str) -> Row:
    z, begin = case.joint, process_time()
    labels = METHODS[method](z, case.seed)
    seconds = process_time() - begin
    return Row(
        case.scenario.id, case.scenario.kind, method, *quality(labels, case.is_outlier), round(seconds, 2)
    )


def quality(labels: Labels, truth: NDArray[np.bool_]) -> tuple[int, float, float, float, float]:
    """Groups, largest, purity, settled and lost of a set, as in `Row`."""
    sizes, outliers = np.bincount(labels), np.bincount(labels, truth)
    good = (outliers >= SETTLED * sizes) & (sizes > 0)
    return (
        int((sizes > 0).sum()),
        float(sizes.max() / len(labels)),
        float(np.maximum(outliers, sizes - outliers).sum() / len(labels)),
        float(outliers[good].sum() / truth.sum()),
        float((sizes - outliers)[good].sum() / (~truth).sum()),
    )


def grouping(
    root: str = "../shared/suite",
    datasets: str | None = None,
    limit: int | None = None,
    out: str = "runs/grouping",
    views: str = "runs/views",
) -> None:
    """Measure groups.

    Args:
        root: folder with scenarios.json and the domains
        datasets: folder with the full MNIST and FashionMNIST as torchvision stores them
        limit: sets at most, spread evenly
        out: folder of the results
        views: folder that keeps the features of every set for later runs
    """
    source, scenarios = sets_of(root, datasets, False, limit, False)
    folder, console = Path(out), Console()
    claim(folder, {"root": str(Path(root).resolve())})
    rows = read_rows(folder / "rows.csv", Row)
    write_rows(folder / "rows.csv", Row, rows)
    done, dirty = {(row.id, row.method) for row in rows}, [s for s in scenarios if s.rate > 0]
    for scenario in track(dirty, "grouping", console=console):
        missing = [name for name in METHODS if (scenario.id, name) not in done]
        if missing:
            case = Case.of(source, scenario, Path(views))
            for name in missing:
                rows.append(measure(case, name))
                append_row(folder / "rows.csv", rows[-1])
    made = table(rows)
    console.print(as_rich(made))
    (folder / "table.md").write_text(as_markdown([made]))


def table(rows: Sequence[Row]) -> Sheet:
    """A line for each method and kind of sets, and one for all sets."""
    head = ["method", "sets", "how many", "groups", "largest", "purity", "settled", "lost", "CPU seconds"]
    lines = []
    for method in METHODS:
        mine = [row for row in rows if row.method == method]
        for kind in [*dict.fromkeys(row.kind for row in mine), "all"]:
            here = [row for row in mine if kind in (row.kind, "all")]
            mean = np.mean([row[3:] for row in here], axis=0)
            cells = [f"{mean[0]:.0f}", *(f"{value:.3f}" for value in mean[1:5]), f"{mean[5]:.2f}"]
            lines.append([method, kind, str(len(here)), *cells])
    note = f"settled: outliers in groups of which {SETTLED:.0%} or more are outliers; lost: inliers in them"
    return Sheet("groups", head, [line for line in lines if line], note)


def main() -> int:
    return exit_status(lambda: auto_cli(grouping))


if __name__ == "__main__":
    sys.exit(main())
