"""Does a soft quantiser in the bottleneck make better codes? Beside plain autoencoders and a hard VQ-VAE.

    python -m pipelines.soft_quantization                              # the committed samples
    python -m pipelines.soft_quantization --root ROOT --epochs 24 --batch_size 256   # full MNIST
    python -m pipelines.soft_quantization --images DOMAIN.npz                        # x and their kinds y

All models have the encoder, code and decoder of Wu and Flierl 2020 (784-500-500-2000-64 and back), and the
same training. Judged are the codes of the test images before any quantiser: by k-means, 10 clusters, whose
names are matched to the digits (Hungarian method), and by a linear classifier trained on the codes of the
training images. Labels serve the report alone. Every model's numbers and codes are kept in OUT as soon as it
is done, so that the same command continues.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import process_time
from typing import Literal, NamedTuple, cast

import matplotlib
import numpy as np
import torch
from jsonargparse import auto_cli
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression
from sklearn.manifold import TSNE
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from data.recipes import load
from pipelines.common.command import exit_status
from pipelines.common.labelled import halved, labelled_images
from pipelines.common.store import claim, read_rows, write_rows
from pipelines.common.tables import Sheet, as_markdown, as_rich, spread
from rvqvae.atomic import write_atomically
from rvqvae.devices import usable_device
from rvqvae.errors import InputError
from rvqvae.family import VAE, Autoencoder, DenoisingAE, Network, SoftVQVAE
from rvqvae.family.variational import Gaussian
from rvqvae.figures import STYLE
from rvqvae.metrics import clustering_accuracy, clustering_nmi
from rvqvae.tracking.runs import Tracker

TARGET = 0.78
PUBLISHED = {"soft VQ-VAE": "0.780", "soft VQ-VAE, as released": "0.780"}
"""Clustering accuracy on MNIST: the output of the authors' notebook, one run. Of the tables of the paper, and
so of the other rows, no text was available."""
WIDTH = 130
POINTS = 2000
"""Codes that the picture shows: more would hide each other."""
COLOURS = matplotlib.colormaps["tab10"]


class WeightedVAE(VAE):
    """As the authors weigh it: 784 x squared error over the data's variance, plus 20 x KL.

    Divided by 20, this is a normal likelihood whose variance is 10 times the data's.
    """

    variance = 0.095  # of MNIST's pixels

    def _network(self, shape: tuple[int, ...]) -> Network:
        network = cast(Gaussian, super()._network(shape))
        network.log_variance.requires_grad_(False).fill_(np.log(10 * self.variance))
        return network


MODELS: dict[str, Callable[..., Autoencoder]] = {
    "AE": Autoencoder,
    "VAE": VAE,
    "VAE, authors' weight": WeightedVAE,
    "denoising AE": DenoisingAE,
    "hard VQ-VAE": lambda **settings: SoftVQVAE(weighting="nearest", **settings),
    "soft VQ-VAE": SoftVQVAE,
    "soft VQ-VAE, as released": lambda **settings: SoftVQVAE(weighting="released", **settings),
}
SHOWN = ("hard VQ-VAE", "soft VQ-VAE", "soft VQ-VAE, as released")
"""In the picture, where there are two of them at least."""


class Row(NamedTuple):
    """One model and seed."""

    model: str
    seed: int
    accuracy: float
    """Of k-means on the test images' codes."""
    nmi: float
    linear: float
    """Accuracy of the linear classifier on the test images."""
    error: float
    """Mean squared error on the test images over the variance of their pixels (NMSE)."""
    seen: int
    """Images shown in training, over all epochs."""
    seconds: float
    """Of the CPU, for the training."""


