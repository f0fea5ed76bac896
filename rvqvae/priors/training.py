"""Fit the prior by maximum likelihood."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from rvqvae.config import PriorConfig
from rvqvae.errors import InputError
from rvqvae.priors.pixelcnn import GatedPixelCNN

Report = Callable[[int, dict[str, float]], None]
"""Called after every epoch with its number, from 0, and its means."""


def fit_prior(
    codes: Tensor | ArrayLike,
    n_codes: int,
    config: PriorConfig,
    *,
    seed: int,
    weights: Tensor | ArrayLike | None = None,
    labels: Tensor | ArrayLike | None = None,
    n_classes: int = 0,
    report: Report | None = None,
    device: torch.device | str | None = None,
) -> GatedPixelCNN:
    """A prior trained on ``codes`` (N, H, W) integer, in evaluation mode, by AdamW and one cycle.

    ``weights`` (N,) >= 0: how much each grid counts; grids of weight zero are left out.
    ``labels`` (N,) integer below ``n_classes``: classes to condition on.
    ``report(epoch, metrics)``: ``nats_per_position`` (weighted mean over the epoch, dropout on) and
    ``learning_rate``. ``device``: by default where ``codes`` lie. The global random state is untouched.

    Raises InputError for bad codes, weights or labels, for fewer than 2 grids, and for a loss that is
    not finite.
    """
    codes = torch.as_tensor(codes)
    device = codes.device if device is None else torch.device(device)
    codes = codes.to(device)
    labels = None if labels is None else torch.as_tensor(labels, device=device)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        model = GatedPixelCNN(n_codes, config, n_classes).to(device)
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
        _train(model, codes, labels, importance / importance.mean(), report)
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


def _train(
    model: GatedPixelCNN,
    codes: Tensor,
    labels: Tensor | None,
    importance: Tensor,
    report: Report | None,
) -> None:
    """Minimise the weighted nats per position; ``importance`` (N,) has mean 1."""
    config, positions = model.config, codes[0].numel()
    steps = math.ceil(len(codes) / config.batch_size)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.01)
    # A rise of a fifth of exactly 5 steps makes torch divide by zero, hence at least 6.
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, config.learning_rate, total_steps=max(6, steps * config.epochs), pct_start=0.2
    )
    model.train()
    for epoch in range(config.epochs):
        order = torch.randperm(len(codes)).to(codes.device)
        total = 0.0
        for number, batch in enumerate(order.split(config.batch_size)):
            rate = float(schedule.get_last_lr()[0])
            log_prob = model.log_prob(codes[batch], None if labels is None else labels[batch])
            loss = -(importance[batch] * log_prob).mean() / positions
            value = loss.item()
            if not math.isfinite(value):
                raise InputError(
                    f"the prior's loss is {value} at epoch {epoch}, batch {number}, learning rate "
                    f"{rate:.3g}: lower learning_rate (now {config.learning_rate:.3g})"
                )
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            total += value * len(batch)
        if report is not None:
            report(epoch, {"nats_per_position": total / len(codes), "learning_rate": rate})
