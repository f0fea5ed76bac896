"""The command line: thin commands over `rvqvae.commands`, which they import only when they run."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as ProgressBars

from rvqvae.commands.arguments import copy_of, options_of, parse
from rvqvae.commands.options import Copy, FitOptions, Progress
from rvqvae.errors import InputError

Run = Callable[[Namespace, Progress, str], list[str]]
"""From values, progress and the command line itself to the lines that tell what was done."""


def main(arguments: list[str] | None = None) -> int:
    """Run one command; the exit status is 2 for bad input and 130 after Ctrl-C."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        name, values = parse(arguments)
        with _bars() as progress:
            lines = RUNS[name](values, progress, shlex.join(["rvqvae", *arguments]))
    except InputError as error:
        return _fail(str(error), 2)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        return _fail(f"{place}{error.strerror or error}: make room, or give another place", 2)
    except KeyboardInterrupt:
        return _fail("interrupted: the same command continues", 130)
    console = Console(markup=False, highlight=False, soft_wrap=True)
    for line in lines:
        console.print(_one_line(line))
    return 0


# Commands


def _clean(values: Namespace, progress: Progress, command: str) -> list[str]:
    copy = copy_of(values)
    if values.manifest is not None:
        return _apply(values, copy)
    if values.dry_run:
        return _preview(values, progress)
    from rvqvae.commands.clean import clean

    done = clean(values.images, values.out, options_of(values), copy=copy, command=command, progress=progress)
    out, summary = done.out, done.summary
    files = ["manifest.csv", "report.html", "summary.json", "model/"]
    if done.copied is not None:
        files.append(f"clean/ ({done.copied:,} images)")
    return [
        *_before(done.done_before),
        _verdict(summary),
        _counts(summary, "images", "kept", "dropped", "unreadable", "duplicates", "near_duplicates"),
        f"In {out}: {', '.join(files)}. Open {out / 'report.html'} to review.",
    ]


def _apply(values: Namespace, copy: Copy | None) -> list[str]:
    from rvqvae.commands.apply import CLEAN, apply_manifest

    if copy is None or values.dry_run:
        raise InputError("--manifest only copies: give --copy or --link with it, and not --dry-run")
    done = apply_manifest(values.images, values.manifest, values.out, copy)
    unlisted = f"; {done.unlisted:,} that the manifest does not list are left out" if done.unlisted else ""
    return [f"{done.copied:,} images are in {done.out / CLEAN}{unlisted}."]


def _preview(values: Namespace, progress: Progress) -> list[str]:
    from rvqvae.commands.folder import check_outside
    from rvqvae.commands.read import preview

    check_outside(Path(values.out), values.images)
    found = preview(values.images, options_of(values), progress)
    height, width = found.side.size
    kind = "grey" if found.side.channels == 1 else "RGB"
    return [
        _counts(found.counts, *found.counts),
        f"They would be read at {height} x {width} pixels, {kind}. Nothing was written.",
        *(f"unreadable: {entry.path}: {entry.reason}" for entry in found.bad[:20]),
    ]


def _train(values: Namespace, progress: Progress, command: str) -> list[str]:
    from rvqvae.commands.train import train

    done = train(values.images, values.out, options_of(values), progress)
    return [
        *_before(done.done_before),
        _verdict(done._asdict()),
        f"The model is in {done.out}.",
    ]


def _score(values: Namespace, progress: Progress, command: str) -> list[str]:
    from rvqvae.commands.score import score

    done = score(
        values.model,
        values.images,
        values.out,
        maps=values.maps,
        workers=values.workers,
        device=values.device,
        progress=progress,
    )
    maps = f", heat maps in {done.maps}" if done.maps else ""
    return [
        f"{done.images:,} images: {done.outliers:,} outliers, {done.unreadable:,} unreadable.",
        f"The table is {done.out}{maps}.",
    ]


def _search(values: Namespace, progress: Progress, command: str) -> list[str]:
    from rvqvae.commands.search import search, table_of

    done = search(
        values.model,
        values.query,
        values.images,
        out=values.out,
        k=values.neighbors,
        picture=values.picture,
        seed=values.seed,
        workers=values.workers,
        device=values.device,
        progress=progress,
    )
    files = " and ".join(str(path) for path in (values.out, values.picture) if path is not None)
    return [
        *(table_of(done.matches) if values.out is None else []),
        f"{done.queries:,} {'query' if done.queries == 1 else 'queries'} among {done.images:,} images, "
        f"{done.unreadable:,} unreadable.",
        *([f"What was found is in {files}."] if files else []),
    ]


