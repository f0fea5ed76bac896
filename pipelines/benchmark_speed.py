"""How long everything takes, each beside the ready alternative or the aim, in one run.

    uv run --group peers python -m pipelines.benchmark_speed    # all, in tens of minutes
    python -m pipelines.benchmark_speed --only cleaning --folder PHOTOS    # of your own images
    python -m pipelines.benchmark_speed --only sampling --rounds 5

Without the group of peers, what they are compared with is left out.

Both sides of a ratio take turns, so that a busy machine slows both; a ratio is the median over the turns.

- cleaning: the command line, beside CleanVision and PyOD; see `pipelines.benchmark_clean`.
- experiment: CPU seconds of `pipelines.robust_generation` as it is run by default.
- training: `rvqvae.vqvae.training.fit` on the committed MNIST sample, with all that it does by default
  (perceptual loss, evidence, sets, dead codes, records), and doing the same work (squared error and one set),
  against pythae's VQVAE (moving averages, as many codes) with the same encoder, decoder and batch size in
  pythae's trainer, only the passes over the data counted; and against the least that a user would write, one
  codebook in a plain loop.
- error: CPU seconds until the squared error of held-out digits is at most that of pythae's VQVAE after
  5 epochs (Adam at 1e-3): the shortest of our trainings of 1, 2, 3, 5 and 8 epochs that gets there, by
  default and with the squared error alone. One turn.
- quantiser: forward and backward of both codebooks by the function that training calls (`quantize_by_set`:
  nearest codewords, moving averages, straight-through, commitment), against vector-quantize-pytorch's
  VectorQuantize (moving averages, commitment, otherwise its defaults), 512 codes of 64 each, on
  128 x 49 x 64 values.
- sampling: the incremental sampler against the network at every position, of which only the forward passes
  count, in float32; and images of 28 x 28 per minute, drawn, decoded and as uint8.
- answers: eight answers about groups, each learned from and followed by interval and questions, of 1,000,
  20,000 and a million samples of 96 dimensions in Python, of 1,000 and 20,000 on the review page in Chromium,
  drawing included; the aim is .3 seconds each, 5 for a million.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table

from data.recipes import load
from pipelines.benchmark_clean import cleaning
from pipelines.common.command import exit_status
from pipelines.common.timing import Line, compare, cost_of, rate
from pipelines.generation.settings import Settings
from rvqvae.config import ModelConfig, PriorConfig, TrainConfig
from rvqvae.io.arrays import as_nchw
from rvqvae.io.manifest import Row
from rvqvae.membership import Membership
from rvqvae.membership.answers import Quantised
from rvqvae.priors import GatedPixelCNN
from rvqvae.questions import Inquiry
from rvqvae.report import Pictures, View, write_report
from rvqvae.vqvae.codebook import Codebook, quantize_by_set, straight_through
from rvqvae.vqvae.inference import decode_codes, reconstruction_errors
from rvqvae.vqvae.model import TwoCodebookVQVAE
from rvqvae.vqvae.networks import build_networks, to_float
from rvqvae.vqvae.training import fit


class Options(NamedTuple):
    """What can be chosen."""

    rounds: int
    """Turns of each comparison."""
    folder: str | None
    """Images to clean; None for digits with clothes."""
    total: int
    """How many of these."""
    root: str | None
    """Where the full sets are; None for the committed samples."""


# Whole commands


def experiment() -> Iterator[Line]:
    with TemporaryDirectory() as folder:
        job = [sys.executable, "-m", "pipelines.robust_generation", "--out", folder, "--tracking", "false"]
        took = cost_of(job).cpu
    yield Line("the main experiment", "the aim", "CPU s", took, 300, 300 / took, 1)


# Training


def training(rounds: int, epochs: int = 2) -> Iterator[Line]:
    images = as_nchw(load("mnist")[0])
    model, batch_size = ModelConfig(), Settings().train.batch_size
    work = epochs * len(images)

    def ours() -> float:
        train = TrainConfig(epochs=epochs, warmup_epochs=0, batch_size=batch_size)
        odds = np.where(np.arange(len(images)) % 10 < 3, 1.0, -1.0)
        fit(images, model, train, seed=0, start=Membership(odds))
        return work

    def same() -> float:
        train = TrainConfig(epochs=epochs, batch_size=batch_size, perceptual=0, membership="all")
        fit(images, model, train, seed=0)
        return work

    def plain() -> float:
        train_plain(torch.as_tensor(images), model, batch_size, epochs)
        return work

    yield compare("training", "a plain VQ-VAE loop", "images/s", ours, plain, 0.75, rounds)
    if find_spec("pythae"):

        def theirs() -> float:
            pythae_trained(images, model, batch_size, epochs)
            return work

        yield compare("training", "pythae's VQVAE", "images/s", ours, theirs, 1.0, rounds)
        yield compare("training, the same work", "pythae's VQVAE", "images/s", same, theirs, 1.0, rounds)


def error(rounds: int, epochs: int = 5) -> Iterator[Line]:
    if not find_spec("pythae"):
        return
    images, held_out = (as_nchw(load("mnist", train=train)[0]) for train in (True, False))
    model, x = ModelConfig(), to_float(torch.as_tensor(held_out))
    # What both import when they are first used is no training.
    pythae_trained(images[:64], model, 64, 1)
    fit(images[:64], model, TrainConfig(epochs=1, membership="all"), seed=0)
    begin = process_time()
    theirs = pythae_trained(images, model, Settings().train.batch_size, epochs)
    took = process_time() - begin
    with torch.inference_mode():
        goal = float((theirs.eval()({"data": x}).recon_x.reshape(x.shape) - x).square().mean())
    for title, change in (("error", {}), ("error, squared error alone", {"perceptual": 0.0})):
        for ours in (1, 2, 3, 5, 8):
            train = TrainConfig(epochs=ours, membership="all", **change)
            begin = process_time()
            fitted = fit(images, model, train, seed=0)
            seconds = process_time() - begin
            if reconstruction_errors(fitted.model, held_out).mean() <= goal:
                yield Line(title, f"pythae's VQVAE, {goal:.4f}", "CPU s", seconds, took, took / seconds, 1.5)
                break
        else:
            yield Line(title, f"pythae's VQVAE, {goal:.4f}", "CPU s", np.inf, took, 0.0, 1.5)


def train_plain(data: torch.Tensor, config: ModelConfig, batch_size: int, epochs: int) -> None:
    """A VQ-VAE with moving averages: no recording, no clipping."""
    torch.manual_seed(0)
    encoder, decoder = build_networks(tuple(data.shape[1:]), config)
    book = Codebook(config.inlier_codes, config)
    optimizer = torch.optim.AdamW([*encoder.parameters(), *decoder.parameters()], lr=1e-3)
    batches = [rows for _ in range(epochs) for rows in torch.randperm(len(data)).split(batch_size)]
    for i, rows in enumerate(batches):
        x = to_float(data[rows])
        grid = encoder(x)
        z = grid.permute(0, 2, 3, 1).reshape(-1, config.code_dim)
        if i == 0:
            book.kmeans_init(z.detach(), torch.Generator().manual_seed(0))
        found = book(z)
        q = straight_through(z, found.vectors).reshape(len(x), *grid.shape[2:], -1).permute(0, 3, 1, 2)
        loss = F.mse_loss(decoder(q), x) / 0.1 + config.commitment * F.mse_loss(z, found.vectors)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        book.ema_update(z.detach(), found.codes)


def pythae_trained(images: np.ndarray, config: ModelConfig, batch_size: int, epochs: int) -> torch.nn.Module:
    """pythae's VQVAE with our networks, trained by its own trainer."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pythae.data.datasets import BaseDataset
        from pythae.models import VQVAE, VQVAEConfig
        from pythae.models.base.base_utils import ModelOutput
        from pythae.models.nn import BaseDecoder, BaseEncoder
        from pythae.trainers import BaseTrainer, BaseTrainerConfig
    logging.getLogger("pythae").setLevel(logging.WARNING)

    class Encoder(BaseEncoder):
        def __init__(self, network: torch.nn.Module) -> None:
            super().__init__()
            self.network = network

        def forward(self, x: torch.Tensor) -> ModelOutput:
            return ModelOutput(embedding=self.network(x))

    class Decoder(BaseDecoder):
        def __init__(self, network: torch.nn.Module) -> None:
            super().__init__()
            self.network = network

        def forward(self, z: torch.Tensor) -> ModelOutput:
            return ModelOutput(reconstruction=self.network(z))

    shape = images.shape[1:]
    data = BaseDataset(to_float(torch.as_tensor(images)), torch.zeros(len(images)))

    encoder, decoder = build_networks(shape, config)
    settings = VQVAEConfig(
        input_dim=shape, latent_dim=config.code_dim, num_embeddings=config.inlier_codes,
        use_ema=True, decay=config.decay, commitment_loss_factor=config.commitment,
    )  # fmt: skip
    with TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        trainer = BaseTrainer(
            VQVAE(settings, Encoder(encoder), Decoder(decoder)),
            data,
            training_config=BaseTrainerConfig(
                output_dir=folder, num_epochs=epochs, learning_rate=1e-3, no_cuda=True,
                per_device_train_batch_size=batch_size,
            ),
        )  # fmt: skip
        trainer.prepare_training()
        for epoch in range(1, epochs + 1):
            trainer.train_step(epoch)
    return trainer.model


