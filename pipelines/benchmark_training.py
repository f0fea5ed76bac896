"""Images per second of the two-codebook training beside a plain VQ-VAE loop with the same network.

    python -m pipelines.benchmark_training

Both train on the committed MNIST sample, 5,000 images of 28 x 28, in turns, so that a busy machine slows
both. The plain loop is the least that a user would write: one codebook, no recording, no clipping.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

import numpy as np
import torch
import torch.nn.functional as F

from data.recipes import load
from pipelines.settings import Settings
from rvqvae.config import ModelConfig, TrainConfig
from rvqvae.images import as_nchw
from rvqvae.membership import Membership
from rvqvae.networks import build_networks, to_float
from rvqvae.quantizers import Codebook, straight_through
from rvqvae.training import fit

ROUNDS = 3
EPOCHS = 3


def train_plain(data: torch.Tensor, config: ModelConfig, batch_size: int) -> None:
    """A plain VQ-VAE with moving averages."""
    torch.manual_seed(0)
    encoder, decoder = build_networks(tuple(data.shape[1:]), config)
    book = Codebook(config.inlier_codes, config)
    optimizer = torch.optim.AdamW([*encoder.parameters(), *decoder.parameters()], lr=1e-3)
    batches = [rows for _ in range(EPOCHS) for rows in torch.randperm(len(data)).split(batch_size)]
    for i, rows in enumerate(batches):
        x = to_float(data[rows])
        grid = encoder(x)
        z = grid.permute(0, 2, 3, 1).reshape(-1, config.code_dim)
        if i == 0:
            book.start(z.detach(), torch.Generator().manual_seed(0))
        found = book(z)
        q = straight_through(z, found.vectors).reshape(len(x), *grid.shape[2:], -1).permute(0, 3, 1, 2)
        loss = F.mse_loss(decoder(q), x) / 0.1 + config.commitment * F.mse_loss(z, found.vectors)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        book.follow(z.detach(), found.codes, torch.ones(len(z)))


def train_robust(images: np.ndarray, config: ModelConfig, train: TrainConfig) -> None:
    """`rvqvae.fit` with everything between its epochs: evidence, sets, revival, records."""
    odds = np.where(np.arange(len(images)) % 10 < 3, 1.0, -1.0)
    fit(images, config, train, seed=0, start=Membership(odds))


def seconds(work: Callable[[], None]) -> float:
    begin = perf_counter()
    work()
    return perf_counter() - begin


def main() -> None:
    images = as_nchw(load("mnist")[0])
    config, batch_size = Settings().model, Settings().train.batch_size
    train = TrainConfig(epochs=EPOCHS, warmup_epochs=0, batch_size=batch_size)
    data = torch.as_tensor(images)
    turns = [
        (
            seconds(lambda: train_plain(data, config, batch_size)),
            seconds(lambda: train_robust(images, config, train)),
        )
        for _ in range(ROUNDS)
    ]
    plain, robust = (EPOCHS * len(images) / np.median(times) for times in zip(*turns, strict=True))
    print(f"plain VQ-VAE loop   {plain:7,.0f} images/s")
    print(
        f"Robust VQ-VAE fit   {robust:7,.0f} images/s, ratio {robust / plain:.2f} (at least .75 is the aim)"
    )


if __name__ == "__main__":
    main()
