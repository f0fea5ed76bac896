"""Files that survive a kill: written beside their place, then renamed over it."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import get_ident
from typing import IO, Any

from rvqvae.errors import InputError


def write_atomically(path: Path, content: bytes) -> None:
    """Readers see the old file or the whole new one, never a part."""
    with replacing(path) as file:
        file.write(content)


@contextmanager
def replacing(path: Path, partial: str = "", sync: bool = True) -> Iterator[IO[bytes]]:
    """A file to write that takes its place as ``path`` at the end of the block, unless that raises.

    ``partial`` is its name until then. Without ``sync`` the disk is not waited for, which makes many small
    files forty times faster; a power cut may then leave empty ones. InputError if the disk refuses.
    """
    unfinished = path.with_name(partial or f".{path.name}.{os.getpid()}.{get_ident()}.partial")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(unfinished, "wb") as file:
                yield file
                if sync:
                    file.flush()
                    os.fsync(file.fileno())
            os.replace(unfinished, path)
        finally:
            unfinished.unlink(missing_ok=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Within, what the disk refuses is an InputError that names ``path``."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{path} cannot be written: {error.strerror or error}: make room, or give another place"
        ) from error


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write a training state of tensors and plain values."""
    import torch

    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_atomically(path, buffer.getvalue())


def load_state(path: Path, fingerprint: str) -> dict[str, Any] | None:
    """The state at ``path`` or None; refuses one that another run (by ``fingerprint``) left there."""
    if not path.exists():
        return None
    import torch

    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise InputError(
            f"{path} is not a readable training state ({type(error).__name__}); remove it to start again"
        ) from error
    if state.get("fingerprint") != fingerprint:
        raise InputError(
            f"{path.parent} holds another run (of other data, settings, seed or version); use another folder"
        )
    return state
