"""Does a Robust VQ-VAE trained on dirty data generate clean images?

    python -m pipelines.robust_generation                                   # about 5 minutes on 2 cores
    python -m pipelines.robust_generation --config configs/mnist_fashion.yaml --root DATASETS
    python -m pipelines.robust_generation --inliers fashion_mnist --outliers mnist
    python -m pipelines.robust_generation --inliers ICONS.npz --outliers PHOTOS.npz --side 32

Contaminates a set, trains four models on it, fits a PixelCNN prior to the codes of what each of them
keeps, samples, and measures the samples against clean held-out images. The truth serves the
contamination and the report, never a model. The same command resumes a run that was cut short.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from pipelines.common.command import exit_status
from pipelines.common.store import claim, write_rows
from pipelines.common.tables import as_markdown, as_rich
from pipelines.generation.methods import SHOWN, run_method
from pipelines.generation.reference import Images, Reference, load_reference
from pipelines.generation.settings import FREE, Settings, parse
from pipelines.generation.sources import pair
from pipelines.generation.table import csv_table, sheet
from rvqvae.atomic import write_atomically
from rvqvae.contamination import Contaminated, contaminate
from rvqvae.detector import detect
from rvqvae.errors import InputError
from rvqvae.figures import generation_figure
from rvqvae.membership import Membership
from rvqvae.tracking.runs import Tracker

Row = dict[str, Any]
TITLES = {
    "oracle": "oracle", "robust": "Robust VQ-VAE", "literal": "literal rule", "plain": "plain VQ-VAE",
    "judge": "clean, then train", "iforest": "IForest, then train", "knn": "kNN, then train",
}  # fmt: skip


class Truth(NamedTuple):
    """About one image of a mixture; where it comes from, among the inliers or among the outliers."""

    index: int
    is_outlier: int
    source_index: int


def truth_of(mixture: Contaminated) -> list[Truth]:
    truth = zip(mixture.is_outlier.tolist(), mixture.source_index.tolist(), strict=True)
    return [Truth(index, int(outlier), source) for index, (outlier, source) in enumerate(truth)]


def run_seed(
    seed: int,
    mixture: Contaminated,
    reference: Callable[[], Reference],
    settings: Settings,
    parent: Tracker,
    show: Callable[[str, int], object],
) -> list[Row]:
    """The rows of one seed: clean training images as they are, then every method. Finished ones are read."""
    manifest = parent.directory / f"manifest-seed{seed}.csv"
    write_rows(manifest, Truth, truth_of(mixture))
    parent.artifact(manifest)
    digest = fingerprint(settings, seed, mixture)
    paths = {name: parent.directory / f"{name}-seed{seed}" / "results.json" for name in settings.rows}
    rows = {name: row for name, path in paths.items() if (row := finished(path, digest))}
    if len(rows) < len(paths):
        show(f"judge and features, seed {seed}", 0)
        found = detect(mixture.images, seed=seed)
        start = Membership(found.judged.log_odds - found.cut)
    for name, path in paths.items():
        if name in rows:
            show(f"{name}, seed {seed}", settings.passes if name != "real" else 0)
            continue
        show(f"{name}, seed {seed}", 0)
        if name == "real":
            clean = mixture.images[~mixture.is_outlier]
            rows[name] = reference().measure(clean[: settings.samples], clean)
        else:
            params = {"method": name} | settings.identity | {"seed": seed}
            with parent.child(path.parent.name, params) as child:
                rows[name] = run_method(
                    name, mixture, start, reference(), settings, seed, child, lambda: show("", 1)
                )  # fmt: skip
        rows[name] = {"method": name, "seed": seed} | rows[name]
        write_json(path, {"fingerprint": digest} | rows[name])
    return [rows[name] for name in paths]


def run(settings: Settings, console: Console) -> None:
    """The whole experiment, or what is left of it."""
    sources = pair(settings.inliers, settings.outliers, settings.root, settings.side)
    names = [Path(name).stem for name in (settings.inliers, settings.outliers)]
    pools = [source.training[0] for source in sources]
    held_out = [source.held_out for source in sources]
    mixtures = {s: contaminate(*pools, settings.rate, s, total=settings.total) for s in settings.seeds}
    out = Path(settings.out)
    claim(out, asdict(settings), FREE)
    progress = Progress(
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:.0f} %,"),
        TimeRemainingColumn(), TextColumn("left"), console=console, disable=not console.is_terminal,
    )  # fmt: skip
    parent = Tracker(
        "robust_generation",
        run_name=f"{' / '.join(names)}, {settings.rate:g}",
        params=settings.identity,
        directory=out,
        enabled=settings.tracking,
    )
    with parent, progress:
        parent.artifact(out / "config.yaml")
        task = progress.add_task("start", total=len(settings.seeds) * len(settings.methods) * settings.passes)

        def show(description: str, advance: int) -> None:
            progress.update(task, advance=advance, description=description or None)
            if description and not console.is_terminal:
                console.print(description)

        reference = cache(lambda: load_reference(*held_out, settings.samples))
        rows = [row for s, m in mixtures.items() for row in run_seed(s, m, reference, settings, parent, show)]
        note = (
            f"{settings.rate:.0%} {names[1]} among {names[0]}, "
            f"{len(mixtures[settings.seeds[0]].images):,} images, {settings.samples:,} samples, "
            f"{min(settings.samples, len(held_out[0][0])):,} reference images"
        )
        parent.metrics(means(rows))
        parent.text(as_markdown([sheet(rows, note)]), "table.md")
        parent.text(csv_table(rows), "table.csv")
        write_json(out / "results.json", {"settings": asdict(settings), "note": note, "rows": rows})
        parent.artifact(out / "results.json")
        parent.figure(
            overview(out, settings, mixtures[settings.seeds[0]], held_out[0][0], rows), "generation.png"
        )
    console.print(as_rich(sheet(rows, note)))
    console.print(f"kept in {out}", highlight=False)


def means(rows: list[Row]) -> dict[str, float]:
    """Of each method and figure over the seeds, as MLflow's list of runs compares experiments by them."""
    values: dict[str, list[float]] = {}
    for row in rows:
        for key, value in row.items():
            if key != "seed" and isinstance(value, int | float):
                values.setdefault(f"{row['method']}.{key}", []).append(value)
    return {name: float(np.mean(some)) for name, some in values.items()}


