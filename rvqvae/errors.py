"""The one exception that a user's input can cause, the checks that raise it, and what its messages share."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from numbers import Integral, Real


class InputError(ValueError):
    """Bad input from the user: the message names the value, the limit and the remedy.

    The command line prints the message on one line and exits with status 2.
    """


def check_whole(name: str, value: object, low: int = 1, high: float = math.inf) -> int:
    """``value`` as an int; InputError unless it is a whole number from ``low`` to ``high``."""
    if not isinstance(value, Integral) or isinstance(value, bool) or not low <= int(value) <= high:
        raise _out_of_range(name, value, f"a whole number {_limits(low, high)}")
    return int(value)


def check_number(
    name: str, value: object, low: float, high: float = math.inf, *, above: bool = False, below: bool = False
) -> float:
    """``value`` as a float; InputError unless it is a finite number from ``low`` to ``high``.

    ``above`` and ``below`` exclude the ends.
    """
    real = isinstance(value, Real) and not isinstance(value, bool)
    number = float(value) if real else math.nan  # type: ignore[arg-type]
    inside = low <= number <= high and math.isfinite(number)
    if not inside or (above and number == low) or (below and number == high):
        raise _out_of_range(name, value, f"a number {_limits(low, high, above, below)}")
    return number


def check_choice(name: str, value: object, choices: Iterable[str]) -> str:
    """``value``; InputError unless it is one of ``choices``."""
    if value not in (known := list(choices)):
        raise _out_of_range(name, value, " or ".join(map(repr, known)))
    return str(value)


def some_of(names: Sequence[str], most: int) -> str:
    """At most ``most`` names in a sentence, and how many more there are."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _limits(low: float, high: float, above: bool = False, below: bool = False) -> str:
    if not above and not below and high < math.inf:
        return f"from {low} to {high}"
    least = f"{'>' if above else '>='} {low}"
    return least if high == math.inf else f"{least} and {'<' if below else '<='} {high}"


def _out_of_range(name: str, value: object, wanted: str) -> InputError:
    return InputError(f"{name}={value!r} is out of range: it must be {wanted}")
