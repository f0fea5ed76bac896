"""The autoencoder family: its members beside published figures, and what they are good for.

    python -m pipelines.family                                   # the committed samples, one seed
    python -m pipelines.family --root ROOT --seeds [0,1,2]       # full MNIST (ROOT as torchvision stores it)
    python -m pipelines.family --only [likelihood,BiGAN] --epochs 1

Published figures come from long trainings on the full set; the table says what each model had here. Every
number is kept in OUT/rows.csv as soon as a method is done, so the same command continues, and one with more
seeds or methods adds to it. OUT/table.md and two pictures say what came out.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from math import inf
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jsonargparse import auto_cli
from rich.console import Console
from rich.progress import track

from pipelines.autoencoders import (
    anomaly,
    dimensions,
    features,
    figures,
    generation,
    likelihood,
    recommendation,
)
from pipelines.autoencoders.bench import Bench, Method
from pipelines.common.command import exit_status
from pipelines.common.store import claim, read_rows, write_rows
from pipelines.common.tables import Sheet, as_markdown, as_rich
from rvqvae.errors import InputError
from rvqvae.tracking.runs import Tracker

JOBS: dict[str, dict[str, Method]] = {
    "likelihood": likelihood.METHODS,
    "dimensions": dimensions.METHODS,
    "classification": features.CLASSIFICATION,
    "neighbour": features.NEIGHBOUR,
    "clustering": features.CLUSTERING,
    "anomaly": anomaly.METHODS,
    "generation": generation.METHODS,
    "recommendation": recommendation.METHODS,
}
WIDTH = 120


class Line(NamedTuple):
    """A number of one method and seed, as rows.csv keeps it."""

    job: str
    method: str
    seed: int
    measure: str
    value: float
    published: str
    low: float
    high: float
    seen: int
    """Images that the trainings were shown."""
    seconds: float
    """Of the CPU, in the trainings."""


def family(
    only: tuple[str, ...] = (),
    seeds: tuple[int, ...] = (0,),
    epochs: int | None = None,
    root: str | None = None,
    out: str = "runs/family",
    tracking: bool = True,
) -> None:
    """Measure the family.

    Args:
        only: jobs (likelihood, dimensions, classification, neighbour, clustering, anomaly, generation,
            recommendation) or methods of them, such as VAE; all without it
        seeds: of the trainings and the draws
        epochs: of every training, in place of each model's own
        root: folder with the full sets; the committed samples without it
        out: folder of the results
        tracking: report to MLflow
    """
    folder, console = Path(out), Console()
    wanted = chosen(only)
    if not seeds or min(seeds) < 0:
        raise InputError(f"seeds={list(seeds)} are out of range: give at least one, each >= 0")
    if epochs is not None and epochs < 1:
        raise InputError(f"epochs={epochs} is out of range: it must be >= 1")
    claim(folder, {"full_sets": root is not None, "epochs": epochs or 0})
    lines = read_rows(folder / "rows.csv", Line)
    params = {"only": only, "seeds": seeds, "epochs": epochs, "full_sets": root is not None}
    with Tracker("family", run_name="family", params=params, directory=folder, enabled=tracking) as parent:
        for seed in seeds:
            bench = Bench(root, seed, epochs, folder)
            done = {line[:3] for line in lines}
            missing = [key for key in wanted if (*key, seed) not in done]
            for key in track(missing, f"family, seed {seed}", console=console):
                lines += measure(bench, *key)
                write_rows(folder / "rows.csv", Line, lines)
                fresh = [line for line in lines if line[:3] == (*key, seed)]
                parent.metrics({"/".join([*key, line.measure]): line.value for line in fresh}, step=seed)
        made = sheets(lines)
        console.width = max(console.width, WIDTH)
        for sheet in made:
            console.print(as_rich(sheet))
        parent.text(as_markdown(made), "table.md")
        parent.artifact(folder / "rows.csv")
        for name, figure in figures.figures(folder, lines).items():
            parent.figure(figure, f"{name}.png")
    console.print(f"kept in {folder}", highlight=False)


def chosen(only: Sequence[str]) -> list[tuple[str, str]]:
    """Jobs and methods that ``only`` names, all of them by default."""
    every = [(job, method) for job, methods in JOBS.items() for method in methods]
    if unknown := [name for name in only if not any(name in key for key in every)]:
        raise InputError(
            f"only={unknown} are unknown: choose from {', '.join(JOBS)}, "
            + ", ".join(dict.fromkeys(method for _, method in every))
        )
    return [key for key in every if not only or set(key) & set(only)]


def measure(bench: Bench, job: str, method: str) -> Iterator[Line]:
    """What one method of a job yields, with what its trainings had."""
    bench.costs.clear()
    rows = list(JOBS[job][method](bench))
    seen, seconds = sum(cost.seen for cost in bench.costs), sum(cost.seconds for cost in bench.costs)
    for row in rows:
        yield Line(
            job, method, bench.seed, row.measure, row.value, row.published, row.low, row.high, seen,
            round(float(seconds), 1),
        )  # fmt: skip


def sheets(lines: Sequence[Line]) -> list[Sheet]:
    """A table for each job: mean and standard deviation of the seeds, the published figure, the target."""
    head = ["method", "measure", "value", "published", "target", "met", "seen", "seconds"]
    made = []
    for job in JOBS:
        here = [line for line in lines if line.job == job]
        keys = list(dict.fromkeys((line.method, line.measure) for line in here))
        if keys:
            body = [row([line for line in here if (line.method, line.measure) == key]) for key in keys]
            note = "seen: images shown in training, over all epochs; seconds: of the CPU, in training"
            made.append(Sheet(job, head, body, note))
    return made


def row(lines: Sequence[Line]) -> list[str]:
    """Cells of one measure, ``lines`` being its seeds."""
    first, values = lines[0], [line.value for line in lines]
    mean = float(np.mean(values))
    value = f"{mean:.4g}" + (f" ±{np.std(values, ddof=1):.2g}" if len(values) > 1 else "")
    target, met = "", ""
    if (first.low, first.high) != (-inf, inf):
        low, high = f"{first.low:.4g}", f"{first.high:.4g}"
        target = f"≤ {high}" if first.low == -inf else f"≥ {low}" if first.high == inf else f"{low} to {high}"
        met = "yes" if first.low <= mean <= first.high else "no"
    seen = f"{first.seen:,}" if first.seen else ""
    seconds = f"{np.mean([line.seconds for line in lines]):.0f}" if first.seen else ""
    return [first.method, first.measure, value, first.published, target, met, seen, seconds]


def main() -> int:
    return exit_status(lambda: auto_cli(family))


if __name__ == "__main__":
    sys.exit(main())