# Quantiser


def quantiser(rounds: int, codes: int = 512, dim: int = 64) -> Iterator[Line]:
    if not find_spec("vector_quantize_pytorch"):
        return
    from vector_quantize_pytorch import VectorQuantize

    config = ModelConfig(code_dim=dim)
    generator = torch.Generator().manual_seed(0)
    data = torch.randn(128, 49, dim, generator=generator)
    inliers, outliers = Codebook(codes, config), Codebook(codes, config)
    for book in (inliers, outliers):
        book.kmeans_init(data.flatten(0, 1), generator)
    is_outlier = (torch.arange(len(data)) % 10 < 3).repeat_interleave(data.shape[1])
    peer = VectorQuantize(dim, codes, decay=config.decay, commitment_weight=config.commitment)
    repeats = 10

    def ours() -> float:
        for _ in range(repeats):
            x = data.clone().requires_grad_()
            z = x.flatten(0, 1)
            found = quantize_by_set(inliers, outliers, z, is_outlier)
            commitment = (z - found.vectors.detach()).square().mean()
            (straight_through(z, found.vectors).mean() + config.commitment * commitment).backward()
        return repeats

    def theirs() -> float:
        for _ in range(repeats):
            x = data.clone().requires_grad_()
            quantized, _, loss = peer(x)
            (quantized.mean() + loss.sum()).backward()
        return repeats

    unit = "batches/s"
    yield compare("both codebooks", "one VectorQuantize, default", unit, ours, theirs, 2.0, 2 * rounds)
    peer = VectorQuantize(
        dim, codes, decay=config.decay, commitment_weight=config.commitment, rotation_trick=False
    )
    yield compare("both codebooks", "the same, straight-through", unit, ours, theirs, 2.0, 2 * rounds)


