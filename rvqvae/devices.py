"""Where networks can run."""

from __future__ import annotations

import copy
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
        reason = str(error).splitlines()[0]
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