def soft_quantization(
    models: tuple[str, ...] = tuple(MODELS),
    seeds: tuple[int, ...] = (0,),
    epochs: int = 20,
    batch_size: int = 128,
    learning_rate: float = 1e-3,
    precision: Literal["float32", "bfloat16"] = "float32",
    restarts: int = 100,
    root: str | None = None,
    images: str | None = None,
    out: str = "runs/soft_quantization",
    tracking: bool = True,
) -> None:
    """Compare the codes.

    Args:
        models: those to train, as the table names them
        seeds: of the trainings and of k-means
        epochs: passes over the training images, of every model
        batch_size: images per step
        learning_rate: peak of the one-cycle schedule
        precision: of the matrix products in training, of every model; weights and quantiser stay float32
        restarts: of k-means, the best of which counts
        root: folder with the full set as torchvision stores it; the committed samples without it
        images: a .npz of other images, uint8 x, and their kinds y; a sixth of them is held out
        out: folder of the results
        tracking: report to MLflow
    """
    folder, console = Path(out), Console()
    if unknown := [name for name in models if name not in MODELS]:
        raise InputError(f"models={unknown} are unknown: choose from {'; '.join(MODELS)}")
    if not seeds or min(seeds) < 0:
        raise InputError(f"seeds={list(seeds)} are out of range: give at least one, each >= 0")
    if restarts < 1:
        raise InputError(f"restarts={restarts} is out of range: it must be >= 1")
    settings = {"epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate}
    if images is not None and root is not None:
        raise InputError(f"root={root!r} and images={images!r} are two sets: give one of them")
    data = {"full_set": root is not None} | ({"images": images} if images else {})
    claim(folder, data | {"restarts": restarts, "precision": precision} | settings)
    if images is None:
        train, test = load("mnist", root), load("mnist", root, train=False)
    else:
        train, test = halved(*labelled_images(images))
    rows = read_rows(folder / "rows.csv", Row)
    missing = [(m, s) for s in seeds for m in models if (m, s) not in {row[:2] for row in rows}]
    params = settings | {"models": models, "seeds": seeds, "restarts": restarts, "full_set": root is not None}
    params |= {"precision": precision}
    title = f"k-means on {len(test[0]):,} test images"
    bar = Progress(console=console, disable=not console.is_terminal)
    with Tracker(
        "soft_quantization", run_name=title, params=params, directory=folder, enabled=tracking
    ) as run:
        with bar:
            task = bar.add_task("start", total=epochs * len(missing))
            for name, seed in missing:
                bar.update(task, description=f"{name}, seed {seed}")
                model = MODELS[name](
                    hidden=(500, 500, 2000), latent_dim=64, random_state=seed,
                    directory=folder / "trainings" / f"{name}-seed{seed}",
                    progress=lambda *_: bar.update(task, advance=1), **settings,
                )  # fmt: skip
                row, codes = measure(name, model, train, test, restarts, precision)
                rows.append(row)
                keep(folder, row, codes, test[1])
                write_rows(folder / "rows.csv", Row, rows)
                numbers = {key: getattr(row, key) for key in ("accuracy", "nmi", "linear", "error")}
                run.metrics({f"{name}/{key}": value for key, value in numbers.items()}, step=seed)
        sheet = table(rows, title, published=images is None)
        console.width = max(console.width, WIDTH)
        console.print(as_rich(sheet))
        run.text(as_markdown([sheet]), "table.md")
        run.artifact(folder / "rows.csv")
        first = {row.model: row for row in rows if row.seed == seeds[0]}
        shown = [name for name in SHOWN if name in first]
        if len(shown) > 1 and images is None:
            panels = {name: (*kept(folder, first[name]), first[name].accuracy) for name in shown}
            run.figure(latents_figure(panels, seeds[0]), "latents.png")
    console.print(f"kept in {folder}", highlight=False)


def measure(
    name: str,
    model: Autoencoder,
    train: tuple[NDArray[np.uint8], NDArray[np.int64]],
    test: tuple[NDArray[np.uint8], NDArray[np.int64]],
    restarts: int,
    precision: str = "float32",
) -> tuple[Row, NDArray[np.float32]]:
    """Train on images alone, then judge; with the codes of the test images."""
    begin = process_time()
    device = usable_device(model.device).partition(":")[0]
    # Without its cache, which keeps the weights of the first step for as long as the context is open.
    with torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16", cache_enabled=False):
        model.fit(train[0])
    seconds = process_time() - begin
    codes, seed = model.encode(test[0]), int(cast(int, model.random_state))
    kinds = len(np.unique(train[1]))
    clusters = KMeans(kinds, n_init=restarts, random_state=seed).fit_predict(codes)
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=200, tol=1e-3))
    probe.fit(model.encode(train[0]), train[1])
    wrong = np.square(model.reconstruct(test[0]).astype(np.float32) - test[0]).mean(dtype=np.float64)
    return Row(
        name, seed, clustering_accuracy(test[1], clusters), clustering_nmi(test[1], clusters),
        float(probe.score(codes, test[1])), float(wrong / test[0].var()),
        model.epochs * len(train[0]), round(seconds, 1),
    ), codes  # fmt: skip