# Sampling


def sampling(rounds: int, images: int = 128) -> Iterator[Line]:
    torch.manual_seed(0)
    config = ModelConfig()
    prior = GatedPixelCNN(config.inlier_codes, PriorConfig()).eval()
    for side, aim in ((7, 8.0), (16, 20.0)):
        codes = torch.zeros(images, side, side, dtype=torch.int64)

        def ours(side: int = side) -> float:
            return len(prior.sample(images, (side, side), seed=0))

        def theirs(codes: torch.Tensor = codes) -> float:
            """One pass stands for all, which are equal."""
            with torch.no_grad():
                prior(codes)
            return len(codes) / codes[0].numel()

        title = f"sampling {side} x {side} grids"
        yield compare(title, "the network per position", "grids/s", ours, theirs, aim, rounds)
    model = TwoCodebookVQVAE((1, 28, 28), config).eval()

    def end_to_end() -> float:
        return len(decode_codes(model, prior.sample(8 * images, model.grid, seed=0))) * 60

    speed = float(np.median([rate(end_to_end) for _ in range(rounds + 1)][1:]))
    yield Line("sampling 28 x 28 images", "the aim", "images/min", speed, 2000, speed / 2000, 1.0)


# Answers


def answers(rounds: int, width: int = 96, said: int = 8) -> Iterator[Line]:
    for n, aim in ((1000, 200), (20_000, 200), (1_000_000, 12)):
        rng = np.random.default_rng(0)
        groups = rng.integers(32, size=n)
        vectors = rng.normal(size=(32, width)).astype(np.float32)[groups]
        for begin in range(0, n, 50_000):
            part = vectors[begin : begin + 50_000]
            part += rng.standard_normal(part.shape, np.float32)
        log_odds = rng.normal(-1, 2, n)
        inquiry = Inquiry(Quantised.of(vectors), groups, log_odds)
        inquiry.ask(3, 0.0)

        def ours(inquiry: Inquiry = inquiry) -> float:
            for step in range(said):
                inquiry.answer({inquiry.ask(3, 0.0)[0].id: bool(step % 2)}, 0.0)
                inquiry.interval(0.0, (-4.0, 4.0))
            return 60 * said

        turns = [rate(ours) for _ in range(1 if n > 100_000 else rounds)]
        yield Line(
            f"answers, {n:,} samples", "the aim", "a minute", speed := min(turns), aim, speed / aim, 1.0
        )
        if n <= 20_000 and (chromium := shutil.which("chromium") or shutil.which("google-chrome")):
            speed = page_speed(chromium, View(vectors, rng.random((n, 2)), groups, log_odds), said)
            yield Line(f"on the page, {n:,}", "the aim", "a minute", speed, aim, speed / aim, 1.0)


