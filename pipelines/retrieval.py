"""Do codes learned with their network find more of the same kind than those made from pixels?

    python -m pipelines.retrieval                                      # the committed samples
    uv run --group peers python -m pipelines.retrieval --root ROOT     # full MNIST, beside faiss
    … --root ROOT --learn 12000 --epochs 20                            # about 2 minutes for each code

Compared at equal bits for each image: PQ-VAE; PQ and OPQ of faiss (development group `peers`; left out, with
a line that says so, where it is not installed); ITQ (Gong and Lazebnik 2011), below. One protocol: so many
queries of each class, all other images are the gallery, every method learns from the same images of the
gallery. Product codes are compared by asymmetric distances (the query is not quantised), and PQ-VAE's also by
symmetric ones, as in its paper; ITQ's bits by Hamming distance. Two
rows of vectors that are not quantised, PQ-VAE's encodings and the pixels, say what the codes lose. Of equally
near images every order counts alike. Labels choose the queries and serve the measures, nothing else.

Then, with faiss: the time to search many codes of 8 bytes, beside its IndexPQ on one thread. The same
command continues a run that was cut short.
"""

from __future__ import annotations

import importlib.util
import io
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import process_time
from typing import Any, NamedTuple

import numpy as np
from jsonargparse import auto_cli
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.console import Console
from sklearn.decomposition import PCA

from data.recipes import load
from pipelines.common.command import exit_status
from pipelines.common.search_times import times
from pipelines.common.store import claim, read_rows, write_rows
from pipelines.common.tables import Sheet, as_markdown, as_rich, spread
from rvqvae.atomic import write_atomically
from rvqvae.errors import InputError
from rvqvae.family import PQVAE
from rvqvae.figures import generation_figure
from rvqvae.metrics import average_precision, precision_at_k, recall_at_k
from rvqvae.retrieval import ProductIndex
from rvqvae.tracking.runs import Tracker

Vectors = NDArray[np.float32]
Distances = Callable[[slice], NDArray[np.generic]]
"""From some of the queries to their distances (Q, N) to the gallery."""
NEAR, FAR = 100, 1000
"""Images among which precision and recall are counted."""
AT_ONCE = 100
"""Queries whose distances are held at a time."""
OPQ_WIDTH, ITERATIONS = 64, 50
"""Dimensions that OPQ rotates the pixels to; rotations that ITQ tries, as in its paper."""
SHOWN, COLUMNS = 6, 14
"""Queries and images in a row of the picture."""
WIDTH = 120
PUBLISHED = {("ITQ", 16): "0.412", ("ITQ", 32): "0.438", ("ITQ", 64): "0.454"}
"""mAP on MNIST as the literature on hashing quotes it, from memory; of PQ-VAE's tables no text was found."""


class Split(NamedTuple):
    """Images uint8 (n, 28, 28) and labels (n,)."""

    queries: NDArray[np.uint8]
    query_labels: NDArray[np.int64]
    gallery: NDArray[np.uint8]
    labels: NDArray[np.int64]
    learn: NDArray[np.int64]
    """Rows of the gallery that the methods learn from."""


class Training(NamedTuple):
    """Of PQ-VAE."""

    epochs: int
    strength: float


class Row(NamedTuple):
    """One method, length and seed."""

    method: str
    bits: int
    seed: int
    map: float
    precision: float
    """Among the NEAR nearest."""
    recall: float
    """Of a query's class among the FAR nearest."""
    seconds: float
    """Of the CPU, for learning and encoding the gallery."""


