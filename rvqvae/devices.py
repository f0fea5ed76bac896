"""Where networks can run."""

from __future__ import annotations

import copy
from functools import cache
from typing import TYPE_CHECKING, TypeVar

from rvqvae.errors import InputError

if TYPE_CHECKING:
    from torch import nn

    Network = TypeVar("Network", bound=nn.Module)


def usable_device(device: str | None = None) -> str:
    """``device``, by default "cuda" if there is one, else "cpu"; InputError if it is not there."""
    import torch

    if device is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # The latter where torch is built without CUDA.
        reason = str(error).splitlines()[0].split(". ")[0][:120]  # torch may go on for a page
        raise InputError(f"device={device!r} cannot be used ({reason}): use cpu, or leave it out") from error
    return device


def in_double(network: Network) -> Network:
    """A copy of ``network`` in float64, for evaluation; in float32 on "mps", which has no float64.

    Matrix products in float32 are summed in an order that depends on the shape of the batch and on the
    processor, which moves a result by up to 1e-6 of its size. In float64 that is below 1e-12.
    """
    import torch

    device = next((tensor.device.type for tensor in network.state_dict().values()), "cpu")
    return copy.deepcopy(network).eval().to(torch.float32 if device == "mps" else torch.float64)


@cache
def bfloat16_pays(kind: str) -> bool:
    """Whether training in bfloat16 is faster on devices of ``kind`` ("cpu", "cuda", ...).

    On CPUs it needs matrix tiles (AMX). Of the default networks at 28 x 28 and batches of 64 they train 1.35
    times as many images per second as float32; AVX-512 with bfloat16 .92, AVX-512 alone .43, AVX2 .15.
    """
    import torch

    if kind == "cpu":
        return hasattr(torch.cpu, "get_capabilities") and bool(torch.cpu.get_capabilities().get("amx_bf16"))
    return kind == "cuda"
