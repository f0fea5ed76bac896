"""Fit the prior by maximum likelihood."""

from __future__ import annotations

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from rvqvae.config import PriorConfig
from rvqvae.devices import bfloat16_pays
from rvqvae.errors import InputError
from rvqvae.optimization import Loop
from rvqvae.priors.augmentation import Amounts, Copies
from rvqvae.priors.pixelcnn import GatedPixelCNN
from rvqvae.progress import OnEpoch


def fit_prior(
    codes: Tensor | ArrayLike,
    n_codes: int,
    config: PriorConfig,
    *,
    seed: int,
    weights: Tensor | ArrayLike | None = None,
    labels: Tensor | ArrayLike | None = None,
    n_classes: int = 0,
    codewords: Tensor | None = None,
    copies: Copies | None = None,
    on_epoch: OnEpoch | None = None,
    device: torch.device | str | None = None,
) -> GatedPixelCNN:
    """A prior trained on ``codes`` (N, H, W) integer, in evaluation mode, by AdamW and one cycle.

    ``weights`` (N,) >= 0: how much each grid counts; grids of weight zero are left out.
    ``labels`` (N,) integer below ``n_classes``: classes to condition on.
    ``codewords`` (n_codes, D) float: where codes lie, from which they start (`GatedPixelCNN.start_from`).
    ``copies``: moved copies, of which half of what it sees consists, and by how much each was moved.
    ``on_epoch(epoch, metrics)``: ``nats_per_position`` (weighted mean over the epoch, dropout on).
    ``device``: by default where ``codes`` lie. The global random state is untouched.

    Raises InputError for bad codes, weights or labels, for fewer than 2 grids, and for a loss that is
    not finite.
    """
    codes = torch.as_tensor(codes)
    device = codes.device if device is None else torch.device(device)
    codes = codes.to(device)
    labels = None if labels is None else torch.as_tensor(labels, device=device)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        model = GatedPixelCNN(n_codes, config, n_classes)
        if codewords is not None:
            model.start_from(codewords.cpu())
        model = model.to(device).to(memory_format=torch.channels_last)
        codes, labels = model.checked(codes, labels)
        importance = _importance(weights, len(codes), device)
        kept = importance > 0
        codes, importance = codes[kept], importance[kept]
        labels = None if labels is None else labels[kept]
        if len(codes) < 2:
            raise InputError(
                f"{len(codes)} grids of positive weight are too few to fit a prior: give at least 2"
            )
        model.grid_shape = codes.shape[1:]
        if labels is not None:
            model.class_share.copy_(torch.bincount(labels, importance, n_classes) / importance.sum())
        of_kept = None if copies is None else _rows_of(copies, kept)
        _train(model, codes, labels, importance / importance.mean(), of_kept, seed, on_epoch)
    return model.eval()


def _importance(weights: Tensor | ArrayLike | None, n: int, device: torch.device) -> Tensor:
    """Weights (n,) float32 on ``device``; ones by default."""
    if weights is None:
        return torch.ones(n, device=device)
    importance = torch.as_tensor(weights).to(device, torch.float32)
    if importance.shape != (n,):
        raise InputError(f"weights of shape {tuple(importance.shape)} do not fit {n} grids: give ({n},)")
    if not (importance.isfinite() & (importance >= 0)).all():
        raise InputError("weights must be finite and >= 0: replace NaN, infinite and negative ones")
    return importance


def _rows_of(copies: Copies, kept: Tensor) -> Copies:
    """Of the grids alone that are ``kept``, bool (N,), where that lies."""

    def some(epoch: int) -> tuple[Tensor, Tensor]:
        grids, amounts = copies(epoch)
        return grids.to(kept.device)[kept], amounts.to(kept.device)[kept]

    return some


def _train(
    model: GatedPixelCNN,
    codes: Tensor,
    labels: Tensor | None,
    importance: Tensor,
    copies: Copies | None,
    seed: int,
    on_epoch: OnEpoch | None,
) -> None:
    """Minimise the weighted nats per position; ``importance`` (N,) has mean 1."""
    config, positions = model.config, codes[0].numel()
    tell = None if copies is None else Amounts(len(model.layers), 4 * config.channels).to(codes.device)
    parameters = [*model.parameters(), *(() if tell is None else tell.parameters())]
    loop = Loop(
        parameters, len(codes), epochs=config.epochs, batch_size=config.batch_size,
        learning_rate=config.learning_rate, seed=seed, weight_decay=0.01, rise=0.2,
    )  # fmt: skip

    model.train()
    for epoch in range(config.epochs):
        moved = None if copies is None else copies(epoch)
        for rows in loop.batches(epoch):
            chosen = rows.to(codes.device)
            grids, told, kind = codes[chosen], None, codes.device.type
            if tell is not None and moved is not None:
                grids, told = tell.mixed(grids, *(part[chosen] for part in moved))
            with torch.autocast(kind, torch.bfloat16, enabled=bfloat16_pays(kind)):
                log_prob = model.log_prob(grids, None if labels is None else labels[chosen], told)
            loop.step({"loss": -(importance[chosen] * log_prob).mean() / positions})
        terms = loop.means()
        if on_epoch is not None:
            on_epoch(epoch + 1, {"nats_per_position": terms["loss"]})
