"""One loop over the samples of a set for everything that a network makes of them."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor


def map_batches(n: int, batch_size: int, work: Callable[[slice], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """``work`` on ``n`` samples, ``batch_size`` at a time; its tensors whole, by sample, on the CPU.

    ``work`` takes the rows of a batch and returns tensors with one row for each. Empty for ``n`` = 0.
    """
    whole: tuple[Tensor, ...] = ()
    for begin in range(0, n, batch_size):
        rows = slice(begin, min(begin + batch_size, n))
        parts = work(rows)
        # Allocated once: joining the parts at the end would take twice the memory, and small results kept
        # between large temporary ones fragment it (1.3 GiB for 30,000 images).
        whole = whole or tuple(part.new_empty(n, *part.shape[1:], device="cpu") for part in parts)
        for all_rows, part in zip(whole, parts, strict=True):
            all_rows[rows] = part
    return whole
