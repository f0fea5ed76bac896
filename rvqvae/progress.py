"""How long work says how far it is."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called with the stage, the number of its steps done, and their total."""


def silent(stage: str, done: int, total: int) -> None:
    """The `Progress` that nobody listens to."""
