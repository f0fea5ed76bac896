"""What takes how long: two sides of a comparison in turns, and processes from their start to their end."""

from __future__ import annotations

import resource
import subprocess
from collections.abc import Callable
from time import perf_counter, process_time
from typing import NamedTuple

import numpy as np

from rvqvae.errors import InputError

Job = Callable[[], float]
"""Does its work once; how much of it there was."""


class Line(NamedTuple):
    """One comparison: what is done, units of it per CPU second by us and by them, and the ratio to reach."""

    title: str
    other: str
    unit: str
    ours: float
    theirs: float
    ratio: float
    aim: float


def compare(title: str, other: str, unit: str, ours: Job, theirs: Job, aim: float, rounds: int) -> Line:
    """Both in turns, after one turn to warm up."""
    turns = np.array([[rate(ours), rate(theirs)] for _ in range(rounds + 1)])[1:]
    mine, yours = np.median(turns, axis=0)
    return Line(title, other, unit, mine, yours, float(np.median(turns[:, 0] / turns[:, 1])), aim)


def rate(job: Job) -> float:
    """Of its work in a CPU second of all threads, which a busy machine changes least."""
    begin = process_time()
    done = job()
    return done / (process_time() - begin)


class Cost(NamedTuple):
    """What a process took, its start included."""

    seconds: float
    cpu: float
    """Seconds of all its threads and children: what a busy machine changes least."""


def cost_of(command: list[str]) -> Cost:
    """Run ``command`` to its end. Raises InputError, with the end of what it said, if it fails."""
    before, begin = _cpu_of_children(), perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        raise InputError(f"{' '.join(command)} failed: {done.stdout.decode(errors='replace')[-500:]}")
    return Cost(perf_counter() - begin, _cpu_of_children() - before)


def cpu_to_first_output(command: list[str]) -> float:
    """CPU seconds until ``command`` says something, when it is killed. Raises InputError if it never does."""
    before = _cpu_of_children()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None
        said = process.stdout.read(1)
        process.kill()
    if not said:
        raise InputError(f"{' '.join(command)} said nothing")
    return _cpu_of_children() - before


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
