"""Every default, its meaning and its range, in frozen dataclasses (standard library only).

A YAML file under ``configs/`` holds differences from these. Each class checks its own values when
it is made, so that a wrong one is refused before anything is read or written.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Literal

from rvqvae.errors import InputError

SEEN = 100_000
"""Vectors that a training shows the autoencoder by default, and grids of codes the prior."""
PIXELS = 2**25
"""Pixels of images, which take the time, in place of vectors: 8,000 images of 64 x 64, 43,000 of 28 x 28."""


def usual_epochs(n: int, shape: tuple[int, ...]) -> int:
    """Passes over ``n`` samples of ``shape`` (C, H, W) or (d,), so that ten times the data cost less than ten
    times the time."""
    seen = SEEN if len(shape) == 1 else PIXELS / prod(shape[1:])
    return max(2, min(20, round(seen / n)))


def usual_prior_epochs(n: int) -> int:
    """Passes of the prior over the grids of ``n`` samples."""
    return max(4, min(16, round(SEEN / n)))


def _require(ok: bool, name: str, value: object, limit: str) -> None:
    if not ok:
        raise InputError(f"{name}={value!r} is out of range: it must be {limit}")


@dataclass(frozen=True)
class ModelConfig:
    """Network and codebooks of the Robust VQ-VAE."""

    channels: int = 32
    """Width of the convolutions (or of the MLP's hidden layers, times 4)."""
    residual_blocks: int = 2
    """Residual blocks in the encoder and in the decoder."""
    downsampling: int = 2
    """Halvings of height and width between image and code grid."""
    code_dim: int = 32
    """Dimension of a codeword."""
    inlier_codes: int = 256
    """Size of the inlier codebook."""
    outlier_codes: int = 128
    """Size of the outlier codebook."""
    bottleneck: Literal["hard", "soft"] = "hard"
    """What the decoder gets: the nearest codeword, or the posterior mean of all (`SoftCodebook`)."""
    commitment: float = 0.25
    """Weight of the commitment loss (van den Oord et al. 2017, eq. 3)."""
    decay: float = 0.97
    """Decay of the moving averages by which codewords follow their encodings."""
    distance: Literal["euclidean", "inverse_std"] = "euclidean"
    """Weights of the quantisation distance along the codebook's principal directions: none, or 1 / standard
    deviation as the abstract asks. Plain is the default because it reconstructs better (`Codebook`)."""

    def __post_init__(self) -> None:
        _require(self.channels >= 4, "channels", self.channels, ">= 4")
        _require(self.residual_blocks >= 0, "residual_blocks", self.residual_blocks, ">= 0")
        _require(1 <= self.downsampling <= 5, "downsampling", self.downsampling, "from 1 to 5")
        _require(self.code_dim >= 1, "code_dim", self.code_dim, ">= 1")
        _require(self.inlier_codes >= 2, "inlier_codes", self.inlier_codes, ">= 2")
        _require(self.outlier_codes >= 2, "outlier_codes", self.outlier_codes, ">= 2")
        _require(self.commitment >= 0, "commitment", self.commitment, ">= 0")
        _require(0 < self.decay < 1, "decay", self.decay, "between 0 and 1")
        _require(self.bottleneck in ("hard", "soft"), "bottleneck", self.bottleneck, "'hard' or 'soft'")
        _require(
            self.distance in ("euclidean", "inverse_std"), "distance", self.distance,
            "'euclidean' or 'inverse_std'",
        )  # fmt: skip


@dataclass(frozen=True)
class TrainConfig:
    """Joint training and the epochwise update of the inlier and outlier sets."""

    epochs: int = 20
    """Passes over the training set."""
    warmup_epochs: int = 2
    """Epochs before the first reassignment."""
    batch_size: int = 64
    """Images per optimiser step."""
    learning_rate: float = 3e-3
    """Peak learning rate of AdamW (one-cycle cosine)."""
    outlier_weight: float = 0.1
    """What a sample of the outlier set counts in the loss, beside 1 for one of the inlier set."""
    perceptual: float = 2.0
    """Weight of the perceptual loss beside the squared error, both relative (images only)."""
    membership: Literal["robust", "literal", "all"] = "robust"
    """Who decides the sets: our rule, the abstract's (reconstruction error), or nobody (plain VQ-VAE)."""

    def __post_init__(self) -> None:
        _require(self.epochs >= 1, "epochs", self.epochs, ">= 1")
        _require(self.warmup_epochs >= 0, "warmup_epochs", self.warmup_epochs, ">= 0")
        _require(self.batch_size >= 1, "batch_size", self.batch_size, ">= 1")
        _require(0 < self.learning_rate <= 1, "learning_rate", self.learning_rate, "in (0, 1]")
        _require(0 < self.outlier_weight <= 1, "outlier_weight", self.outlier_weight, "in (0, 1]")
        _require(self.perceptual >= 0, "perceptual", self.perceptual, ">= 0")
        _require(
            self.membership in ("robust", "literal", "all"), "membership", self.membership,
            "'robust', 'literal' or 'all'",
        )  # fmt: skip


@dataclass(frozen=True)
class PriorConfig:
    """Gated PixelCNN over the grid of inlier codes."""

    channels: int = 48
    """Width of the gated convolutions."""
    layers: int = 3
    """Gated layers after the first."""
    kernel_size: int = 3
    """Height and width of the receptive field of one layer (odd)."""
    dropout: float = 0.4
    """Dropout before the output convolution."""
    groups: int = 200
    """Groups of alike grids that it is told apart, fewer for fewer than 35 inliers to a group; 0 for none."""
    epochs: int = 16
    """Passes over the kept inliers."""
    batch_size: int = 64
    """Grids per optimiser step."""
    learning_rate: float = 4e-3
    """Peak learning rate of AdamW (one-cycle cosine)."""

    def __post_init__(self) -> None:
        _require(self.channels >= 4, "channels", self.channels, ">= 4")
        _require(self.layers >= 1, "layers", self.layers, ">= 1")
        _require(self.kernel_size >= 3 and self.kernel_size % 2 == 1, "kernel_size", self.kernel_size,
                 "odd and >= 3")  # fmt: skip
        _require(0 <= self.dropout < 1, "dropout", self.dropout, "in [0, 1)")
        _require(self.groups >= 0, "groups", self.groups, ">= 0")
        _require(self.epochs >= 1, "epochs", self.epochs, ">= 1")
        _require(self.batch_size >= 1, "batch_size", self.batch_size, ">= 1")
        _require(0 < self.learning_rate <= 1, "learning_rate", self.learning_rate, "in (0, 1]")
