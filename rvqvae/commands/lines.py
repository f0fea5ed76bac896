"""What commands say when they are done, in words that several of them use."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any


def before(done: bool) -> list[str]:
    return ["This was done before, and nothing has changed since:"] if done else []


def verdict_line(summary: Mapping[str, Any]) -> str:
    """``summary`` has verdict, contamination and contamination_interval."""
    from rvqvae.report import VERDICTS, interval_text

    sentence = VERDICTS[summary["verdict"]].format(rate=f"{summary['contamination']:.1%}")
    return f"{sentence} ({interval_text(summary['contamination_interval'])})."


def counts_line(counts: Mapping[str, int], *names: str) -> str:
    return ", ".join(f"{counts[name]:,} {words(name)}" for name in names) + "."


def words(name: str) -> str:
    return name.replace("_", " ")


def plain(value: Any) -> Any:
    """What a command returned, as JSON has it: named tuples by their names, null for nan."""
    if hasattr(value, "as_json"):
        return value.as_json()
    if hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, Mapping):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, tuple | list):
        return [plain(one) for one in value]
    if hasattr(value, "tolist"):  # numpy's
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, PurePath) else value