def retrieval(
    data: str = "mnist",
    bits: tuple[int, ...] = (16, 32, 64),
    seeds: tuple[int, ...] = (0,),
    queries: int = 100,
    learn: int | None = None,
    epochs: int = 50,
    strength: float = 3.0,
    codes: int = 1_000_000,
    root: str | None = None,
    out: str = "runs/retrieval",
    tracking: bool = True,
) -> None:
    """Compare the codes, then the time of searching them.

    Args:
        data: mnist or fashion_mnist
        bits: lengths of the codes, multiples of 8
        seeds: of the queries, the images learned from, and the methods
        queries: of each class
        learn: images of the gallery that methods learn from; all by default
        epochs: of PQ-VAE
        strength: of PQ-VAE, its lambda; by default what the authors publish for a soft VQ-VAE on MNIST
        codes: to search for the time; 0 to leave that out
        root: folder with the full set as torchvision stores it; the committed samples without it
        out: folder of the results
        tracking: report to MLflow
    """
    if not bits or any(b < 8 or b % 8 or 64 % (b // 8) for b in bits):
        raise InputError(f"bits={list(bits)} are out of range: give 8, 16, 32, 64 or more of the like")
    for name, value, low in (
        ("queries", queries, 1), ("learn", 256 if learn is None else learn, 256), ("codes", codes, 0),
    ):  # fmt: skip
        if value < low:
            raise InputError(f"{name}={value} is out of range: it must be >= {low}")
    if not seeds or min(seeds) < 0:
        raise InputError(f"seeds={list(seeds)} are out of range: give at least one, each >= 0")
    folder, console, training = Path(out), Console(), Training(epochs, strength)
    halves = [load(data, root, train) for train in (True, False)]
    images, labels = (np.concatenate(part) for part in zip(*halves, strict=True))
    params: dict[str, Any] = {"data": data, "full_set": root is not None, "queries": queries, "learn": learn}
    claim(folder, params | training._asdict())
    faiss = importlib.util.find_spec("faiss") is not None
    if not faiss:
        console.print("faiss is not installed (uv sync --group peers): PQ, OPQ and the times are left out")
    rows = read_rows(folder / "rows.csv", Row)
    with Tracker("retrieval", run_name=data, params=params, directory=folder, enabled=tracking) as run:
        for seed in seeds:
            split = split_of(images, labels, queries, learn, seed)
            for length in bits:
                done = {row.method for row in rows if (row.bits, row.seed) == (length, seed)}
                for name, method in METHODS.items():
                    if name in done or (name in OF_FAISS and not faiss):
                        continue
                    console.print(f"{name}, {length} bits, seed {seed}")
                    begin = process_time()
                    found = method(split, length, seed, training)
                    seconds = round(process_time() - begin, 1)
                    for kind, distances in found.items():
                        rows.append(Row(kind, length, seed, *measure(split, distances), seconds))
                        run.metrics({f"{kind}/{length}/mAP": rows[-1].map}, step=seed)
                    keep(folder, (name, length, seed), split, found[name])
                    write_rows(folder / "rows.csv", Row, rows)
        sheets = [table([r for r in rows if r.seed in seeds and r.bits in bits], note_of(images, params))]
        if faiss and codes:
            sheets.append(times(folder / f"times-{codes}.json", codes))
        console.width = max(console.width, WIDTH)
        for sheet in sheets:
            console.print(as_rich(sheet))
        run.text(as_markdown(sheets), "table.md")
        run.artifact(folder / "rows.csv")
        shown = [
            name
            for name in METHODS
            if name not in UNQUANTISED and kept(folder, (name, length_shown(bits), seeds[0])).exists()
        ]
        run.figure(picture(folder, shown, length_shown(bits), seeds[0]), "retrieval.png")
    console.print(f"kept in {folder}", highlight=False)


def split_of(
    images: NDArray[np.uint8], labels: NDArray[np.int64], queries: int, learn: int | None, seed: int
) -> Split:
    """``queries`` of each class drawn at random, and the rest."""
    rng = np.random.default_rng(seed)
    least = int(np.bincount(labels).min())
    if queries >= least:
        raise InputError(f"queries={queries} leave no gallery: the smallest class has {least} images")
    asked = np.concatenate(
        [rng.choice(np.flatnonzero(labels == c), queries, replace=False) for c in np.unique(labels)]
    )
    rest = np.setdiff1d(np.arange(len(images)), asked)
    if learn is not None and learn > len(rest):
        raise InputError(f"learn={learn} is more than the gallery's {len(rest)} images: give at most so many")
    few = np.arange(len(rest)) if learn is None else np.sort(rng.choice(len(rest), learn, replace=False))
    return Split(images[asked], labels[asked], images[rest], labels[rest], few)


# Methods


def pq_vae(split: Split, bits: int, seed: int, training: Training) -> dict[str, Distances]:
    model = PQVAE(n_codebooks=bits // 8, random_state=seed, **training._asdict())
    model.fit(split.gallery[split.learn])
    gallery, asked = model.encode(split.gallery), model.encode(split.queries)
    index = model.index().add(gallery)
    return {
        "PQ-VAE": lambda part: index.distances(asked[part]),
        "PQ-VAE, symmetric": lambda part: index.distances(asked[part], "symmetric"),
        "PQ-VAE's encodings": exact(gallery, asked),
    }


def pq(split: Split, bits: int, seed: int, training: Training) -> dict[str, Distances]:
    return {"PQ": product_codes(*pixels(split), split.learn, bits // 8, seed)}


def opq(split: Split, bits: int, seed: int, training: Training) -> dict[str, Distances]:
    import faiss

    gallery, asked = pixels(split)
    rotation = faiss.OPQMatrix(gallery.shape[1], bits // 8, OPQ_WIDTH)
    rotation.pq = inner = faiss.ProductQuantizer(OPQ_WIDTH, bits // 8, 8)
    inner.cp.seed, inner.cp.min_points_per_centroid = seed, 1
    rotation.train(gallery[split.learn])
    return {
        "OPQ": product_codes(rotation.apply(gallery), rotation.apply(asked), split.learn, bits // 8, seed)
    }


def product_codes(
    gallery: Vectors, asked: Vectors, learn: NDArray[np.int64], codebooks: int, seed: int
) -> Distances:
    """By faiss's codebooks, which our index then searches."""
    import faiss

    quantizer = faiss.ProductQuantizer(gallery.shape[1], codebooks, 8)
    quantizer.cp.seed, quantizer.cp.min_points_per_centroid = seed, 1
    quantizer.train(np.ascontiguousarray(gallery[learn]))
    words = faiss.vector_to_array(quantizer.centroids).reshape(codebooks, 256, -1)
    index = ProductIndex.from_codebooks(words).add(gallery)
    return lambda part: index.distances(asked[part])


def itq(split: Split, bits: int, seed: int, training: Training) -> dict[str, Distances]:
    """Signs of leading principal components, rotated so that little is lost by keeping signs alone."""
    gallery, asked = pixels(split)
    space = PCA(bits, svd_solver="covariance_eigh").fit(gallery[split.learn])
    z = space.transform(gallery[split.learn])
    rotation = np.linalg.qr(np.random.default_rng(seed).normal(size=(bits, bits)))[0].astype(np.float32)
    for _ in range(ITERATIONS):
        u, _, vt = np.linalg.svd(np.sign(z @ rotation).T @ z)
        rotation = (u @ vt).T
    one, other = (
        np.where(space.transform(x) @ rotation > 0, 1, -1).astype(np.float32) for x in (asked, gallery)
    )
    return {"ITQ": lambda part: (bits - one[part] @ other.T) / 2}


def all_pixels(split: Split, bits: int, seed: int, training: Training) -> dict[str, Distances]:
    """What PQ, OPQ and ITQ would find if codes lost nothing, whatever ``bits``."""
    return {"pixels": exact(*pixels(split))}


def exact(gallery: Vectors, asked: Vectors) -> Distances:
    """Squared Euclidean distances, but for a term that all of a query's have in common."""
    squares = np.square(gallery).sum(1)
    return lambda part: squares - 2 * asked[part] @ gallery.T


METHODS = {"PQ-VAE": pq_vae, "PQ": pq, "OPQ": opq, "ITQ": itq, "pixels": all_pixels}
OF_FAISS = ("PQ", "OPQ")
UNQUANTISED = ("PQ-VAE's encodings", "pixels")
"""No codes, and so of no length: what codes are compared with, but no rivals."""


def pixels(split: Split) -> tuple[Vectors, Vectors]:
    """Of gallery and queries, (n, 784) in [0, 1]."""
    gallery, asked = (
        (x.reshape(len(x), -1) / 255).astype(np.float32) for x in (split.gallery, split.queries)
    )
    return gallery, asked


# Measures


def measure(split: Split, distances: Distances) -> tuple[float, float, float]:
    """mAP, precision at NEAR and recall at FAR."""
    parts = []
    for begin in range(0, len(split.queries), AT_ONCE):
        part = slice(begin, begin + AT_ONCE)
        near, relevant = distances(part), split.query_labels[part, None] == split.labels
        few = [min(k, near.shape[1]) for k in (NEAR, FAR)]
        parts.append(
            [
                average_precision(near, relevant),
                precision_at_k(near, relevant, few[0]),
                recall_at_k(near, relevant, few[1]),
            ]
        )
    mean, precision, recall = (float(np.concatenate(of).mean()) for of in zip(*parts, strict=True))
    return mean, precision, recall


# What is reported


def table(rows: Sequence[Row], note: str) -> Sheet:
    """A line for each method and length: mean and standard deviation of the seeds; then the targets."""
    head = [
        "method",
        "bits",
        "mAP",
        "published",
        f"precision@{NEAR}",
        f"recall@{FAR}",
        "CPU seconds",
        "seeds",
    ]
    lines, mean = [], {}
    order = ["PQ-VAE", "PQ-VAE, symmetric", UNQUANTISED[0], *METHODS]
    for bits, method in sorted({(r.bits, r.method) for r in rows}, key=lambda k: (k[0], order.index(k[1]))):
        here = [row for row in rows if (row.method, row.bits) == (method, bits)]
        mean[method, bits] = float(np.mean([row.map for row in here]))
        lines.append(
            [method, str(bits), spread([row.map for row in here]), PUBLISHED.get((method, bits), "")]
            + [spread([getattr(row, key) for row in here]) for key in ("precision", "recall")]
            + [f"{np.mean([row.seconds for row in here]):.0f}", str(len(here))]
        )
    return Sheet("mean average precision", head, lines, f"{note}{verdict(mean)}")


def verdict(mean: dict[tuple[str, int], float]) -> str:
    """Whether PQ-VAE is above the others at 32 bits."""
    own = mean.get(("PQ-VAE", 32))
    rivals = set(METHODS) - {"PQ-VAE", *UNQUANTISED}
    others = {name: value for (name, bits), value in mean.items() if bits == 32 and name in rivals}
    if own is None or not others:
        return ""
    words = [
        f"{'above' if own > value else 'NOT above'} {name} {value:.3f}" for name, value in others.items()
    ]
    return f"; target at 32 bits: PQ-VAE {own:.3f} is {', '.join(words)}"


def note_of(images: NDArray[np.uint8], params: dict[str, Any]) -> str:
    learn = "the gallery" if params["learn"] is None else f"{params['learn']:,} images of the gallery"
    return f"{params['queries']} queries of each class among {len(images):,} images, learned from {learn}"


def length_shown(bits: Sequence[int]) -> int:
    return 32 if 32 in bits else bits[0]


def keep(folder: Path, key: tuple[str, int, int], split: Split, distances: Distances) -> None:
    """The images nearest to some queries, for the picture: of different classes."""
    order = np.argsort(split.query_labels, kind="stable")
    chosen = order[:: max(1, len(order) // SHOWN)][:SHOWN]
    near = np.concatenate([distances(slice(q, q + 1)) for q in chosen])
    nearest = np.argsort(near, 1, kind="stable")[:, : COLUMNS - 2]
    content = io.BytesIO()
    np.savez_compressed(
        content, queries=split.queries[chosen], nearest=split.gallery[nearest],
        wrong=split.labels[nearest] != split.query_labels[chosen, None],
    )  # fmt: skip
    write_atomically(kept(folder, key), content.getvalue())


def kept(folder: Path, key: tuple[str, int, int]) -> Path:
    method, bits, seed = key
    return folder / "arrays" / f"{method}-{bits}-seed{seed}.npz"


def picture(folder: Path, methods: Sequence[str], bits: int, seed: int) -> Figure:
    """Queries, each followed by what is nearest; framed what is of another class."""
    rows, flagged, captions = {}, {}, {}
    for name in methods:
        with np.load(kept(folder, (name, bits, seed))) as arrays:
            queries, nearest, wrong = (arrays[key] for key in ("queries", "nearest", "wrong"))
        blank = np.full((len(queries), 1, *queries.shape[1:]), 255, np.uint8)
        lines = np.concatenate([queries[:, None], blank, nearest], 1)
        rows[name] = lines.reshape(-1, 1, *queries.shape[1:])
        flagged[name] = np.pad(wrong, ((0, 0), (2, 0))).ravel()
        captions[name] = f"{bits} bits, {(~wrong).mean():.0%} right"
    note = "Left the queries, then the nearest images, nearest first. Framed: of another class."
    return generation_figure(rows, captions, flagged, columns=COLUMNS, note=note)


def main(arguments: list[str] | None = None) -> int:
    return exit_status(lambda: auto_cli(retrieval, args=arguments))


if __name__ == "__main__":
    sys.exit(main())
