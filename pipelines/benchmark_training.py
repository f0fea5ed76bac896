"""What training costs beside pythae's VQVAE and a plain loop: a part of `benchmark_speed`.

pythae's (moving averages, as many codes, Adam at 1e-3) has our encoder, decoder and batch size, in its own
trainer, of which only the passes over the data count.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from tempfile import TemporaryDirectory
from time import process_time

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from data.recipes import load
from pipelines.common.timing import Line, compare
from pipelines.generation.settings import Settings
from rvqvae.config import ModelConfig, TrainConfig
from rvqvae.io.arrays import as_nchw
from rvqvae.membership import Membership
from rvqvae.vqvae.codebook import Codebook, straight_through
from rvqvae.vqvae.inference import reconstruction_errors
from rvqvae.vqvae.networks import build_networks, to_float
from rvqvae.vqvae.training import fit

BATCH = Settings().train.batch_size
MODEL = ModelConfig()
Images = NDArray[np.uint8]
"""(N, 1, H, W)."""


def training(rounds: int, epochs: int = 2) -> Iterator[Line]:
    """Images a second: with all that training does by default, and doing the same work as the other."""
    images = as_nchw(load("mnist")[0])
    odds = np.where(np.arange(len(images)) % 10 < 3, 1.0, -1.0)

    def ours() -> float:
        train = TrainConfig(epochs=epochs, warmup_epochs=0, batch_size=BATCH)
        fit(images, MODEL, train, seed=0, start=Membership(odds))
        return epochs * len(images)

    def same() -> float:
        train = TrainConfig(epochs=epochs, batch_size=BATCH, perceptual=0, membership="all")
        fit(images, MODEL, train, seed=0)
        return epochs * len(images)

    def plain() -> float:
        train_plain(to_float(torch.as_tensor(images)), epochs)
        return epochs * len(images)

    def theirs() -> float:
        train_pythae(images, epochs)
        return epochs * len(images)

    yield compare("training", "a plain VQ-VAE loop", "images/s", ours, plain, 0.75, rounds)
    if find_spec("pythae"):
        yield compare("training", "pythae's VQVAE", "images/s", ours, theirs, 1.0, rounds)
        yield compare("training, the same work", "pythae's VQVAE", "images/s", same, theirs, 1.0, rounds)


def error(epochs: int = 5) -> Iterator[Line]:
    """CPU seconds until held-out digits are reconstructed as well as by pythae's after ``epochs``.

    Ours is the shortest training of 1, 2, 3, 5 or 8 epochs that gets there, by default and with the squared
    error alone.
    """
    if not find_spec("pythae"):
        return
    images, held_out = (as_nchw(load("mnist", train=train)[0]) for train in (True, False))
    # What both import when they are first used is no training.
    train_pythae(images[:64], 1)
    fit(images[:64], MODEL, TrainConfig(epochs=1, membership="all"), seed=0)
    begin = process_time()
    other = train_pythae(images, epochs).eval()
    theirs = process_time() - begin
    x = to_float(torch.as_tensor(held_out))
    with torch.inference_mode():
        goal = float((other({"data": x}).recon_x.reshape(x.shape) - x).square().mean())
    default = TrainConfig(membership="all", batch_size=BATCH)
    for title, train in (
        ("error", default),
        ("error, squared error alone", replace(default, perceptual=0.0)),
    ):
        ours = _seconds_to(goal, images, held_out, train)
        yield Line(title, f"pythae's VQVAE, {goal:.4f}", "CPU s", ours, theirs, theirs / ours, 1.5)


def _seconds_to(goal: float, images: Images, held_out: Images, train: TrainConfig) -> float:
    """Infinite if no training gets there."""
    for epochs in (1, 2, 3, 5, 8):
        begin = process_time()
        model = fit(images, MODEL, replace(train, epochs=epochs), seed=0).model
        seconds = process_time() - begin
        if reconstruction_errors(model, held_out).mean() <= goal:
            return seconds
    return np.inf


def train_plain(data: Tensor, epochs: int) -> None:
    """A VQ-VAE with moving averages, the least that a user would write: no recording, no clipping."""
    torch.manual_seed(0)
    encoder, decoder = build_networks(tuple(data.shape[1:]), MODEL)
    book = Codebook(MODEL.inlier_codes, MODEL)
    optimizer = torch.optim.AdamW([*encoder.parameters(), *decoder.parameters()], lr=1e-3)
    batches = [rows for _ in range(epochs) for rows in torch.randperm(len(data)).split(BATCH)]
    for i, rows in enumerate(batches):
        x = data[rows]
        grid = encoder(x)
        z = grid.permute(0, 2, 3, 1).reshape(-1, MODEL.code_dim)
        if i == 0:
            book.kmeans_init(z.detach(), torch.Generator().manual_seed(0))
        found = book(z)
        q = straight_through(z, found.vectors).reshape(len(x), *grid.shape[2:], -1).permute(0, 3, 1, 2)
        loss = F.mse_loss(decoder(q), x) / 0.1 + MODEL.commitment * F.mse_loss(z, found.vectors)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        book.ema_update(z.detach(), found.codes)


def train_pythae(images: Images, epochs: int) -> nn.Module:
    """pythae's VQVAE with our networks, by its own trainer."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pythae.data.datasets import BaseDataset
        from pythae.models import VQVAE, VQVAEConfig
        from pythae.models.base.base_utils import ModelOutput
        from pythae.models.nn import BaseDecoder, BaseEncoder
        from pythae.trainers import BaseTrainer, BaseTrainerConfig
    logging.getLogger("pythae").setLevel(logging.WARNING)

    def wrapped(base: type, network: nn.Module, name: str) -> nn.Module:
        """``network`` as one of theirs, which names its output."""
        whole = type(name, (base,), {"forward": lambda self, x: ModelOutput(**{name: self.network(x)})})()
        whole.network = network
        return whole

    shape = images.shape[1:]
    encoder, decoder = build_networks(shape, MODEL)
    settings = VQVAEConfig(
        input_dim=shape, latent_dim=MODEL.code_dim, num_embeddings=MODEL.inlier_codes,
        use_ema=True, decay=MODEL.decay, commitment_loss_factor=MODEL.commitment,
    )  # fmt: skip
    model = VQVAE(
        settings,
        wrapped(BaseEncoder, encoder, "embedding"),
        wrapped(BaseDecoder, decoder, "reconstruction"),
    )
    data = BaseDataset(to_float(torch.as_tensor(images)), torch.zeros(len(images)))
    with TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        how = BaseTrainerConfig(
            output_dir=folder, num_epochs=epochs, learning_rate=1e-3, no_cuda=True,
            per_device_train_batch_size=BATCH,
        )  # fmt: skip
        trainer = BaseTrainer(model, data, training_config=how)
        trainer.prepare_training()
        for epoch in range(1, epochs + 1):
            trainer.train_step(epoch)
    return trainer.model
