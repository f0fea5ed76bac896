"""How much faster the incremental sampler is than the whole network at every position.

    python -m pipelines.benchmark_sampling [--images 128] [--device cuda]

Prints, for 7x7 and 16x16 grids, the seconds of both samplers, their ratio and images per minute of
the fast one. The slow one is flattered: only its forward passes count, in float32, one per position,
without drawing the codes; the fast one is timed whole, in the float64 it works in.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial

import torch

from rvqvae.config import PriorConfig
from rvqvae.priors import GatedPixelCNN


def seconds(job: Callable[[], object], device: torch.device, repeats: int) -> float:
    """The shortest wall-clock time of ``job`` in ``repeats`` runs, after one run to warm up."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        job()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    return min(times[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--codes", type=int, default=256)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    device = torch.device(options.device)
    torch.manual_seed(0)
    model = GatedPixelCNN(options.codes, PriorConfig()).eval().to(device)
    print(
        f"{options.images} images, {options.codes} codes, {model.config}, {torch.get_num_threads()} threads"
    )
    for side in (7, 16):
        codes = torch.zeros(options.images, side, side, dtype=torch.int64, device=device)
        fast = seconds(partial(model.sample, len(codes), (side, side), seed=0), device, 3)
        with torch.no_grad():
            slow = seconds(partial(model, codes), device, 3) * side * side
        print(
            f"{side}x{side}: slow {slow:.2f} s, fast {fast:.2f} s, ratio {slow / fast:.1f}, "
            f"{60 * options.images / fast:,.0f} images/min"
        )


if __name__ == "__main__":
    main()
