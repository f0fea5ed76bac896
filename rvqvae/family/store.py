"""A fitted autoencoder as a folder, as `rvqvae.model_folder` does it: safetensors and JSON, no pickle."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from rvqvae.atomic import write_atomically
from rvqvae.errors import InputError
from rvqvae.model_folder import ARRAYS, FACTS, FORMAT, NEXT, _arrays, _facts


def save_folder(path: Path, facts: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Write ``path``; killed at any moment, it holds the old model or the new one."""
    arrays = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    facts = {"format": FORMAT, "sha256": hashlib.sha256(arrays).hexdigest()} | facts
    write_atomically(path / NEXT, arrays)
    write_atomically(path / FACTS, json.dumps(facts, indent=2).encode())
    os.replace(path / NEXT, path / ARRAYS)


def load_folder(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Facts and tensors of ``path``; InputError if it is missing, damaged or of another version."""
    facts = _facts(path)
    try:
        return facts, load(_arrays(path, facts["sha256"]))
    except (OSError, SafetensorError, LookupError, TypeError, ValueError) as error:
        raise InputError(f"{path} is not a complete model ({error}); train or save it again") from error
