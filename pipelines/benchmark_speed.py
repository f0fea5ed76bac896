"""How long everything takes, each beside the ready alternative or the aim, in one run.

    uv run --group peers python -m pipelines.benchmark_speed    # all, in tens of minutes
    python -m pipelines.benchmark_speed --only cleaning --folder PHOTOS    # of your own images
    python -m pipelines.benchmark_speed --only sampling --rounds 5

Without the group of peers, what they are compared with is left out. Both sides of a ratio take turns, and are
timed in CPU seconds, so that a busy machine changes neither much; a ratio is the median over the turns.

- cleaning: the command line, beside CleanVision and PyOD (`pipelines.benchmark_clean`).
- training: with all that it does by default (perceptual loss, evidence, sets, dead codes, records), and doing
  the same work as pythae's VQVAE; error: time to equal reconstructions (`pipelines.benchmark_training`).
- quantiser: forward and backward of both codebooks by the function that training calls (`quantize_by_set`:
  nearest codewords, moving averages, straight-through, commitment), against vector-quantize-pytorch's
  VectorQuantize (moving averages, commitment, otherwise its defaults), 512 codes of 64 each, on
  128 x 49 x 64 values.
- sampling: the incremental sampler against the network at every position, of which only the forward passes
  count, in float32; and images of 28 x 28 per minute, drawn, decoded and as uint8.
- answers: about groups, in Python and on the page (`pipelines.benchmark_answers`); the aim is .3 seconds
  each, 5 for a million samples.
- experiment: `pipelines.robust_generation` as it is run by default.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.util import find_spec
from tempfile import TemporaryDirectory
from typing import Literal, get_args

import numpy as np
import torch
from jsonargparse import auto_cli
from rich.console import Console
from rich.table import Table

from pipelines.benchmark_answers import answers
from pipelines.benchmark_clean import cleaning
from pipelines.benchmark_training import error, training
from pipelines.common.command import exit_status
from pipelines.common.timing import Line, compare, cost_of, rate
from rvqvae.config import ModelConfig, PriorConfig
from rvqvae.errors import InputError
from rvqvae.priors import GatedPixelCNN
from rvqvae.vqvae.codebook import Codebook, quantize_by_set, straight_through
from rvqvae.vqvae.inference import decode_codes
from rvqvae.vqvae.model import TwoCodebookVQVAE

Part = Literal["cleaning", "training", "error", "quantiser", "sampling", "answers", "experiment"]


def experiment() -> Iterator[Line]:
    with TemporaryDirectory() as folder:
        job = [sys.executable, "-m", "pipelines.robust_generation", "--out", folder, "--tracking", "false"]
        took = cost_of(job).cpu
    yield Line("the main experiment", "the aim", "CPU s", took, 300, 300 / took, 1)


def quantiser(rounds: int, codes: int = 512, dim: int = 64) -> Iterator[Line]:
    if not find_spec("vector_quantize_pytorch"):
        return
    from vector_quantize_pytorch import VectorQuantize

    config = ModelConfig(code_dim=dim)
    generator = torch.Generator().manual_seed(0)
    data = torch.randn(128, 49, dim, generator=generator)
    inliers, outliers = Codebook(codes, config), Codebook(codes, config)
    for book in (inliers, outliers):
        book.kmeans_init(data.flatten(0, 1), generator)
    is_outlier = (torch.arange(len(data)) % 10 < 3).repeat_interleave(data.shape[1])
    peer = VectorQuantize(dim, codes, decay=config.decay, commitment_weight=config.commitment)
    repeats = 10

    def ours() -> float:
        for _ in range(repeats):
            x = data.clone().requires_grad_()
            z = x.flatten(0, 1)
            found = quantize_by_set(inliers, outliers, z, is_outlier)
            commitment = (z - found.vectors.detach()).square().mean()
            (straight_through(z, found.vectors).mean() + config.commitment * commitment).backward()
        return repeats

    def theirs() -> float:
        for _ in range(repeats):
            x = data.clone().requires_grad_()
            quantized, _, loss = peer(x)
            (quantized.mean() + loss.sum()).backward()
        return repeats

    unit = "batches/s"
    yield compare("both codebooks", "one VectorQuantize, default", unit, ours, theirs, 2.0, 2 * rounds)
    peer = VectorQuantize(
        dim, codes, decay=config.decay, commitment_weight=config.commitment, rotation_trick=False
    )
    yield compare("both codebooks", "the same, straight-through", unit, ours, theirs, 2.0, 2 * rounds)


def sampling(rounds: int, images: int = 128) -> Iterator[Line]:
    torch.manual_seed(0)
    config = ModelConfig()
    prior = GatedPixelCNN(config.inlier_codes, PriorConfig()).eval()
    for side, aim in ((7, 8.0), (16, 20.0)):
        codes = torch.zeros(images, side, side, dtype=torch.int64)

        def ours(side: int = side) -> float:
            return len(prior.sample(images, (side, side), seed=0))

        def theirs(codes: torch.Tensor = codes) -> float:
            """One pass stands for all, which are equal."""
            with torch.no_grad():
                prior(codes)
            return len(codes) / codes[0].numel()

        title = f"sampling {side} x {side} grids"
        yield compare(title, "the network per position", "grids/s", ours, theirs, aim, rounds)
    model = TwoCodebookVQVAE((1, 28, 28), config).eval()

    def end_to_end() -> float:
        return len(decode_codes(model, prior.sample(8 * images, model.grid, seed=0))) * 60

    speed = float(np.median([rate(end_to_end) for _ in range(rounds + 1)][1:]))
    yield Line("sampling 28 x 28 images", "the aim", "images/min", speed, 2000, speed / 2000, 1.0)


def benchmark_speed(
    only: Part | None = None,
    rounds: int = 3,
    folder: str | None = None,
    total: int = 5000,
    root: str | None = None,
) -> None:
    """Measure, and print a table.

    Args:
        only: one of the parts
        rounds: turns of each comparison
        folder: images to clean; digits with 20 % clothes without it
        total: digits to clean
        root: folder with the full sets; the committed samples without it
    """
    if rounds < 1:
        raise InputError(f"rounds={rounds} is out of range: it must be >= 1")
    parts: dict[Part, Iterator[Line]] = {
        "cleaning": cleaning(folder, total, root),
        "training": training(rounds),
        "error": error(),
        "quantiser": quantiser(rounds),
        "sampling": sampling(rounds),
        "answers": answers(rounds),
        "experiment": experiment(),
    }
    table, console = Table("", "beside", "unit", "ours", "theirs", "ratio", "aim"), Console()
    for name in [only] if only else get_args(Part):
        console.print(f"{name} ...", highlight=False)
        for line in parts[name]:
            amounts = (f"{value:,.0f}" if value >= 100 else f"{value:.3g}" for value in line[3:5])
            table.add_row(*line[:3], *amounts, f"{line.ratio:.2f}", f">= {line.aim:g}")
    console.print(f"{torch.get_num_threads()} threads, torch {torch.__version__}", highlight=False)
    console.print(table)
    for library in ("cleanvision", "pyod", "pythae", "vector_quantize_pytorch"):
        if not find_spec(library):
            console.print(f"{library} is not installed, so it is left out: uv sync --group peers")


if __name__ == "__main__":
    sys.exit(exit_status(lambda: auto_cli(benchmark_speed)))
