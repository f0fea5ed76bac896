"""The program ``rvqvae``: run one command, show its progress, say what it did."""

from __future__ import annotations

import inspect
import json
import os
import shlex
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from rvqvae.commands.arguments import function_of, parse
from rvqvae.commands.lines import plain
from rvqvae.errors import InputError
from rvqvae.progress import Progress

BROKEN_PIPE = 128 + 13
"""Exit status of what SIGPIPE ends, in a shell."""


def main(arguments: list[str] | None = None) -> int:
    """Run one command; the exit status is 2 for bad input, 130 after Ctrl-C, BROKEN_PIPE if nobody reads."""
    arguments = sys.argv[1:] if arguments is None else arguments
    verbose = "--verbose" in arguments
    # Before numpy and torch are loaded: threads that wait by spinning take up to four times the CPU time
    # beside other work, and those of OpenBLAS cannot wait otherwise.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        call = parse(arguments)
        function = function_of(call.command)
        with _bars(call.quiet) as progress:
            given = {"progress": progress, "command": shlex.join(["rvqvae", *arguments])}
            taken = given.keys() & inspect.signature(function).parameters.keys()
            done = function(**call.values, **{name: given[name] for name in taken})
        if call.json:
            print(json.dumps(plain(done), allow_nan=False))
        elif not call.quiet:
            for line in done.lines():
                print(_one_line(line))
        sys.stdout.flush()
    except BrokenPipeError:  # Whoever reads has seen enough, as head has; what is left has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except InputError as error:
        if verbose:
            traceback.print_exc()
        return _fail(str(error), 2)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        return _fail(f"{place}{error.strerror or error}: make room, or give another place", 2)
    except KeyboardInterrupt:
        return _fail("interrupted: the same command continues", 130)
    return 0


@contextmanager
def _bars(quiet: bool) -> Iterator[Progress]:
    """A bar for each stage, with the time left; without a terminal, a line for each; nothing if ``quiet``."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as ProgressBars

    console = Console(stderr=True, markup=False, highlight=False, quiet=quiet)
    tasks: dict[str, TaskID] = {}
    with ProgressBars(
        TextColumn("{task.description:>10}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("left"),
        console=console,
        disable=not console.is_terminal,
    ) as bars:

        def show(stage: str, done: int, total: int) -> None:
            if stage == "ask":  # What is typed must not be drawn over.
                bars.stop()
                return
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
                if not console.is_terminal:
                    console.print(f"{stage}: {total:,}")
            task = tasks[stage]
            if done < bars.tasks[task].completed:  # The stage begins again, with other images.
                bars.reset(task)
            bars.update(task, completed=done, total=total)

        yield show


def _one_line(text: str) -> str:
    """Without ends of line, and with bytes that are no UTF-8 as escapes."""
    return " ".join(text.encode("utf-8", "backslashreplace").decode().split())


def _fail(message: str, status: int) -> int:
    print(f"rvqvae: {_one_line(message)}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
