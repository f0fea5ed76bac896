"""One codebook: nearest codeword under a weighted Euclidean distance, learned by moving averages.

Sources: van den Oord et al. 2017 (quantisation, straight-through, commitment; appendix A.1 for the moving
averages); the distance weighted by directional variances after the abstract of Lai, Zou and Lerman 2022,
whose formula is not public. Ours: principal directions of the codewords, weights 1 / standard deviation
normalised to sum to the dimension, because on contaminated codebooks it is the only inverse form that beat
the plain distance under both bases, and it lost at most .004 on clean ones. It costs reconstruction, though:
after 10 epochs on 3,000 digits the error on held-out ones is .0075, with the plain distance .0054.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from rvqvae.config import ModelConfig

START_POINTS = 32
"""Encodings a codeword that the k-means start looks at."""


class Quantized(NamedTuple):
    """Nearest codewords of N vectors."""

    codes: Tensor
    """(N,) int64 index of the codeword."""
    vectors: Tensor
    """(N, D) float32 codewords."""
    distance: Tensor
    """(N,) float32 squared weighted distance."""


class Codebook(nn.Module):
    """K codewords of dimension D."""

    codewords: Tensor
    mass: Tensor
    total: Tensor
    metric: Tensor
    started: Tensor

    def __init__(self, n_codes: int, config: ModelConfig) -> None:
        super().__init__()
        dim = config.code_dim
        self.weighted = config.distance == "inverse_std"
        self.decay = config.decay
        self.register_buffer("codewords", torch.zeros(n_codes, dim))
        self.register_buffer("mass", torch.zeros(n_codes))
        self.register_buffer("total", torch.zeros(n_codes, dim))
        self.register_buffer("metric", torch.eye(dim))
        self.register_buffer("started", torch.zeros((), dtype=torch.bool))

    @property
    def n_codes(self) -> int:
        return len(self.codewords)

    def forward(self, z: Tensor) -> Quantized:
        """Quantise ``z`` (N, D); in the codewords' precision, because a half one confuses near codewords."""
        with torch.autocast(z.device.type, enabled=False):
            z = z.to(self.codewords.dtype)
            with torch.no_grad():
                points, centres = z, self.codewords
                if self.weighted:
                    points, centres = z @ self.metric, centres @ self.metric
                # |p - c|^2 less |p|^2, which no choice of codeword changes
                partial = torch.addmm(centres.square().sum(1), points, centres.T, alpha=-2)
                codes = _argmin(partial)
                least = partial.gather(1, codes[:, None]).squeeze(1)
                distance = (least + points.square().sum(1)).clamp_min(0)
            return Quantized(codes, nn.functional.embedding(codes, self.codewords), distance)

    @torch.no_grad()
    def kmeans_init(self, z: Tensor, generator: torch.Generator, iterations: int = 10) -> None:
        """K-means start from encodings ``z`` (N, D); of fewer than K, copies with a small jitter."""
        if len(z) == 0:
            return
        order = torch.randperm(len(z), generator=generator)[: START_POINTS * self.n_codes].to(z.device)
        z = z[order].float()
        repeats = -(-self.n_codes // len(z))
        centres = z.repeat(repeats, 1)[: self.n_codes].clone()
        if repeats > 1:
            noise = torch.randn(centres.shape, generator=generator).to(z.device)
            centres += 1e-3 * z.std() * noise if len(z) > 1 else 1e-3 * noise
        else:
            for _ in range(iterations):
                nearest = torch.cdist(z, centres).argmin(1)
                counts = torch.bincount(nearest, minlength=self.n_codes)[:, None]
                sums = torch.zeros_like(centres).index_add_(0, nearest, z)
                centres = torch.where(counts > 0, sums / counts.clamp_min(1), centres)
        self.codewords.copy_(centres)
        self.mass.fill_(1.0)
        self.total.copy_(centres)
        self.started.fill_(True)

    @torch.no_grad()
    def ema_update(self, z: Tensor, codes: Tensor) -> None:
        """Move the codewords towards the means of the encodings ``z`` (N, D) that ``codes`` (N,) assign to
        them (van den Oord et al. 2017, eq. 6 to 8). Without encodings nothing moves: absence is no evidence.
        """
        if len(z) == 0:
            return
        counts = torch.bincount(codes, minlength=self.n_codes)
        total = torch.zeros_like(self.total).index_add_(0, codes, z.float())
        self.mass.lerp_(counts.to(self.mass), 1 - self.decay)
        self.total.lerp_(total, 1 - self.decay)
        used = (self.mass > 1e-4)[:, None]
        self.codewords.copy_(
            torch.where(used, self.total / self.mass.clamp_min(1e-4)[:, None], self.codewords)
        )

    @torch.no_grad()
    def replace_dead_codes(self, z: Tensor, generator: torch.Generator, share: float = 0.02) -> int:
        """Move codewords used less than ``share`` of the mean onto random encodings ``z``; their number.

        The averages move with the codeword, else the next step would drag it back.
        """
        if len(z) == 0:
            return 0
        dead = (self.mass < share * self.mass.mean()).nonzero().squeeze(1)
        pick = torch.randint(len(z), (len(dead),), generator=generator).to(z.device)
        fresh = z[pick].float()
        self.codewords[dead] = fresh
        mean = self.mass.mean()
        self.mass[dead] = mean
        self.total[dead] = fresh * mean
        return len(dead)

    @torch.no_grad()
    def refresh_metric(self) -> None:
        """Recompute the distance's weights from the directional variances of the used codewords."""
        if not self.weighted or not bool(self.started):
            return
        frequency = self.mass / self.mass.sum()
        centred = self.codewords - frequency @ self.codewords
        variance, directions = torch.linalg.eigh(centred.T @ (centred * frequency[:, None]))
        # A floor: a direction that the codebook does not span must not drown all others.
        deviation = variance.clamp_min(float(variance.max()) * 1e-3 + 1e-12).sqrt()
        weight = 1 / deviation
        weight *= len(weight) / weight.sum()
        self.metric.copy_(directions * weight.sqrt())

    def usage(self) -> dict[str, float]:
        """Perplexity of the code frequencies and share of dead codewords."""
        frequency = self.mass / self.mass.sum().clamp_min(1e-12)
        entropy = -(frequency * frequency.clamp_min(1e-12).log()).sum()
        dead = (frequency < 0.02 / self.n_codes).float().mean()
        return {"perplexity": float(entropy.exp()), "dead_share": float(dead)}


def quantize_by_set(inliers: Codebook, outliers: Codebook, z: Tensor, is_outlier: Tensor) -> Quantized:
    """Quantise each of ``z`` (N, D) in the codebook of its own set; ``is_outlier`` bool (N,).

    In training mode the codebooks are moved by `Codebook.ema_update`. Both always run: a set without members
    is no special case.
    """
    codes, distance = z.new_empty(len(z), dtype=torch.int64), z.new_empty(len(z), dtype=torch.float32)
    vectors = z.new_empty(z.shape, dtype=torch.float32)
    for book, member in ((inliers, ~is_outlier), (outliers, is_outlier)):
        rows = member.nonzero().squeeze(1)
        own = z[rows]
        found = book(own)
        if book.training:
            book.ema_update(own.detach(), found.codes)
        codes[rows], distance[rows] = found.codes, found.distance
        vectors = vectors.index_copy(0, rows, found.vectors)
    return Quantized(codes, vectors, distance)


def straight_through(z: Tensor, vectors: Tensor) -> Tensor:
    """``vectors`` forward, gradient of ``z`` backward (Bengio et al. 2013)."""
    return z + (vectors - z).detach()


def _argmin(x: Tensor) -> Tensor:
    """Column of the least value of each row, (N, K) to (N,) int64."""
    # On the CPU torch's own is not vectorised: it takes as long as the matrix product before it.
    return torch.from_numpy(x.numpy().argmin(1)) if x.device.type == "cpu" else x.argmin(1)