def table(rows: Sequence[Row], title: str, published: bool = True) -> Sheet:
    """A line for each model: mean and standard deviation of the seeds; then, of digits, the targets."""
    head = [
        "model",
        "clustering accuracy",
        "published",
        "NMI",
        "linear accuracy",
        "NMSE",
        "seen",
        "CPU seconds",
    ]
    lines, mean = [], {}
    for name in [name for name in MODELS if any(row.model == name for row in rows)]:
        here = [row for row in rows if row.model == name]
        mean[name] = float(np.mean([row.accuracy for row in here]))
        lines.append(
            [name, spread([row.accuracy for row in here]), PUBLISHED.get(name, "") if published else ""]
            + [spread([getattr(row, key) for row in here]) for key in ("nmi", "linear", "error")]
            + [f"{here[0].seen:,}", f"{np.mean([row.seconds for row in here]):.0f}"]
        )
    return Sheet(title, head, lines, verdict(mean) if published else "")


def verdict(mean: dict[str, float]) -> str:
    """Whether each soft VQ-VAE's clustering accuracy reaches the target, and beats each other model."""
    others = {name: value for name, value in mean.items() if not name.startswith("soft")}
    said = []
    for soft in [name for name in mean if name.startswith("soft")]:
        words = [f"{soft} {mean[soft]:.3f}, {'at least' if mean[soft] >= TARGET else 'missed'} {TARGET}"]
        words += [
            f"{'above' if mean[soft] > value else 'NOT above'} {name}" for name, value in others.items()
        ]
        said.append("; ".join(words))
    return "target: " + ". ".join(said) if said else ""


def keep(folder: Path, row: Row, codes: NDArray[np.float32], labels: NDArray[np.int64]) -> None:
    """The codes, for the picture."""
    content = io.BytesIO()
    np.savez_compressed(content, codes=codes, labels=labels)
    write_atomically(array(folder, row), content.getvalue())


def kept(folder: Path, row: Row) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    with np.load(array(folder, row)) as arrays:
        return arrays["codes"], arrays["labels"]


def array(folder: Path, row: Row) -> Path:
    return folder / "arrays" / f"{row.model.replace(' ', '-')}-seed{row.seed}.npz"


def latents_figure(
    panels: dict[str, tuple[NDArray[np.float32], NDArray[np.int64], float]], seed: int
) -> Figure:
    """``panels``: codes (N, D), digits (N,) and clustering accuracy of each model, side by side."""
    with matplotlib.rc_context(STYLE):
        figure = Figure((4.4 * len(panels), 5.0), layout="constrained")
        axes = figure.subplots(1, len(panels), squeeze=False)[0]
        for panel, (name, (codes, labels, accuracy)) in zip(axes, panels.items(), strict=True):
            points, digits = project(codes[:POINTS], seed), labels[:POINTS]
            panel.scatter(*points.T, s=7, linewidths=0, alpha=0.75, color=COLOURS(digits))
            panel.set_title(f"{name}: clustering accuracy {accuracy:.3f}")
            panel.set(xticks=[], yticks=[])
            panel.spines[:].set_visible(False)
        handles = [
            Line2D([], [], marker="o", linestyle="", markersize=6, color=COLOURS(digit), label=str(digit))
            for digit in range(10)
        ]
        figure.legend(handles=handles, title="digit (not known to the models)", loc="outside lower center",
                      ncols=10, columnspacing=1.2, handletextpad=0.1)  # fmt: skip
        figure.suptitle("Codes before the quantiser, test digits, t-SNE", x=0.01, ha="left", fontsize=11)
    return figure


def project(codes: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    """(N, D) -> (N, 2) by t-SNE, which keeps neighbours and not distances."""
    perplexity = min(30.0, (len(codes) - 1) / 3)
    return TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(codes)


def main(arguments: list[str] | None = None) -> int:
    return exit_status(lambda: auto_cli(soft_quantization, args=arguments))


if __name__ == "__main__":
    sys.exit(main())
