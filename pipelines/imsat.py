"""IMSAT beside its published figures: clusters and hash codes of MNIST.

    python -m pipelines.imsat                                # the committed sample: 5,000 digits
    python -m pipelines.imsat --root ROOT --seeds [0,1,2]    # all 70,000 (ROOT as torchvision stores them)
    python -m pipelines.imsat --root ROOT --only [IMSAT-VAT,hash-VAT]
    python -m pipelines.imsat --images DOMAIN.npz --only [IMSAT-VAT,IMSAT-affine,IMSAT-VAT-affine]

As in the paper, a method learns from all images and is measured on the same images; labels serve the
measures alone. Published figures: Hu et al. 2017, tables 3 and 5. The same command goes on where it stopped,
and one with more seeds or methods adds to what there is.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from functools import cached_property
from math import nan
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jsonargparse import auto_cli
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.console import Console
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA

from data.recipes import load
from pipelines.common.command import exit_status
from pipelines.common.labelled import Labelled, labelled_images
from pipelines.common.store import claim, read_rows, write_rows
from pipelines.common.tables import Sheet, as_markdown, as_rich, spread
from rvqvae.clustering import IMSAT, IMSATHash, hamming_distances, nearest_distances
from rvqvae.errors import InputError
from rvqvae.features.pretrained import extract_views
from rvqvae.figures import generation_figure
from rvqvae.membership.view import JointView
from rvqvae.metrics.clustering import clustering_accuracy, clustering_nmi
from rvqvae.metrics.retrieval import average_precision, precision_at_k
from rvqvae.tracking.runs import Tracker

Numbers = dict[str, float]
BITS, QUERIES, NEAREST, RADIUS = 16, 100, 500, 2
"""Of the hash protocol: bits, queries of each class, the k of P@k, the Hamming distance of P@r."""
CLUSTER_EPOCHS, HASH_EPOCHS, JOINT_EPOCHS = (50, 64), (50, 60), (8, 32)
"""On all 70,000 images, as the paper, and on a smaller set, where they are fewer steps nevertheless."""
SHOWN = 16
MEASURES = {
    "cluster": {"accuracy": "ACC", "nmi": "NMI"},
    "hash": {"map": "mAP", "precision_500": "P@500", "precision_r2": "P@r2"},
}
PUBLISHED: dict[str, dict[str, str]] = {
    "k-means": {"accuracy": ".532"},
    "linear-RIM": {"accuracy": ".596 ± .023"},
    "deep-RIM": {"accuracy": ".585 ± .035"},
    "IMSAT-RPT": {"accuracy": ".896 ± .054"},
    "IMSAT-VAT": {"accuracy": ".984 ± .004"},
    "hash-PCA": {},
    "hash-RIM": {"map": ".439", "precision_500": ".690", "precision_r2": ".667"},
    "hash-VAT": {"map": ".839", "precision_500": ".970", "precision_r2": ".962"},
}
TARGETS = {("IMSAT-VAT", "accuracy"): 0.97, ("hash-VAT", "map"): 0.80}
"""On all 70,000 images."""
NEIGHBOURS = {"mean": 9.998, "min": 2.718, "median": 10.304, "max": 19.003}
"""Statistics of the distances that the authors released, of pixels / 128 - 1; in truth to the 11th."""


def digits_of(root: str | None) -> Labelled:
    """All 70,000 in ``root``, or the committed sample."""
    halves = (
        [load("mnist", root)] if root is None else [load("mnist", root, train) for train in (True, False)]
    )
    return np.concatenate([x for x, _ in halves]), np.concatenate([y for _, y in halves])


class Digits:
    """The images, digits or others, what is known of them, and the folder of the results."""

    def __init__(
        self, root: str | None, seed: int, epochs: int | None, out: Path, device: str | None,
        images: str | None = None,
    ) -> None:  # fmt: skip
        self.images, self.labels = digits_of(root) if images is None else labelled_images(images)
        self.kinds = int(self.labels.max()) + 1
        self.published = images is None
        self.full, self.seed, self.epochs, self.out, self.device = root is not None, seed, epochs, out, device

    def options(self, name: str, epochs: tuple[int, int]) -> dict[str, Any]:
        """Of a training of ``epochs`` passes over the full set, or over another."""
        given = self.epochs or epochs[0 if self.full else 1]
        kept = self.out / "trainings" / f"{name}-seed{self.seed}"
        return {"epochs": given, "random_state": self.seed, "device": self.device, "directory": kept}

    @cached_property
    def distances(self) -> dict[int, NDArray[np.float32]]:
        """To the 10th and 11th neighbour, of pixels / 128 - 1; kept, as they take minutes."""
        path = self.out / "distances.npz"
        if not path.exists():
            flat = torch.from_numpy(self.images.reshape(len(self.images), -1)) / 128 - 1
            nearest = nearest_distances(flat, 11).numpy()
            kept = {"10": nearest[:, 9], "11": nearest[:, 10]}
            path.parent.mkdir(parents=True, exist_ok=True)
            np.savez(path, **kept)
        with np.load(path) as arrays:
            return {int(name): arrays[name] for name in arrays}

    @cached_property
    def joint(self) -> NDArray[np.float32]:
        """The view that the command `rvqvae cluster` compares images by."""
        views = extract_views(self.images[:, None], device=self.device)[:4]
        return JointView.fit(views)(views)

    @property
    def known(self) -> NDArray[np.float32]:
        """Distances in pixels, as the estimators take them."""
        return 128 * self.distances[10]


# Clusters


def measured(digits: Digits, name: str, labels: NDArray[np.int64]) -> Numbers:
    np.savez(digits.out / f"{name}-seed{digits.seed}.npz", labels=labels)
    return {
        "accuracy": clustering_accuracy(digits.labels, labels), "nmi": clustering_nmi(digits.labels, labels),
    }  # fmt: skip


def k_means(digits: Digits) -> Numbers:
    x = digits.images.reshape(len(digits.images), -1).astype(np.float32)
    return measured(
        digits, "k-means", KMeans(digits.kinds, n_init=1, random_state=digits.seed).fit_predict(x)
    )


def joint_k_means(digits: Digits) -> Numbers:
    found = KMeans(digits.kinds, n_init=1, random_state=digits.seed).fit_predict(digits.joint)
    return measured(digits, "joint-k-means", found)


def joint_imsat(digits: Digits) -> Numbers:
    model = IMSAT(
        n_clusters=digits.kinds,
        hidden=(400, 400),
        learning_rate=5e-3,
        **digits.options("joint-IMSAT", JOINT_EPOCHS),
    )
    return measured(digits, "joint-IMSAT", model.fit_predict(digits.joint))


def imsat(name: str, **changes: Any) -> Callable[[Digits], Numbers]:
    def run(digits: Digits) -> Numbers:
        model = IMSAT(n_clusters=digits.kinds, **digits.options(name, CLUSTER_EPOCHS) | changes)
        return measured(digits, name, model.fit(digits.images, distances=digits.known).labels_)

    return run


# Hash codes


def retrieved(digits: Digits, codes: NDArray[np.uint8]) -> Numbers:
    """100 queries of each class against the rest, by Hamming distance, ties as they fall on average.

    P@r2 counts an empty ball as 0, as the paper does.
    """
    draw = np.random.default_rng(digits.seed)
    query = np.concatenate(
        [draw.permutation(np.flatnonzero(digits.labels == digit))[:QUERIES] for digit in range(10)]
    )
    gallery = np.setdiff1d(np.arange(len(codes)), query)
    each = np.array(list(_of_queries(codes, digits.labels, query, gallery)))
    return dict(zip(MEASURES["hash"], each.mean(0).tolist(), strict=True))


def _of_queries(
    codes: NDArray[np.uint8], labels: NDArray[np.int64], query: NDArray[np.int64], gallery: NDArray[np.int64]
) -> Iterator[tuple[float, float, float]]:
    for part in np.array_split(query, 20):  # A block of distances at a time.
        distances = hamming_distances(codes[part], codes[gallery])
        relevant = labels[part, None] == labels[gallery]
        near = distances <= RADIUS
        ball = (near & relevant).sum(1) / np.maximum(near.sum(1), 1)
        top = precision_at_k(distances, relevant, NEAREST)
        yield from zip(average_precision(distances, relevant), top, ball, strict=True)


def pca_codes(digits: Digits) -> Numbers:
    """Signs of the leading principal components: the floor that hashing without learning sets."""
    x = digits.images.reshape(len(digits.images), -1).astype(np.float32)
    projected = PCA(BITS, svd_solver="covariance_eigh").fit_transform(x)
    return retrieved(digits, np.packbits(projected > 0, axis=1))


def imsat_hash(name: str, **changes: Any) -> Callable[[Digits], Numbers]:
    def run(digits: Digits) -> Numbers:
        model = IMSATHash(n_bits=BITS, **digits.options(name, HASH_EPOCHS) | changes)
        return retrieved(digits, model.fit(digits.images, distances=digits.known).pack(digits.images))

    return run


METHODS: dict[str, tuple[str, Callable[[Digits], Numbers]]] = {
    "k-means": ("cluster", k_means),
    "linear-RIM": ("cluster", imsat("linear-RIM", hidden=(), augmentations=())),
    "deep-RIM": ("cluster", imsat("deep-RIM", augmentations=())),
    "IMSAT-RPT": ("cluster", imsat("IMSAT-RPT", augmentations=("rpt",))),
    "IMSAT-VAT": ("cluster", imsat("IMSAT-VAT")),
    "IMSAT-affine": ("cluster", imsat("IMSAT-affine", augmentations=("affine",))),
    "IMSAT-VAT-affine": ("cluster", imsat("IMSAT-VAT-affine", augmentations=("vat", "affine"))),
    "joint-k-means": ("cluster", joint_k_means),
    "joint-IMSAT": ("cluster", joint_imsat),
    "hash-PCA": ("hash", pca_codes),
    "hash-RIM": ("hash", imsat_hash("hash-RIM", augmentations=())),
    "hash-VAT": ("hash", imsat_hash("hash-VAT")),
}


# The experiment


class Row(NamedTuple):
    """What one method yields with one seed; nan is not measured."""

    method: str
    seed: int
    seconds: float
    """Of the CPU."""
    accuracy: float = nan
    nmi: float = nan
    map: float = nan
    precision_500: float = nan
    precision_r2: float = nan


def run(
    only: tuple[str, ...] = (),
    seeds: tuple[int, ...] = (0,),
    epochs: int | None = None,
    root: str | None = None,
    images: str | None = None,
    out: str = "runs/imsat",
    device: str | None = None,
    tracking: bool = True,
) -> None:
    """Measure IMSAT.

    Args:
        only: methods, all without it: k-means, linear-RIM, deep-RIM, IMSAT-RPT, IMSAT-VAT, IMSAT-affine,
            IMSAT-VAT-affine, joint-k-means, joint-IMSAT, hash-PCA, hash-RIM, hash-VAT
        seeds: of the trainings and the queries
        epochs: of every training, in place of the defaults
        root: folder with the full set; the committed sample without it
        images: a .npz of other images, uint8 x, and their kinds y, to cluster in place of digits
        out: folder of the results
        device: cpu or cuda
        tracking: report to MLflow
    """
    folder, console = Path(out), Console()
    if unknown := set(only) - set(METHODS):
        raise InputError(f"only={sorted(unknown)} are unknown: choose from {', '.join(METHODS)}")
    if not seeds or min(seeds) < 0:
        raise InputError(f"seeds={list(seeds)} are out of range: give at least one, each >= 0")
    if epochs is not None and epochs < 1:
        raise InputError(f"epochs={epochs} is out of range: it must be >= 1")
    if images is not None and root is not None:
        raise InputError(f"root={root!r} and images={images!r} are two sets: give one of them")
    wanted = only or [name for name, (kind, _) in METHODS.items() if images is None or kind == "cluster"]
    if images is not None and (hashes := [name for name in wanted if METHODS[name][0] == "hash"]):
        raise InputError(f"only={hashes} make hash codes, which are measured on digits: leave images out")
    claim(
        folder, {"full_set": root is not None, "epochs": epochs or 0} | ({"images": images} if images else {})
    )
    rows = read_rows(folder / "rows.csv", Row)
    params = {"only": only, "seeds": seeds, "epochs": epochs, "full_set": root is not None}
    with Tracker("imsat", run_name="imsat", params=params, directory=folder, enabled=tracking) as tracker:
        for seed in seeds:
            digits = Digits(root, seed, epochs, folder, device, images)
            for name in wanted:
                if (name, seed) not in {row[:2] for row in rows}:
                    console.print(f"{name}, seed {seed}", highlight=False)
                    rows.append(measure(digits, name))
                    write_rows(folder / "rows.csv", Row, rows)
                    numbers = {f"{name}/{key}": getattr(rows[-1], key) for key in MEASURES[METHODS[name][0]]}
                    tracker.metrics(numbers, step=seed)
        made = [*sheets(rows, digits), *([check(digits)] if digits.published else [])]
        for sheet in made:
            console.print(as_rich(sheet))
        tracker.text(as_markdown(made), "table.md")
        if picture := clusters_figure(digits):
            tracker.figure(picture, "clusters.png")
    console.print(f"kept in {folder}", highlight=False)


def measure(digits: Digits, name: str) -> Row:
    _, method = METHODS[name]
    if "joint" in name:
        _ = digits.joint  # Outside of the time, as are the distances.
    elif name.startswith(("IMSAT", "deep", "linear", "hash")):
        _ = digits.distances
    begin = time.process_time()
    numbers = method(digits)
    return Row(name, digits.seed, round(time.process_time() - begin, 1), **numbers)


def sheets(rows: list[Row], digits: Digits) -> list[Sheet]:
    """Clusters and codes: mean and standard deviation of the seeds, the published figure, the target."""
    made = []
    for kind, measures in MEASURES.items():
        lines = []
        for name in [name for name, (of, _) in METHODS.items() if of == kind]:
            here = [row for row in rows if row.method == name]
            if here:
                cells = []
                for key in measures:
                    cells += [
                        spread([getattr(row, key) for row in here]),
                        PUBLISHED.get(name, {}).get(key, "") if digits.published else "",
                    ]
                seconds = f"{np.mean([row.seconds for row in here]):.0f}"
                lines.append([name, *cells, target(name, here, digits.full), str(len(here)), seconds])
        head = ["method"]
        for title in measures.values():
            head += [title, "published"]
        note = f"{len(digits.images):,} images; seconds of the CPU, without features and neighbours"
        made.append(Sheet(kind, [*head, "target", "seeds", "seconds"], lines, note))
    return [sheet for sheet in made if sheet.lines]


def target(name: str, rows: list[Row], full: bool) -> str:
    found = [(key, value) for (method, key), value in TARGETS.items() if method == name]
    if not found or not full:
        return ""
    key, value = found[0]
    met = np.mean([getattr(row, key) for row in rows]) >= value
    return f"≥ {value:.2f}: {'met' if met else 'missed'}"


def check(digits: Digits) -> Sheet:
    """Whether the distances are those that the authors released."""
    lines = []
    for t, values in digits.distances.items():
        numbers = (values.mean(), values.min(), np.median(values), values.max())
        lines.append([f"{t}th neighbour", *(f"{number:.3f}" for number in numbers)])
    lines.append(["authors' file (70,000)", *(f"{value:.3f}" for value in NEIGHBOURS.values())])
    return Sheet("distances", ["", *NEIGHBOURS], lines, "pixels / 128 - 1")


def clusters_figure(digits: Digits) -> Figure | None:
    """A row of images, drawn at random, for each cluster; those of another digit than most are framed."""
    path = digits.out / f"IMSAT-VAT-seed{digits.seed}.npz"
    if not path.exists() or digits.kinds > SHOWN:
        return None
    with np.load(path) as arrays:
        found = arrays["labels"]
    draw, rows, captions, framed = np.random.default_rng(0), {}, {}, {}
    counts = [np.bincount(digits.labels[found == k], minlength=digits.kinds) for k in range(digits.kinds)]
    for k in sorted(range(digits.kinds), key=lambda k: int(counts[k].argmax())):
        members = np.flatnonzero(found == k)
        if len(members):
            title, some = f"cluster {k}", draw.permutation(members)[:SHOWN]
            rows[title] = digits.images[some, None]
            captions[title] = f"{counts[k].max() / len(members):.1%} {counts[k].argmax()}s"
            framed[title] = digits.labels[some] != counts[k].argmax()
    accuracy = clustering_accuracy(digits.labels, found)
    note = (
        f"IMSAT (VAT), {len(found):,} images without labels: accuracy {accuracy:.3f}. Framed: another kind."
    )
    return generation_figure(rows, captions, framed, columns=SHOWN, note=note)


def main() -> int:
    return exit_status(lambda: auto_cli(run))


if __name__ == "__main__":
    sys.exit(main())
