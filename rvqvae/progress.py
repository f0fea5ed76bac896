"""The callbacks by which long work reports its progress."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called with the stage, the number of its steps done, and their total."""
OnEpoch = Callable[[int, dict[str, float]], object]
"""Called after every epoch with its number, from 1, and its mean metrics."""


def silent(stage: str, done: int, total: int) -> None:
    """The `Progress` that does nothing."""
