"""A fitted estimator as a folder: arrays in model.safetensors, the rest in model.json. Nothing is executed.

model.json names the arrays that it goes with by their SHA-256, so that no two saves are ever mixed up.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from rvqvae.atomic import write_atomically
from rvqvae.errors import InputError

FORMAT = 4
ARRAYS, FACTS = "model.safetensors", "model.json"
NEXT = f"{ARRAYS}.next"
"""Where new arrays wait until model.json names them: at no moment is the folder without a whole model."""
MAX_BYTES = {ARRAYS: 2**32, FACTS: 2**26}
"""Bytes of the files of a model, which are read into memory whole."""


class Stored(NamedTuple):
    """What a folder holds."""

    arrays: dict[str, Tensor]
    facts: dict[str, Any]
    """Plain values, as in JSON."""


def write_model(path: Path, stored: Stored) -> None:
    """Write the folder ``path``; killed at any moment, it holds the old model or the new one.

    InputError for facts that are no plain values.
    """
    arrays = save({name: array.detach().cpu().contiguous() for name, array in stored.arrays.items()})
    facts = {"format": FORMAT, "sha256": hashlib.sha256(arrays).hexdigest()} | stored.facts
    try:
        text = json.dumps(facts, indent=2)
    except (TypeError, ValueError) as error:
        raise InputError(f"metadata must be plain values, as in JSON ({error})") from error
    write_atomically(path / NEXT, arrays)
    write_atomically(path / FACTS, text.encode())
    os.replace(path / NEXT, path / ARRAYS)


def read_model(path: Path) -> Stored:
    """Read the folder ``path``; InputError if it is missing, damaged, too large or of another version."""
    facts = _facts(path)
    with complete(path):
        return Stored(load(_arrays(path, facts["sha256"])), facts)


@contextmanager
def complete(path: Path) -> Iterator[None]:
    """Within, what goes wrong with the content of ``path`` is an InputError that names the folder."""
    try:
        yield
    except (OSError, SafetensorError, AttributeError, LookupError, TypeError, ValueError, ArithmeticError,
            RuntimeError) as error:  # fmt: skip
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:160]
        raise InputError(f"{path} is not a complete model ({reason}); train or save it again") from error


def under(arrays: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """The arrays called ``name``.key, by key."""
    return {key.removeprefix(f"{name}."): a for key, a in arrays.items() if key.startswith(f"{name}.")}


def check_shapes(arrays: Mapping[str, Tensor], wanted: Mapping[str, tuple[int, ...]]) -> None:
    """ValueError if one of the ``arrays`` has another shape than ``wanted``; numpy would stretch some."""
    for name, shape in wanted.items():
        if name in arrays and tuple(arrays[name].shape) != shape:
            raise ValueError(f"{name} of shape {tuple(arrays[name].shape)}, not {shape}")


def _facts(path: Path) -> dict[str, Any]:
    if not (path / FACTS).is_file():
        raise InputError(
            f"{path} is not a model folder, as it has no {FACTS}: give one that rvqvae train or clean made"
        )
    _check_size(path / FACTS, MAX_BYTES[FACTS])
    try:
        facts = json.loads((path / FACTS).read_text(encoding="utf-8"))
        version = facts["format"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise InputError(f"{path / FACTS} is damaged ({error}); train or save the model again") from error
    if version != FORMAT:
        raise InputError(
            f"{path} has model format {version!r}, and this version of rvqvae reads {FORMAT}: "
            "use the version that saved it, or train it again"
        )
    return dict(facts)


def _arrays(path: Path, digest: str) -> bytes:
    for name in (ARRAYS, NEXT):
        if (path / name).is_file():
            _check_size(path / name, MAX_BYTES[ARRAYS])
            content = (path / name).read_bytes()
            if hashlib.sha256(content).hexdigest() == digest:
                return content
    raise ValueError(f"{ARRAYS} is missing, or not the one that {FACTS} was written with")


def _check_size(file: Path, limit: int) -> None:
    if (size := file.stat().st_size) > limit:
        raise InputError(
            f"{file} has {size:,} bytes, above the limit of {limit:,} for a model: it is none of ours"
        )
