"""The one loop that applies a network to the samples of a set."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor


def map_batches(n: int, batch_size: int, work: Callable[[slice], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
    """Apply ``work`` to ``n`` samples, ``batch_size`` at a time; return its tensors (n, ...) on the CPU.

    ``work`` takes the rows of a batch and returns tensors with a row for each. For ``n`` = 0 it returns ().
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
