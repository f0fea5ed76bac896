"""How an experiment ends as a command: its exit status, and one line for whoever started it."""

from __future__ import annotations

import sys
from collections.abc import Callable

from rvqvae.errors import InputError


def exit_status(job: Callable[[], object]) -> int:
    """Run ``job``: 0, 2 on bad input, 130 when interrupted."""
    try:
        job()
    except InputError as error:
        print("error:", " ".join(str(error).split()), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted: the same command continues", file=sys.stderr)
        return 130
    return 0
