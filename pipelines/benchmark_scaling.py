"""What cleaning costs from a thousand images to a million.

    python -m pipelines.benchmark_scaling                                   # 1,000 and 3,000 images, minutes
    python -m pipelines.benchmark_scaling --root DATASETS --sizes "[10000, 100000, 1000000]"

Digits with a share of clothes among them, made from MNIST and Fashion-MNIST by small rotations and shifts: as
many as wanted, but not as varied as so many photographs. Each size is cleaned as `rvqvae clean` does, in a
process of its own, with its defaults; its peak memory is what the system says of that process, the pages of
the pixel file that it has looked at included. The truth serves the AUROC alone. Sizes that are done are read.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import zipfile
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import torch
from jsonargparse import auto_cli
from matplotlib import rc_context
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.console import Console
from sklearn.metrics import roc_auc_score
from torch.nn import functional as F

import rvqvae.commands.clean as task
from data.recipes import load
from pipelines.common.command import exit_status
from pipelines.common.store import claim
from pipelines.common.tables import Sheet, as_markdown, as_rich
from rvqvae.atomic import write_atomically
from rvqvae.commands.options import FitOptions
from rvqvae.errors import InputError
from rvqvae.figures import INK, MUTED, STYLE
from rvqvae.io.manifest import read_manifest
from rvqvae.tracking.runs import Tracker

TURN, SHIFT, BLOCK = 10.0, 2.0, 10_000
"""Degrees and pixels that an image is moved by at most; images made at a time."""
LIMIT = 3.0
"""GiB that a million images may take."""


class Cost(NamedTuple):
    """What cleaning one set took."""

    images: int
    seconds: float
    cpu_seconds: float
    """Of all threads: what a busy machine changes least."""
    peak_gib: float
    auroc: float
    contamination: float
    stages: dict[str, float]
    """Seconds of each."""
    threads: int


# The sets


def write_set(path: Path, n: int, rate: float, root: str | None, seed: int) -> NDArray[np.bool_]:
    """``n`` images (n, 28, 28) as array ``x`` of an uncompressed .npz, block by block; who is an outlier."""
    rng = np.random.default_rng([seed, n])
    outlier = rng.permutation(np.arange(n) < round(rate * n))
    sources = [load(name, root)[0] for name in ("mnist", "fashion_mnist")]
    header = {"descr": "|u1", "fortran_order": False, "shape": (n, *sources[0].shape[1:])}
    with zipfile.ZipFile(path, "w") as archive, archive.open("x.npy", "w", force_zip64=True) as file:
        np.lib.format.write_array_header_1_0(file, header)  # type: ignore[arg-type]
        for begin in range(0, n, BLOCK):
            own = outlier[begin : begin + BLOCK]
            rows = [rng.integers(len(source), size=len(own)) for source in sources]
            images = np.where(own[:, None, None], sources[1][rows[1]], sources[0][rows[0]])
            file.write(moved(images, rng).tobytes())
    return outlier


def moved(images: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Each image (N, H, W) a little turned and shifted."""
    n, side = len(images), images.shape[1]
    angle = torch.as_tensor(np.radians(rng.uniform(-TURN, TURN, n)), dtype=torch.float32)
    shift = torch.as_tensor(rng.uniform(-SHIFT, SHIFT, (n, 2)) * 2 / side, dtype=torch.float32)
    turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], 1).view(n, 2, 2)
    places = F.affine_grid(torch.cat([turn, shift[:, :, None]], 2), [n, 1, side, side], align_corners=False)
    found = F.grid_sample(torch.from_numpy(images)[:, None].float(), places, align_corners=False)
    return found[:, 0].round().byte().numpy()


# Cleaning them


