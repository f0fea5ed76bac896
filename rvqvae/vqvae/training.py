"""Joint training of encoder, decoder and both codebooks, alternating with the update of the two sets."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rvqvae.config import ModelConfig, TrainConfig
from rvqvae.devices import bfloat16_pays
from rvqvae.errors import InputError
from rvqvae.features.perceptual import perceptual_loss
from rvqvae.membership import Membership, literal_split, update
from rvqvae.optimization import Checkpoint, Loop, generator_of
from rvqvae.progress import OnEpoch
from rvqvae.vqvae.inference import codebook_evidence, codebook_scores, reconstruction_errors
from rvqvae.vqvae.model import TwoCodebookVQVAE
from rvqvae.vqvae.networks import to_float
from rvqvae.vqvae.sharpening import sharpen

STATE_FORMAT = 6
"""Of training.pt: raised when its content changes, so that an older one is refused in plain words."""
PERCEPTUAL_EVERY = 4
"""One in so many images of a batch has its perceptual loss taken: it costs more than all the rest."""
POOL = 16_384
"""Encodings that a codebook starts from or that replace its dead codewords."""
REASSIGN = 4
"""Epochs from one update of the sets to the next under the robust rule, the last epoch's apart: the evidence
takes a pass over the whole set, and moves log odds by 2 at most."""


class Fitted(NamedTuple):
    """A trained model, the final sets and what happened in every epoch."""

    model: TwoCodebookVQVAE
    membership: Membership
    history: list[dict[str, float]]


def fit(
    samples: NDArray[Any],
    model_config: ModelConfig,
    train_config: TrainConfig,
    *,
    seed: int,
    start: Membership | None = None,
    contamination: float | None = None,
    directory: Path | None = None,
    on_epoch: OnEpoch | None = None,
    device: torch.device | str = "cpu",
) -> Fitted:
    """Train on ``samples``: uint8 (N, C, H, W) or float (N, d).

    ``start`` is the warm start that ``membership="robust"`` needs. With ``directory``, the state is kept
    there after every epoch, and the same call resumes from it. Raises InputError for
    non-finite input or a training that diverges (naming batch, term and learning rate).
    """
    data = torch.as_tensor(np.ascontiguousarray(samples))
    if data.is_floating_point() and not bool(torch.isfinite(data).all()):
        raise InputError("the samples hold NaN or infinite values; remove or impute them first")
    if train_config.membership == "robust" and start is None:
        raise InputError(
            "membership='robust' needs a warm start; use membership='all' to train on everything"
        )
    n = len(data)
    torch.manual_seed(seed)
    model = TwoCodebookVQVAE(tuple(data.shape[1:]), model_config).to(device)
    model.data_scale.fill_(max(_variance(data), 1e-8))
    loop = Loop(
        model.parameters(), n, epochs=train_config.epochs, batch_size=train_config.batch_size,
        learning_rate=train_config.learning_rate, seed=seed,
    )  # fmt: skip
    start = start or Membership(np.full(n, -1.0))
    settings = (model_config, train_config, seed, start.log_odds.tobytes(), contamination)
    kept = Checkpoint(directory, model, loop, data, STATE_FORMAT, *settings)
    membership = start if kept.also is None else Membership(kept.also.numpy())
    if not kept.history:
        _start_codebooks(model, data, membership.is_outlier, generator_of(seed, 0))
    for epoch in range(len(kept.history) + 1, train_config.epochs + 1):
        model.train()
        member, weights = _sets(membership.is_outlier, train_config.outlier_weight)
        for rows in loop.batches(epoch):
            loop.step(_terms(model, data[rows], member[rows], weights[rows], train_config.perceptual))
        terms = loop.means()
        before = membership
        if epoch >= train_config.warmup_epochs:
            due = (epoch - train_config.warmup_epochs) % REASSIGN == 0 or epoch == train_config.epochs
            if train_config.membership == "literal":
                membership = literal_split(reconstruction_errors(model, data), contamination)
            elif train_config.membership == "robust" and due:
                known = codebook_evidence(codebook_scores(model, data), membership.is_outlier)
                membership = update(start, membership, known, seed, contamination)
        _update_codebooks(model, data, membership.is_outlier, generator_of(seed, epoch, 1))
        kept.add(_epoch_metrics(model, terms, before, membership), torch.as_tensor(membership.log_odds))
        if on_epoch:
            on_epoch(epoch, kept.history[-1])
    inliers = data[torch.as_tensor(~membership.is_outlier)]
    if train_config.sharpen and data.ndim == 4 and len(inliers):
        sharpen(
            model, inliers, epochs=train_config.sharpen, batch_size=train_config.batch_size,
            perceptual=train_config.perceptual, seed=seed,
            on_epoch=on_epoch and (lambda done, terms: on_epoch(train_config.epochs + done, terms)),
        )  # fmt: skip
    return Fitted(model.eval(), membership, kept.history)


def _sets(is_outlier: NDArray[np.bool_], outlier_weight: float) -> tuple[Tensor, Tensor]:
    """Which samples are outliers (N,) bool, and what each counts in the loss (N,), 1 on average."""
    member = torch.as_tensor(is_outlier)
    weights = torch.where(member, outlier_weight, 1.0)
    return member, weights / weights.mean()


def _terms(
    model: TwoCodebookVQVAE, samples: Tensor, member: Tensor, weight: Tensor, perceptual: float
) -> dict[str, Tensor]:
    """The terms of the loss of a batch; ``perceptual`` is the weight of the perceptual loss of images."""
    device = model.data_scale.device
    x, weight = to_float(samples.to(device, non_blocking=True)), weight.to(device, non_blocking=True)
    with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16_pays(device.type)):
        output = model(x, member.to(device, non_blocking=True))
    few = slice(-(-len(x) // PERCEPTUAL_EVERY))
    seen = torch.zeros((), device=device)
    if x.ndim == 4 and perceptual > 0:
        seen = perceptual_loss(x[few], output.reconstruction[few], weight[few])
    return {
        "loss": model.loss(output, weight) + perceptual * seen,
        "reconstruction": output.reconstruction_error.mean(),
        "perceptual": seen,
        "commitment": output.quantization_error.mean(),
        "codebook": output.codebook_loss,
    }


def _encodings(model: TwoCodebookVQVAE, data: Tensor, rows: Tensor) -> Tensor:
    """About POOL encodings, one row a grid position."""
    if len(rows) == 0:
        return torch.empty(0, model.config.code_dim, device=model.data_scale.device)
    model.eval()
    with torch.no_grad():
        few = rows[: -(-POOL // (model.grid[0] * model.grid[1]))]
        z = model.encode(to_float(data[few].to(model.data_scale.device)))
    return z.permute(0, 2, 3, 1).reshape(-1, z.shape[1]).float()


def _pools(
    model: TwoCodebookVQVAE, data: Tensor, is_outlier: NDArray[np.bool_], generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    order = torch.randperm(len(data), generator=generator)
    member = torch.as_tensor(is_outlier)[order]
    return _encodings(model, data, order[~member]), _encodings(model, data, order[member])


def _start_codebooks(
    model: TwoCodebookVQVAE, data: Tensor, is_outlier: NDArray[np.bool_], generator: torch.Generator
) -> None:
    inliers, outliers = _pools(model, data, is_outlier, generator)
    model.inlier_codebook.kmeans_init(inliers, generator)
    model.outlier_codebook.kmeans_init(outliers, generator)


def _update_codebooks(
    model: TwoCodebookVQVAE, data: Tensor, is_outlier: NDArray[np.bool_], generator: torch.Generator
) -> None:
    """Between epochs: replace dead codewords, start a codebook whose set is new, refresh the distances."""
    pools = _pools(model, data, is_outlier, generator)
    for book, pool in zip((model.inlier_codebook, model.outlier_codebook), pools, strict=True):
        if bool(book.started):
            book.replace_dead_codes(pool, generator)
        else:
            book.kmeans_init(pool, generator)
        book.refresh_metric()


def _epoch_metrics(
    model: TwoCodebookVQVAE, terms: dict[str, float], before: Membership, after: Membership
) -> dict[str, float]:
    metrics = dict(terms)
    for name, book in (("inlier", model.inlier_codebook), ("outlier", model.outlier_codebook)):
        metrics |= {f"{name}_{key}": value for key, value in book.usage().items()}
    metrics["outliers"] = float(after.is_outlier.sum())
    metrics["inliers"] = float(len(after.is_outlier) - after.is_outlier.sum())
    metrics["flips"] = float((before.is_outlier != after.is_outlier).sum())
    return metrics


def _variance(data: Tensor) -> float:
    """Of about a thousand samples, in the units of the loss."""
    return float(to_float(data[:: max(1, len(data) // 1024)]).var())