def overview(out: Path, settings: Settings, mixture: Contaminated, real: Images, rows: list[Row]) -> Figure:
    """What each model makes of the same data; what does not belong is framed."""
    pictures = {"training data": mixture.images[:SHOWN], "real": real[:SHOWN]}
    flagged = {"training data": mixture.is_outlier[:SHOWN]}
    captions = {"training data": f"{settings.rate:.0%} outliers", "real": "clean test images"}
    for row in rows:
        method = row["method"]
        if row["seed"] == settings.seeds[0] and method != "real":
            with np.load(out / f"{method}-seed{row['seed']}" / "samples.npz") as arrays:
                pictures[TITLES[method]] = arrays["x"][:SHOWN]
                flagged[TITLES[method]] = ~arrays["is_inlier"][:SHOWN]
            captions[TITLES[method]] = f"purity {row['purity']:.1%}"
    note = "Framed: outliers in the data, and samples that the judge calls outliers."
    return generation_figure(pictures, captions, flagged, note=note)


def fingerprint(settings: Settings, seed: int, mixture: Contaminated) -> str:
    digest = hashlib.sha256(mixture.images.tobytes())
    digest.update(repr((sorted(settings.identity.items()), seed, mixture.is_outlier.tolist())).encode())
    return digest.hexdigest()


def finished(path: Path, digest: str) -> Row | None:
    """The row at ``path``, if there is one."""
    if not path.exists():
        return None
    row = json.loads(path.read_text(encoding="utf-8"))
    if row.pop("fingerprint") != digest:
        raise InputError(f"{path} belongs to another experiment: choose another folder")
    return row


def write_json(path: Path, content: Any) -> None:
    write_atomically(path, (json.dumps(content, indent=2) + "\n").encode())


def main(arguments: list[str] | None = None) -> int:
    console = Console(stderr=False)
    return exit_status(lambda: run(parse(arguments, __doc__ or ""), console))


if __name__ == "__main__":
    sys.exit(main())