def cost_of(
    n: int, rate: float, root: str | None, seed: int, threads: int, epochs: int | None, folder: Path
) -> Cost:
    """Clean ``n`` images in a process of its own; what it leaves behind is removed but for the figures."""
    made, out = folder / f"images-{n}.npz", folder / f"cleaned-{n}"
    outlier = write_set(made, n, rate, root, seed)
    job = ["-m", "pipelines.benchmark_scaling", "--clean", str(made), "--out", str(out)]
    job += ["--seed", str(seed), "--threads", str(threads)]
    job += [] if epochs is None else ["--epochs", str(epochs)]
    before = cpu_of_children()
    done = subprocess.run(
        [sys.executable, *job],
        env=os.environ | {"OMP_NUM_THREADS": str(threads)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    cpu = cpu_of_children() - before
    stages: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    summary = json.loads((out / "summary.json").read_text())
    rows = [row for row in read_manifest(out / "manifest.csv") if row.status == "ok"]
    truth = [outlier[int(row.path[2:-1])] for row in rows]
    auroc = roc_auc_score(truth, [-row.score for row in rows])
    made.unlink()
    return Cost(
        n, summary["seconds"], round(cpu, 1), summary["peak_memory_gib"], float(auroc),
        summary["contamination"], stages, threads,
    )  # fmt: skip


def cpu_of_children() -> float:
    """Seconds that the processes started from here, and ended, have computed."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def clean_and_tell(images: str, out: str, seed: int, threads: int, epochs: int | None) -> None:
    """One process: clean, then print the seconds of each stage."""
    stages: dict[str, float] = {}
    before, last = "start", perf_counter()

    def progress(stage: str, done: int, total: int) -> None:
        nonlocal before, last
        name = stage if stage == before else f"{before} to {stage}"
        stages[name] = stages.get(name, 0.0) + perf_counter() - last
        before, last = stage, perf_counter()

    options = FitOptions(seed=seed, workers=threads, epochs=epochs, prior_epochs=epochs)
    task.clean(images, out, options, progress=progress)
    progress("write", 0, 0)
    print(json.dumps(stages))


# Tables and pictures


def cost_sheet(costs: list[Cost]) -> Sheet:
    head = ["images", "seconds", "CPU seconds", "CPU ms per image", "peak GiB", "AUROC", "called outliers",
            "threads"]  # fmt: skip
    lines = [
        [
            f"{cost.images:,}", f"{cost.seconds:,.0f}", f"{cost.cpu_seconds:,.0f}",
            f"{1000 * cost.cpu_seconds / cost.images:.2f}",
            f"{cost.peak_gib:.2f}", f"{cost.auroc:.4f}", f"{cost.contamination:.3f}", str(cost.threads),
        ]
        for cost in costs
    ]  # fmt: skip
    return Sheet("cleaning", head, lines, "28 x 28, made from MNIST and Fashion-MNIST by augmentation")


def stage_sheet(costs: list[Cost]) -> Sheet:
    """Where the time went: within a stage, or between its last word and the first of the next."""
    names = list(dict.fromkeys(name for cost in costs for name in cost.stages))
    lines = [
        [name, *(f"{cost.stages[name]:,.1f}" if name in cost.stages else "" for cost in costs)]
        for name in names
    ]
    return Sheet("seconds by stage", ["stage", *(f"{cost.images:,}" for cost in costs)], lines)


def scaling_figure(costs: list[Cost]) -> Figure:
    """Seconds and peak memory against images."""
    with rc_context(STYLE):
        figure = Figure(figsize=(6.4, 2.7), layout="constrained")
        time, memory = figure.subplots(1, 2)
        n = [cost.images for cost in costs]
        used = [cost.cpu_seconds for cost in costs]
        time.loglog(n, used, "o-", color=INK)
        ends = np.array([n[0], n[-1]])
        time.loglog(ends, used[-1] / n[-1] * ends, ":", color=MUTED)
        time.annotate("in proportion", (ends[0], used[-1] / n[-1] * ends[0]), xytext=(3, -3),
                      textcoords="offset points", color=MUTED, va="top", fontsize=7)  # fmt: skip
        time.set(title="seconds of one core", xlabel="images", ylim=(0.3 * used[-1] / n[-1] * n[0], None))
        memory.loglog(n, [cost.peak_gib for cost in costs], "o-", color=INK)
        memory.axhline(LIMIT, color=MUTED, linestyle=":")
        memory.annotate(
            f"{LIMIT:g} GiB", (n[0], LIMIT), xytext=(0, 2), textcoords="offset points", color=MUTED
        )
        memory.set(title="peak memory, GiB", xlabel="images", ylim=(0.3, 10))
        for cost in costs:
            time.annotate(f"{cost.cpu_seconds:,.0f}", (cost.images, cost.cpu_seconds), xytext=(-3, 4),
                          textcoords="offset points", ha="right", fontsize=7)  # fmt: skip
            memory.annotate(f"{cost.peak_gib:.1f}", (cost.images, cost.peak_gib), xytext=(0, 5),
                            textcoords="offset points", ha="center", fontsize=7)  # fmt: skip
    return figure


def benchmark_scaling(
    sizes: tuple[int, ...] = (1000, 3000),
    rate: float = 0.1,
    seed: int = 0,
    threads: int = 1,
    epochs: int | None = None,
    root: str | None = None,
    out: str = "runs/scaling",
    tracking: bool = True,
    clean: str | None = None,
) -> None:
    """Measure what cleaning costs.

    Args:
        sizes: images
        rate: share of outliers
        seed: of the set and of the cleaning
        threads: of the cleaning
        epochs: of the training and of the prior, in place of the defaults, for a quick look
        root: folder with the full sets; the committed samples without it
        out: folder of the results
        tracking: report to MLflow
        clean: for itself: the set to clean
    """
    if clean is not None:
        return clean_and_tell(clean, out, seed, threads, epochs)
    if (sizes and min(sizes) < 100) or not 0 < rate < 0.5 or threads < 1:
        raise InputError(
            f"sizes={list(sizes)}, rate={rate}, threads={threads} are out of range: "
            "sizes must be >= 100, the rate between 0 and 0.5, threads >= 1"
        )
    folder, console = Path(out), Console()
    folder.mkdir(parents=True, exist_ok=True)
    identity: dict[str, Any] = {"rate": rate, "seed": seed, "epochs": epochs, "full_set": root is not None}
    claim(folder, identity)
    with Tracker(
        "scaling", run_name="scaling", params=identity, directory=folder, enabled=tracking
    ) as tracker:
        for n in sizes:
            path = folder / f"cost-{n}.json"
            if not path.exists():
                console.print(f"{n:,} images", highlight=False)
                cost = cost_of(n, rate, root, seed, threads, epochs, folder)
                write_atomically(path, (json.dumps(cost._asdict()) + "\n").encode())
                tracker.metrics({"seconds": cost.seconds, "peak_gib": cost.peak_gib}, step=n)
        costs = sorted(Cost(**json.loads(path.read_text())) for path in folder.glob("cost-*.json"))
        made = [cost_sheet(costs), stage_sheet(costs)] if costs else []
        for sheet in made:
            console.print(as_rich(sheet))
        tracker.text(as_markdown(made), "table.md")
        if len(costs) > 1:
            tracker.figure(scaling_figure(costs), "scaling.png")
    console.print(f"kept in {folder}", highlight=False)


if __name__ == "__main__":
    sys.exit(exit_status(lambda: auto_cli(benchmark_scaling)))