def _sample(values: Namespace, progress: Progress, command: str) -> list[str]:
    from rvqvae.commands.sample import sample

    done = sample(
        values.model,
        values.out,
        values.number,
        temperature=values.temperature,
        top_p=values.top_p,
        max_outlier_probability=values.max_outlier_probability,
        seed=values.seed,
        device=values.device,
        progress=progress,
    )
    return [
        *_before(done.done_before),
        f"{done.images:,} images are in {done.out}, all of them in {done.grid}.",
    ]


def _evaluate(values: Namespace, progress: Progress, command: str) -> list[str]:
    from rvqvae.commands.evaluate import evaluate

    done = evaluate(
        values.model,
        values.reference,
        values.out,
        outliers=values.outliers,
        n=values.number,
        seed=values.seed,
        workers=values.workers,
        device=values.device,
        progress=progress,
    )
    measures = {name: value for name, value in done.metrics.items() if isinstance(value, float)}
    return [*(f"{_words(name)}: {value:.4g}" for name, value in measures.items()), f"All is in {done.out}."]


def _cluster(values: Namespace, progress: Progress, command: str) -> list[str]:
    from rvqvae.commands.cluster import cluster

    options = FitOptions(size=values.size, seed=values.seed, device=values.device, workers=values.workers)
    done = cluster(values.images, values.out, values.clusters, options, command=command, progress=progress)
    sizes = [group["images"] for group in done.summary["clusters"]]
    return [
        *_before(done.done_before),
        _counts(done.summary, "images", "clustered", "unreadable", "duplicates", "near_duplicates"),
        f"{len(sizes):,} clusters of {min(sizes):,} to {max(sizes):,} images. In {done.out}: clusters.csv, "
        "clusters.png, clusters/, summary.json.",
    ]


def _contaminate(values: Namespace, progress: Progress, command: str) -> list[str]:
    from rvqvae.commands.contaminate import TRUTH, contaminate_folders

    done = contaminate_folders(
        values.inliers,
        values.outliers,
        values.out,
        rate=values.rate,
        total=values.total,
        size=values.size,
        seed=values.seed,
        workers=values.workers,
        progress=progress,
    )
    return [
        *_before(done.done_before),
        f"{done.images:,} images are in {done.out}, {done.outliers:,} of them outliers; "
        f"{done.out / TRUTH} says which.",
    ]


RUNS: dict[str, Run] = {
    "clean": _clean,
    "train": _train,
    "score": _score,
    "search": _search,
    "sample": _sample,
    "evaluate": _evaluate,
    "cluster": _cluster,
    "contaminate": _contaminate,
}


# What is shown


@contextmanager
def _bars() -> Iterator[Progress]:
    """A bar for each stage, with the time left; without a terminal, a line for each."""
    console = Console(stderr=True, markup=False, highlight=False)
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
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
                if not console.is_terminal:
                    console.print(f"{stage}: {total:,}")
            task = tasks[stage]
            if done < bars.tasks[task].completed:  # The stage begins again, with other images.
                bars.reset(task)
            bars.update(task, completed=done, total=total)

        yield show


def _before(done: bool) -> list[str]:
    return ["This was done before, and nothing has changed since:"] if done else []


def _verdict(summary: Mapping[str, Any]) -> str:
    from rvqvae.report import VERDICTS

    sentence = VERDICTS[summary["verdict"]].format(rate=f"{summary['contamination']:.1%}")
    low, high = summary["contamination_interval"]
    return f"{sentence} (95 % interval {low:.1%} to {high:.1%})."


def _counts(counts: Mapping[str, int], *names: str) -> str:
    return ", ".join(f"{counts[name]:,} {_words(name)}" for name in names) + "."


def _words(name: str) -> str:
    return name.replace("_", " ")


def _one_line(text: str) -> str:
    """Without ends of line, and with bytes that are no UTF-8 as escapes."""
    return " ".join(text.encode("utf-8", "backslashreplace").decode().split())


def _fail(message: str, status: int) -> int:
    print(f"rvqvae: {_one_line(message)}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
