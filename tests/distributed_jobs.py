"""What tests/test_distributed.py runs in one and in several processes: distributed_jobs.py IMAGES OUT PORT...

One launch for all of it, as importing torch takes longer than the work: two commands, then jobs that are
compared number by number, then a job in which a rank dies.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import safetensors.torch  # noqa: F401  It keeps a table of dtypes, made when it is first imported.
import torch

from data.recipes import load
from rvqvae.commands.main import main
from rvqvae.config import ModelConfig, PriorConfig, TrainConfig
from rvqvae.distributed import World, current, joined, lead, together
from rvqvae.errors import InputError
from rvqvae.features.perceptual import _stages
from rvqvae.features.pretrained import extract_features
from rvqvae.membership import Membership
from rvqvae.priors import fit_prior
from rvqvae.vqvae.inference import compete, evidence, inlier_codes, reconstruction_errors
from rvqvae.vqvae.training import fit

MODEL = ModelConfig(channels=8, residual_blocks=1, code_dim=4, inlier_codes=12, outlier_codes=6)
# 41 samples in batches of 20: the last has one, so that a second rank has none of it.
N, TRAIN = 41, TrainConfig(epochs=2, batch_size=20, warmup_epochs=1)


def samples() -> tuple[np.ndarray, Membership]:
    """Digits, then 6 clothes, fewer than batches: parts without outliers are certain."""
    images = np.concatenate([load("mnist")[0][: N - 6], load("fashion_mnist")[0][:6]])[:, None, ::2, ::2]
    return np.ascontiguousarray(images), Membership(np.where(np.arange(N) >= N - 6, 0.5, -0.5))


def train(world: World) -> dict[str, Any]:
    """Weights, sets, records and what the model says of other numbers of samples, of whole batches or not."""
    images, start = samples()
    done = fit(images, MODEL, TRAIN, seed=0, start=start)
    contest = compete(done.model, images)
    found = evidence(contest, done.membership.is_outlier)
    return {
        **{f"model.{name}": tensor.numpy() for name, tensor in done.model.state_dict().items()},
        "log_odds": done.membership.log_odds,
        "history": np.array([list(epoch.values()) for epoch in done.history]),
        "codes": inlier_codes(done.model, images).numpy(),
        "errors": reconstruction_errors(done.model, np.concatenate([images] * 14)),
        **found._asdict(),
    }


def vectors(world: World) -> dict[str, Any]:
    """The same of vectors, with a codebook and a soft bottleneck learned by gradient; no outlier at all."""
    x = np.random.default_rng(0).normal(size=(30, 5)).astype(np.float32)
    model = ModelConfig(channels=4, code_dim=4, inlier_codes=6, outlier_codes=4, bottleneck="soft",
                        update="gradient", distance="inverse_std")  # fmt: skip
    done = fit(x, model, TrainConfig(epochs=2, batch_size=7, membership="all"), seed=1)
    return {name: tensor.numpy() for name, tensor in done.model.state_dict().items()}


def prior(world: World) -> dict[str, Any]:
    """Weights and records, with dropout, classes and weights; the last batch has one grid."""
    codes = (torch.arange(12).view(3, 4) + torch.arange(21)[:, None, None] % 3) % 5
    history: list[float] = []
    made = fit_prior(
        codes, 5, PriorConfig(channels=8, layers=1, epochs=12, batch_size=10), seed=0,
        labels=torch.arange(21) % 2, n_classes=2, weights=1 + torch.arange(21) % 3,
        report=lambda _, metrics: history.append(metrics["nats_per_position"]),
    )  # fmt: skip
    return {name: tensor.numpy() for name, tensor in made.state_dict().items()} | {
        "history": np.array(history)
    }


def features(world: World) -> dict[str, Any]:
    """More ranks than batches too: a rank without images."""
    images = samples()[0]
    sides = [extract_features(images[:n], lambda x: x.float().flatten(1), batch_size=16) for n in (41, 5)]
    return {"many": sides[0], "few": sides[1]}


def told(world: World) -> dict[str, Any]:
    """Bad input that rank 0 finds is raised on all ranks."""

    def bad() -> None:
        raise InputError(f"rank {world.rank} says so")

    try:
        world.told(bad)
    except InputError as error:
        return {"error": np.array(str(error))}
    raise AssertionError


def death() -> None:
    """Rank 1 dies in the second epoch."""

    def report(epoch: int, _: dict[str, float]) -> None:
        if epoch == 2 and current().rank == 1:
            os._exit(9)

    images, start = samples()
    fit(images, MODEL, TRAIN, seed=0, start=start, report=report)


def clean(images: str, out: str) -> list[str]:
    """Arguments of a quick cleaning."""
    return ["clean", images, "--out", out, "--epochs", "1", "--prior-epochs", "1", "--device", "cpu"]


@contextmanager
def doubles() -> Iterator[None]:
    """In float64, ``.float()`` too, so that processes differ by rounding alone and no code flips."""
    before, double = torch.get_default_dtype(), torch.Tensor.double
    _stages.cache_clear()
    with patch.object(torch, "float32", torch.float64), patch.object(torch.Tensor, "float", double):
        torch.set_default_dtype(torch.float64)
        try:
            yield
        finally:
            torch.set_default_dtype(before)
            _stages.cache_clear()


JOBS = (train, vectors, prior, features, told)


def results(out: Path) -> None:
    """What each job gives by every rank, in a file of its own."""
    with doubles(), joined() as world:
        for job in JOBS:
            np.savez(out / f"{job.__name__}-{world.rank}.npz", **job(world))


def run(images: str, out: str, *ports: str) -> int:
    """All of it; the exit status is that of the last."""
    torch.set_num_threads(1)
    place = iter(ports)  # A port for each group: the one before may still be closing.

    def led(command: Callable[[], int]) -> int:
        os.environ["MASTER_PORT"] = next(place)
        return lead(command)

    good = led(partial(main, clean(images, f"{out}/cleaned")))
    bad = led(partial(main, clean(f"{out}/none", f"{out}/never")))
    Path(out, f"status-{os.environ['RANK']}").write_text(f"{good} {bad}")
    os.environ["MASTER_PORT"] = next(place)
    results(Path(out))
    return led(lambda: together(death) or 0)


if __name__ == "__main__":
    sys.exit(run(*sys.argv[1:]))
