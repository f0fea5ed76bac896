"""The one loop that applies a network to the samples of a set."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

AT_ONCE = 4
"""Batches that a CPU works at, at most: more wait for the interpreter's lock, and take memory."""


def map_batches(
    n: int,
    batch_size: int,
    work: Callable[[slice], tuple[Tensor, ...]],
    device: str | torch.device = "cpu",
) -> tuple[Tensor, ...]:
    """Apply ``work`` to ``n`` samples, ``batch_size`` at a time; return its tensors (n, ...) on the CPU.

    ``work`` takes the rows of a batch and returns tensors with a row for each. It runs in inference mode on
    ``device``. On a CPU threads share out the batches: two take 1.6 times as many a second as torch's own two
    threads within a batch. For ``n`` = 0 it returns ().
    """
    batches = [slice(begin, min(begin + batch_size, n)) for begin in range(0, n, batch_size)]
    threads = torch.get_num_threads()
    at_once = min(threads, AT_ONCE) if torch.device(device).type == "cpu" else 1
    pool = ThreadPoolExecutor(at_once, "batches", torch.set_num_threads, (threads // at_once,))
    whole: tuple[Tensor, ...] = ()
    try:
        for rows, parts in zip(batches, pool.map(torch.inference_mode()(work), batches), strict=True):
            # Allocated once: joining the parts at the end would take twice the memory, and small results
            # kept between large temporary ones fragment it (1.3 GiB for 30,000 images).
            whole = whole or tuple(part.new_empty(n, *part.shape[1:], device="cpu") for part in parts)
            for all_rows, part in zip(whole, parts, strict=True):
                all_rows[rows] = part
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)  # The pool's number would be that of all threads to come.
    return whole
