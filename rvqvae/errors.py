"""The one exception that a user's input can cause."""

from __future__ import annotations


class InputError(ValueError):
    """Bad input from the user: the message names the value, the limit and the remedy.

    The command line prints the message on one line and exits with status 2.
    """