def page_speed(chromium: str, view: View, said: int) -> float:
    """Answers a minute on a review page, each until it is drawn."""
    from playwright.sync_api import sync_playwright

    n, p = len(view.vectors), 1 / (1 + np.exp(-view.log_odds))
    rows = [Row(f"{i}.png", str(i), "ok", -float(v), float(v), v <= 0.5, "") for i, v in enumerate(p)]
    counts = {"images": n, "kept": n, "dropped": 0, "unreadable": 0, "duplicates": 0}
    rate = {"contamination": 0.2, "contamination_interval": [0.1, 0.3], "verdict": "contaminated"}
    pictures = Pictures(np.zeros((n, 1, 16, 16), np.uint8), np.arange(n))
    with TemporaryDirectory() as folder, sync_playwright() as playwright:
        path = Path(folder) / "report.html"
        write_report(
            path, title="", summary=counts | rate, rows=rows, threshold=0.5, pictures=pictures, view=view
        )
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(path.as_uri())
        took = page.evaluate(
            """async (said) => {
              const begin = performance.now();
              for (let step = 0; step < said; step++) {
                answer(step % 2 ? 1 : -1);
                await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
              }
              return performance.now() - begin;
            }""",
            said,
        )
        browser.close()
    return 60_000 * said / float(took)


PARTS: dict[str, Callable[[Options], Iterator[Line]]] = {
    "cleaning": lambda chosen: cleaning(chosen.folder, chosen.total, chosen.root),
    "training": lambda chosen: training(chosen.rounds),
    "error": lambda chosen: error(chosen.rounds),
    "quantiser": lambda chosen: quantiser(chosen.rounds),
    "sampling": lambda chosen: sampling(chosen.rounds),
    "answers": lambda chosen: answers(chosen.rounds),
    "experiment": lambda chosen: experiment(),
}


def benchmark(parts: list[str], chosen: Options) -> None:
    table, console = Table("", "beside", "unit", "ours", "theirs", "ratio", "aim"), Console()
    for name in parts:
        console.print(f"{name} ...", highlight=False)
        for line in PARTS[name](chosen):
            amounts = (f"{value:,.0f}" if value >= 100 else f"{value:.3g}" for value in line[3:5])
            table.add_row(*line[:3], *amounts, f"{line.ratio:.2f}", f">= {line.aim:g}")
    console.print(f"{torch.get_num_threads()} threads, torch {torch.__version__}", highlight=False)
    console.print(table)
    for library in ("cleanvision", "pyod", "pythae", "vector_quantize_pytorch"):
        if not find_spec(library):
            console.print(f"{library} is not installed, so it is left out: uv sync --group peers")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.benchmark_speed",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", choices=PARTS, help="one of the parts")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each comparison (default: 3)")
    parser.add_argument("--folder", help="images to clean (default: digits with 20 %% clothes)")
    parser.add_argument("--total", type=int, default=5000, help="digits to clean (default: 5000)")
    parser.add_argument("--root", help="folder with the full sets (default: the committed samples)")
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        parser.error(f"--rounds {options.rounds} is out of range: it must be >= 1")
    chosen = Options(options.rounds, options.folder, options.total, options.root)
    return exit_status(lambda: benchmark([options.only] if options.only else list(PARTS), chosen))


if __name__ == "__main__":
    sys.exit(main())
