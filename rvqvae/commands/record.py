"""What a run says about itself, and the small files that it writes."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rvqvae.atomic import write_atomically


def peak_memory() -> float | None:
    """GiB of main memory that this process held at most, or None where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 2**10
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30, 3)


def write_json(path: Path, content: Mapping[str, Any] | Sequence[Any]) -> None:
    """Whole or not at all; InputError if the disk refuses."""
    write_atomically(path, (json.dumps(content, indent=2, allow_nan=False) + "\n").encode())
