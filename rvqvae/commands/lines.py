"""What commands say when they are done, in words that several of them use."""

from __future__ import annotations

from collections.abc import Mapping
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
