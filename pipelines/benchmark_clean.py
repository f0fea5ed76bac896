"""How long cleaning and scoring take, beside detectors on the same images, in one run.

    python -m pipelines.benchmark_clean                       # 5,000 images of the committed samples
    python -m pipelines.benchmark_clean --total 10000 --root ROOT

Digits with 20 % clothes are written as PNG files. `clean` reads them, fits, and writes
everything that it writes for a user, report and model with prior included; the detectors are given
the decoded pixels.
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

from jsonargparse import auto_cli
from PIL import Image
from rich.console import Console
from rich.table import Table
from sklearn.metrics import roc_auc_score

from pipelines.common import peers
from pipelines.common.pairs import draw
from rvqvae.commands.clean import clean
from rvqvae.commands.options import FitOptions
from rvqvae.commands.score import score
from rvqvae.errors import InputError
from rvqvae.io.manifest import read_manifest

OTHERS = ("IForest-pixels", "AutoEncoder")


def benchmark(total: int = 5000, root: str | None = None, seed: int = 0) -> None:
    """Print seconds, images per second and AUROC.

    Args:
        total: images
        root: folder with the full sets; the committed samples without it
        seed: of the draw and the methods
    """
    peers.require(OTHERS)
    drawn = draw("mnist/fashion_mnist", 0.2, seed, total, root)
    table = Table("", "seconds", "images/s", "AUROC", title=f"{len(drawn.images):,} images of 28 x 28")

    def row(name: str, seconds: float, auroc: float | None = None) -> None:
        shown = "" if auroc is None else f"{auroc:.3f}"
        table.add_row(name, f"{seconds:.1f}", f"{len(drawn.images) / seconds:,.0f}", shown)

    with TemporaryDirectory() as scratch:
        folder = Path(scratch) / "images"
        folder.mkdir()
        for i, image in enumerate(drawn.images):
            Image.fromarray(image[0]).save(folder / f"{i:06d}.png")
        begin = perf_counter()
        clean(folder, Path(scratch) / "cleaned", FitOptions(seed=seed))
        took = perf_counter() - begin
        rows = read_manifest(Path(scratch) / "cleaned" / "manifest.csv")
        # Equal files count once: the others have no score.
        scored = [i for i, found in enumerate(rows) if found.status == "ok"]
        row(
            "rvqvae clean", took,
            roc_auc_score(drawn.is_outlier[scored], [-rows[i].score for i in scored]),
        )  # fmt: skip
        begin = perf_counter()
        score(Path(scratch) / "cleaned" / "model", folder, Path(scratch) / "scores.csv")
        row("rvqvae score", perf_counter() - begin)
    for name in OTHERS:
        begin = perf_counter()
        found = peers.score(name, peers.view_of(drawn.images, peers.PEERS[name].view, seed), seed)
        row(f"{name}, fit and score", perf_counter() - begin, roc_auc_score(drawn.is_outlier, -found))
    Console().print(table)


if __name__ == "__main__":
    try:
        auto_cli(benchmark)
    except InputError as error:
        sys.exit(f"error: {error}")
