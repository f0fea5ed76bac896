"""Who belongs, on many sets of many domains: ours beside others, families of domains left out of learning.

    python -m pipelines.suite --root ROOT                   # every scenario of a folder, membership alone
    python -m pipelines.suite --root ROOT --limit 12        # 12 of them, spread over the kinds
    python -m pipelines.suite --root ROOT --methods [rvqvae,MCD,MCD+IQR,SelfClean]
    python -m pipelines.suite --tabular true --methods [rvqvae,ellipsoid,IForest,ECOD,COPOD,KNN,LOF]
    python -m pipelines.suite --root ROOT --answers 8 --images 20 --error 0.02 --reviewers [AADForest]

ROOT holds scenarios.json and a .npz for each domain (`pipelines.common.domains`). Every row is kept in
OUT/rows.csv when it is measured, so the same command goes on, and one with more methods adds to it.
OUT/table.md and the figures say what came out.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from time import process_time

import numpy as np
import torch
from jsonargparse import auto_cli
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from pipelines.common.command import exit_status
from pipelines.common.domains import Folder, Scenario
from pipelines.common.store import append_row, claim, read_rows, write_rows
from pipelines.common.tables import as_markdown, as_rich
from pipelines.judging import figures, peers, review, tables
from pipelines.judging.cases import Case, Decision, Row, Vector, domains_of
from pipelines.judging.mixtures import DRAWS, own_scenarios
from pipelines.judging.own import OWN
from pipelines.judging.review import REVIEWERS, Review, User
from pipelines.judging.tabular import Tables
from rvqvae.errors import InputError
from rvqvae.tracking.runs import Tracker

WIDTH = 150
WORST = 3
"""Sets in the picture of where it is most wrong."""
THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "RAYON_NUM_THREADS",
)


class Job:
    """All that a process needs to measure a scenario."""

    def __init__(
        self, source: Folder | Tables, out: Path, views: Path, asked: Review, leave_out: bool
    ) -> None:
        self.source, self.out, self.views, self.asked, self.leave_out = source, out, views, asked, leave_out

    def measure(self, scenario: Scenario, methods: Sequence[str]) -> list[Row]:
        """Rows of the ``methods`` on one scenario."""
        case = Case.of(self.source, scenario, self.views)
        _ = case.joint  # here, so that no method pays for what all share
        return [row for method in methods for row in self._rows(case, method)]

    def _rows(self, case: Case, method: str) -> Iterator[Row]:
        user = User(case.is_outlier, self.asked.error, case.seed)
        begin = process_time()
        if method in REVIEWERS:
            n = self.asked.groups + self.asked.singles
            said = REVIEWERS[method](case, user, n)
            yield case.row(method, said, process_time() - begin, 0, n)
        elif method in OWN:
            for stage in OWN[method](case, user, self.asked, self.leave_out):
                yield case.row(method, stage.said, process_time() - begin, stage.groups, stage.singles)
                if stage.said.probability is not None and not (stage.groups or stage.singles):
                    self._keep(case, method, stage.said)
                begin = process_time()
        else:
            said = peers.decide(method, case)
            yield case.row(method, said, process_time() - begin)

    def _keep(self, case: Case, method: str, said: Decision) -> None:
        path = said_file(self.out, method, case.scenario.id)
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(
            path, probability=said.probability, is_outlier=said.is_outlier, truth=case.is_outlier
        )


def said_file(out: Path, method: str, scenario: str) -> Path:
    """Where it is kept what a method of ours says of each image before any answer."""
    return out / "said" / re.sub(r"\W+", "-", method) / f"{scenario}.npz"


def suite(
    root: str = "../shared/suite",
    datasets: str | None = None,
    methods: tuple[str, ...] = ("rvqvae",),
    limit: int | None = None,
    ours: bool = True,
    tabular: bool = False,
    answers: int = 0,
    images: int = 0,
    error: float = 0.02,
    reviewers: tuple[str, ...] = (),
    leave_out: bool = True,
    processes: int = os.cpu_count() or 1,
    out: str = "runs/suite",
    views: str = "runs/views",
    tracking: bool = True,
) -> None:
    """Measure membership on every scenario of a folder.

    Args:
        root: folder with scenarios.json and the domains
        datasets: folder with the full MNIST and FashionMNIST as torchvision stores them; without it the
            scenarios that need them are left out
        methods: rvqvae, codebooks (the sets after a training), ellipsoid, IForest, MCD, ECOD, AutoEncoder,
            cleanlab, all of these but the first three also with a cut: MCD+IQR; and what only ranks:
            "codebooks alone", SelfClean, members of the autoencoder family (AE, VAE, ...)
        limit: scenarios at most, spread evenly over the list
        ours: add corrupted, duplicated, doubled, tiny and unbalanced sets of the same domains
        tabular: measure the usual small tables instead of images; needs no root
        answers: questions about groups that the simulated user answers
        images: questions about single images, after those
        error: share of the answers that are wrong
        reviewers: other users of as many answers: "top of the list", classifier, "label spreading",
            AADForest, PineForest
        leave_out: let the judge learn without the families of the scenario's domains
        processes: that work at a time, each on one thread
        out: folder of the results
        views: folder that keeps the features of every set for later runs
        tracking: report to MLflow
    """
    asked = Review(answers, images, error)
    check(methods, reviewers, asked, limit, processes)
    source, scenarios = sets_of(root, datasets, tabular, limit, ours)
    if not scenarios:
        raise InputError(f"root={root!r} has no scenario whose domains are all there: see scenarios.json")
    place, console = Path(out), Console()
    settings = asked._asdict() | {
        "root": None if tabular else str(Path(root).resolve()),
        "leave_out": leave_out,
    }
    claim(place, settings)
    parent = Tracker(
        "suite",
        run_name=f"{len(scenarios)} sets x {len(methods) + len(reviewers)} methods",
        params=settings | {"methods": methods, "reviewers": reviewers, "limit": limit, "ours": ours},
        directory=place,
        enabled=tracking,
    )
    with parent:
        if leave_out and isinstance(source, Folder):
            domains_of(source, Path(views)).prepare()
        job = Job(source, place, Path(views), asked, leave_out)
        rows = fill(job, scenarios, (*methods, *reviewers), processes, console)
        report(parent, job, scenarios, rows, console)


def check(
    methods: tuple[str, ...], reviewers: tuple[str, ...], asked: Review, limit: int | None, processes: int
) -> None:
    """Fail now rather than after an hour."""
    peers.require([name for name in methods if name not in OWN])
    if unknown := [name for name in reviewers if name not in REVIEWERS]:
        raise InputError(f"reviewers={unknown} are unknown: choose from {', '.join(REVIEWERS)}")
    for name in reviewers:
        peers.need(name, review.LIBRARIES.get(name, "sklearn"))
        peers.need(name, "pythresh")
    if not methods and not reviewers:
        raise InputError("there is nothing to measure: name --methods")
    if reviewers and asked.groups + asked.singles < 2:
        raise InputError("reviewers need 2 answers or more: give --answers and --images")
    if min(asked.groups, asked.singles) < 0 or not 0 <= asked.error < 0.5:
        raise InputError("answers and images must be >= 0, and error from 0 to 0.5")
    if min(processes, 1 if limit is None else limit) < 1:
        raise InputError(f"limit={limit} and processes={processes} must be >= 1")


def sets_of(
    root: str, datasets: str | None, tabular: bool, limit: int | None, ours: bool
) -> tuple[Folder | Tables, list[Scenario]]:
    """What there is to measure, and where it is drawn from."""
    if tabular:
        matrices = Tables()
        return matrices, spread(matrices.scenarios(), limit)
    folder = Folder(Path(root), None if datasets is None else Path(datasets))
    return folder, spread(folder.scenarios(), limit) + (own_scenarios(folder) if ours and not limit else [])


def spread(scenarios: list[Scenario], limit: int | None) -> list[Scenario]:
    """At most ``limit`` of them, evenly over the kinds and the domains."""
    if limit is None or limit >= len(scenarios):
        return scenarios
    ordered = sorted(scenarios, key=lambda s: (s.kind, s.id))
    return [ordered[int(i)] for i in (np.arange(limit) + 0.5) * len(ordered) / limit]


def fill(
    job: Job, scenarios: list[Scenario], methods: Sequence[str], processes: int, console: Console
) -> list[Row]:
    """Measure what is not there yet, keep each scenario at once, and return the rows of these scenarios."""
    path = job.out / "rows.csv"
    rows = read_rows(path, Row)
    write_rows(path, Row, rows)  # without a line that was cut short
    done = {(row.id, row.method) for row in rows}
    missing = [(s, [name for name in methods if (s.id, name) not in done]) for s in scenarios]
    work = [(scenario, names) for scenario, names in missing if names]
    for made in track(measured(job, work, processes), "suite", total=len(work), console=console):
        for row in made:
            append_row(path, row)
        rows += made
    order = {scenario.id: i for i, scenario in enumerate(scenarios)}
    return sorted((row for row in rows if row.id in order), key=lambda row: order[row.id])


def measured(job: Job, work: list[tuple[Scenario, list[str]]], processes: int) -> Iterator[list[Row]]:
    """The rows of each scenario as they come; in this process if one is enough."""
    if min(processes, len(work)) < 2:
        yield from (job.measure(*task) for task in work)
        return
    os.environ |= dict.fromkeys(THREADS, "1")  # read by the libraries of the new processes
    with ProcessPoolExecutor(processes, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        futures = [pool.submit(job.measure, *task) for task in work]
        try:
            yield from (future.result() for future in as_completed(futures))
        finally:
            pool.shutdown(cancel_futures=True)


def report(parent: Tracker, job: Job, scenarios: list[Scenario], rows: list[Row], console: Console) -> None:
    """Tables and figures to the folder, and all of it to MLflow: a run for each method, inside one."""
    ids = [scenario.id for scenario in scenarios if scenario.kind not in DRAWS]
    said = {name: kept for name in OWN if (kept := probabilities(job.out, name, ids))}
    made = tables.sheets(rows, said)
    console.width = max(console.width, WIDTH)
    for sheet in made:
        console.print(as_rich(sheet))
    parent.text(as_markdown(made), "table.md")
    parent.artifact(job.out / "rows.csv")
    if said:
        parent.figure(figures.calibration_figure(said), "calibration.png")
    wrong = (
        most_wrong(job, scenarios, rows, next(iter(said))) if said and isinstance(job.source, Folder) else []
    )
    if wrong:
        parent.figure(figures.wrong_figure(wrong), "wrong.png")
    if said and any(row.groups or row.singles for row in rows):
        parent.figure(figures.answers_figure(rows, next(iter(said))), "answers.png")
    for method in dict.fromkeys(row.method for row in rows):
        with parent.child(method, {"method": method}) as child:
            mine = [row for row in rows if row.method == method]
            for answers in sorted({row.groups + row.singles for row in mine}):
                found = [row for row in mine if row.groups + row.singles == answers]
                numbers = tables.summarise(tables.of_kind(found, tables.ALL))._asdict()
                child.metrics({key: value for key, value in numbers.items() if value == value}, step=answers)
    console.print(f"kept in {job.out}", highlight=False)


def probabilities(
    out: Path, method: str, ids: Sequence[str]
) -> tuple[Vector, NDArray[np.bool_], Vector] | None:
    """Of all images of the measured scenarios: probability, truth, and weight, in total the same for each."""
    kept = [np.load(path) for name in ids if (path := said_file(out, method, name)).exists()]
    if not kept:
        return None
    sizes = [len(file["truth"]) for file in kept]
    return (
        np.concatenate([file["probability"] for file in kept]),
        np.concatenate([file["truth"] for file in kept]),
        np.concatenate([np.full(n, 1 / n) for n in sizes]),
    )


def most_wrong(job: Job, scenarios: list[Scenario], rows: list[Row], method: str) -> list[figures.Wrong]:
    """The sets of which the largest share of images is misjudged, at most one of each kind."""
    mine = [row for row in rows if row.method == method and not (row.groups or row.singles)]
    worst: dict[str, Row] = {}
    for row in sorted((row for row in mine if misjudged(row)), key=misjudged):
        worst[row.kind] = row
    ordered = sorted(worst.values(), key=misjudged)[: -WORST - 1 : -1]
    named = {scenario.id: scenario for scenario in scenarios}
    found = []
    for row in ordered:
        case = Case.of(job.source, named[row.id], job.views)
        with np.load(said_file(job.out, method, row.id)) as said:
            found.append(
                figures.Wrong(row, case.samples, case.is_outlier, said["is_outlier"], said["probability"])
            )
    return found


def misjudged(row: Row) -> float:
    """Share of a set's images."""
    left = 0.0 if np.isnan(row.left_in) else row.left_in
    return row.rate * left + (1 - row.rate) * row.thrown_out


def main() -> int:
    return exit_status(lambda: auto_cli(suite))


if __name__ == "__main__":
    sys.exit(main())
