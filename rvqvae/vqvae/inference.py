"""Inference of a trained model: codes, reconstructions, and the evidence of both codebooks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rvqvae.batches import map_batches
from rvqvae.membership import CodebookEvidence
from rvqvae.vqvae.model import TwoCodebookVQVAE
from rvqvae.vqvae.networks import squared_error, to_float

BATCH = 512


class CodebookScores(NamedTuple):
    """N samples quantised by both codebooks, P grid positions each; inlier codebook first."""

    codes: tuple[Tensor, Tensor]
    """(N, P) int64."""
    distances: tuple[Tensor, Tensor]
    """(N,) float64, mean squared weighted distance."""
    sizes: tuple[int, int]
    """Codewords of each codebook."""


Samples = Tensor | NDArray[Any]
"""uint8 (N, C, H, W) or float (N, d)."""


def batches(model: TwoCodebookVQVAE, samples: Samples) -> Iterator[Tensor]:
    """``samples``, uint8 (N, C, H, W) or float (N, d), as float batches where the model lies."""
    for begin in range(0, len(samples), BATCH):
        yield _batch(model, samples[begin : begin + BATCH])


def _batch(model: TwoCodebookVQVAE, samples: Samples) -> Tensor:
    # A copy, as the samples may be a read-only map of a file.
    batch = torch.as_tensor(np.array(samples) if isinstance(samples, np.ndarray) else samples)
    return to_float(batch.to(model.data_scale.device))


def _of_all(
    model: TwoCodebookVQVAE, samples: Samples, work: Callable[[Tensor], tuple[Tensor, ...]]
) -> tuple[Tensor, ...]:
    """Apply ``work`` to batches in evaluation mode; return its tensors (N, ...) on the CPU."""
    model.eval()
    device = model.data_scale.device
    return map_batches(len(samples), BATCH, lambda rows: work(_batch(model, samples[rows])), device)


@torch.inference_mode()
def reconstruction_errors(model: TwoCodebookVQVAE, samples: Samples) -> NDArray[np.float64]:
    """(N,) mean squared error of each sample through the inlier codebook."""

    def errors(x: Tensor) -> tuple[Tensor]:
        return (squared_error(x, model.decoder(model.quantize(x).vectors).float()),)

    return _of_all(model, samples, errors)[0].double().numpy()


@torch.inference_mode()
def codebook_scores(model: TwoCodebookVQVAE, samples: Samples) -> CodebookScores:
    """Quantise every sample by both codebooks."""
    positions = model.grid[0] * model.grid[1]

    def both(x: Tensor) -> tuple[Tensor, ...]:
        inlier, outlier = model.quantize_by_both(x)
        codes = (found.codes.reshape(-1, positions) for found in (inlier, outlier))
        distances = (found.distance.reshape(-1, positions).mean(1) for found in (inlier, outlier))
        return (*codes, *distances)

    inlier_codes, outlier_codes, inlier_distance, outlier_distance = _of_all(model, samples, both)
    return CodebookScores(
        (inlier_codes, outlier_codes),
        (inlier_distance.double(), outlier_distance.double()),
        (model.inlier_codebook.n_codes, model.outlier_codebook.n_codes),
    )


def codebook_evidence(scores: CodebookScores, is_outlier: NDArray[np.bool_]) -> CodebookEvidence:
    """Evidence about the N training samples, whose sets are ``is_outlier`` (N,); own codes do not count."""
    own, surprises = torch.as_tensor(is_outlier), []
    for codes, members, size in zip(scores.codes, (~own, own), scores.sizes, strict=True):
        table, itself = _count(codes[members], size), members[:, None].double()
        seen, total = table.gather(1, codes.T).T - itself, table[0].sum() - itself
        surprises.append(-((seen + 1) / (total + size)).log().mean(1).numpy())
    inlier, outlier = (distance.numpy() for distance in scores.distances)
    return CodebookEvidence(inlier, outlier, surprises[0], surprises[1])


def _count(codes: Tensor, size: int) -> Tensor:
    """How often each code stands at each position, (P, K) float64, in codes (M, P)."""
    counts = torch.zeros(codes.shape[1], size, dtype=torch.float64)
    return counts.scatter_add_(1, codes.T, torch.ones_like(codes.T, dtype=torch.float64))


@torch.inference_mode()
def inlier_codes(model: TwoCodebookVQVAE, samples: Samples) -> Tensor:
    """(N, h, w) int64 codes of ``samples`` in the inlier codebook."""
    return _of_all(model, samples, lambda x: (model.quantize(x).codes,))[0]


@torch.inference_mode()
def decode_codes(model: TwoCodebookVQVAE, codes: Tensor) -> Tensor:
    """Codes (N, h, w) -> samples in the training data's form: uint8 (N, C, H, W), or float (N, d)."""
    model.eval()
    decoded = torch.cat(
        [model.decode(batch.to(model.data_scale.device)).cpu() for batch in codes.split(BATCH)]
    )
    return (decoded.clamp(0, 1) * 255).round().byte() if decoded.ndim == 4 else decoded
