"""Every default, its meaning and its range, in frozen dataclasses (standard library only).

A YAML file under ``configs/`` holds differences from these. Each class checks its own values when
it is made, so that a wrong one is refused before anything is read or written.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Literal, get_args

from rvqvae.errors import InputError, check_choice, check_number, check_whole

SEEN = 100_000
"""Vectors that a training shows the autoencoder by default, and grids of codes the prior."""
PIXELS = 20_000_000
"""Pixels of images, which take the time, in place of vectors: 5,000 images of 64 x 64, 25,000 of 28 x 28."""
BATCH, BATCH_PIXELS = (16, 64), 2**16
"""Fewest and most samples of a batch by default, and pixels of one."""


def usual_epochs(n: int, shape: tuple[int, ...]) -> int:
    """Passes over ``n`` samples of ``shape`` (C, H, W) or (d,), so that ten times the data cost less than ten
    times the time."""
    seen = SEEN if len(shape) == 1 else PIXELS / prod(shape[1:])
    return max(2, min(20, round(seen / n)))


def usual_batch(shape: tuple[int, ...]) -> int:
    """Samples of ``shape`` in a batch: 64, fewer of larger images.

    Those learn more from as many pixels in more steps: on 800 tiles of 64 x 64, 8 passes in batches of 16
    come to a squared error of held-out ones of .0048, in batches of 64 to .0068; these need 20 for .0047.
    """
    fewest, most = BATCH
    return most if len(shape) == 1 else max(fewest, min(most, BATCH_PIXELS // prod(shape[1:])))


def usual_prior_epochs(n: int) -> int:
    """Passes of the prior over the grids of ``n`` samples."""
    return max(4, min(16, round(SEEN / n)))


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
        check_whole("channels", self.channels, 4)
        check_whole("residual_blocks", self.residual_blocks, 0)
        check_whole("downsampling", self.downsampling, 1, 5)
        check_whole("code_dim", self.code_dim, 1)
        check_whole("inlier_codes", self.inlier_codes, 2)
        check_whole("outlier_codes", self.outlier_codes, 2)
        check_number("commitment", self.commitment, 0)
        check_number("decay", self.decay, 0, 1, above=True, below=True)
        check_choice("bottleneck", self.bottleneck, ("hard", "soft"))
        check_choice("distance", self.distance, ("euclidean", "inverse_std"))


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
    sharpen: int = 0
    """Passes over the inliers, after all others, in which the decoder learns to look real (images only)."""
    membership: Literal["robust", "literal", "all"] = "robust"
    """Rule of the sets: ours, the abstract's (reconstruction error), or one set of all (plain VQ-VAE)."""

    def __post_init__(self) -> None:
        check_whole("epochs", self.epochs, 1)
        check_whole("warmup_epochs", self.warmup_epochs, 0)
        check_whole("batch_size", self.batch_size, 1)
        check_number("learning_rate", self.learning_rate, 0, 1, above=True)
        check_number("outlier_weight", self.outlier_weight, 0, 1, above=True)
        check_number("perceptual", self.perceptual, 0)
        check_whole("sharpen", self.sharpen, 0)
        check_choice("membership", self.membership, ("robust", "literal", "all"))

    @property
    def passes(self) -> int:
        """All passes, those that sharpen too."""
        return self.epochs + self.sharpen


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
    copies: int = 0
    """Moved copies of each image, from which it learns too and is told how they were moved; 0 for none."""
    choices: int = 1
    """Grids that are drawn for each that is wanted, of which a `Critic` takes one; 1 does without."""
    epochs: int = 16
    """Passes over the kept inliers."""
    batch_size: int = 64
    """Grids per optimiser step."""
    learning_rate: float = 4e-3
    """Peak learning rate of AdamW (one-cycle cosine)."""

    def __post_init__(self) -> None:
        check_whole("channels", self.channels, 4)
        check_whole("layers", self.layers, 1)
        if check_whole("kernel_size", self.kernel_size, 3) % 2 == 0:
            raise InputError(f"kernel_size={self.kernel_size} is even: it must be odd and >= 3")
        check_number("dropout", self.dropout, 0, 1, below=True)
        check_whole("groups", self.groups, 0)
        check_whole("copies", self.copies, 0)
        check_whole("choices", self.choices)
        check_whole("epochs", self.epochs, 1)
        check_whole("batch_size", self.batch_size, 1)
        check_number("learning_rate", self.learning_rate, 0, 1, above=True)


Quality = Literal["usual", "best"]
"""Of new samples: what can be had in the time that cleaning takes, or in ten times that."""
LONGER, PRIOR_LONGER = 4, 3
"""Times the usual passes that the best quality takes."""


def training_for(quality: Quality, n: int, shape: tuple[int, ...], epochs: int | None) -> TrainConfig:
    """Of the autoencoder on ``n`` samples of ``shape``, in as many passes as are usual if None is given."""
    best = check_choice("quality", quality, get_args(Quality)) == "best"
    passes = usual_epochs(n, shape) * (LONGER if best else 1) if epochs is None else epochs
    return TrainConfig(passes, batch_size=usual_batch(shape), sharpen=passes if best else 0)


def prior_for(quality: Quality, n: int, epochs: int | None) -> PriorConfig:
    """Of the prior over the grids of ``n`` samples."""
    if quality == "usual":
        return PriorConfig(epochs=usual_prior_epochs(n) if epochs is None else epochs)
    passes = usual_prior_epochs(n) * PRIOR_LONGER if epochs is None else epochs
    return PriorConfig(epochs=passes, copies=8, choices=8)
