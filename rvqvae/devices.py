"""Where networks can run."""

from __future__ import annotations

from rvqvae.errors import InputError


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
