"""How long a search of product codes takes, beside faiss."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.common.tables import Sheet
from rvqvae.atomic import write_atomically
from rvqvae.metrics import neighbor_recall
from rvqvae.retrieval import ProductIndex


def times(path: Path, n: int, dim: int = 64, asked: int = 100, k: int = 100, repeats: int = 5) -> Sheet:
    """Search of ``n`` codes of 8 bytes by faiss's IndexPQ and by `ProductIndex`, on one thread.

    Each learns its own codebooks; the best of ``repeats`` interleaved searches counts. Recall: of the true 10
    nearest, among the ``k`` found.
    """
    if not path.exists():
        write_atomically(path, json.dumps(_measure_times(n, dim, asked, k, repeats)).encode())
    seconds, recall = json.loads(path.read_text(encoding="utf-8"))
    lines = [[name, f"{1000 * seconds[name]:.1f}", f"{recall[name]:.4f}"] for name in seconds]
    ratio = seconds["ProductIndex"] / seconds["faiss IndexPQ"]
    return Sheet(
        f"search of {n:,} codes of 8 bytes",
        ["index", f"ms for {asked} queries, {k} nearest", f"recall of 10 among {k}"],
        lines,
        f"ratio of the times {ratio:.2f}, target at most 2: {'met' if ratio <= 2 else 'MISSED'}",
    )


def _measure_times(n: int, dim: int, asked: int, k: int, repeats: int) -> list[dict[str, float]]:
    import faiss

    rng = np.random.default_rng(0)
    # Of few dimensions, as features are: in 64 independent ones all points are about equally far.
    mix = rng.normal(size=(16, dim)).astype(np.float32)
    x, q = (
        rng.normal(size=(m, 16)).astype(np.float32) @ mix + 0.3 * rng.normal(size=(m, dim)).astype(np.float32)
        for m in (n, asked)
    )
    faiss.omp_set_num_threads(1)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        exact = faiss.IndexFlatL2(dim)
        exact.add(x)
        true = exact.search(q, 10)[1]
        theirs = faiss.IndexPQ(dim, 8, 8)
        few = x[: min(n, 64 * 256)]
        theirs.train(few)
        theirs.add(x)
        ours = ProductIndex(8, random_state=0).fit(few).add(x)
        searches: dict[str, Callable[[], NDArray[np.int64]]] = {
            "faiss IndexPQ": lambda: theirs.search(q, k)[1],
            "ProductIndex": lambda: ours.kneighbors(q, k, return_distance=False),
        }
        recall = {name: neighbor_recall(search(), true) for name, search in searches.items()}
        best = dict.fromkeys(searches, np.inf)
        for _ in range(repeats):
            for name, search in searches.items():
                begin = perf_counter()
                search()
                best[name] = min(best[name], perf_counter() - begin)
    finally:
        torch.set_num_threads(threads)
    return [best, recall]
