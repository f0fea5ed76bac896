"""The Robust VQ-VAE as a torch module: one encoder, one decoder, an inlier and an outlier codebook."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from rvqvae.config import ModelConfig
from rvqvae.vqvae.codebook import Codebook, Quantized, quantize_by_set, straight_through
from rvqvae.vqvae.networks import build_networks, grid_shape, squared_error
from rvqvae.vqvae.soft_codebook import SoftCodebook


class Output(NamedTuple):
    """What one pass over a batch of B samples gives."""

    reconstruction: Tensor
    """Like the input, float32."""
    codes: Tensor
    """(B, h, w) int64, in the codebook of each sample's own set."""
    reconstruction_error: Tensor
    """(B,) mean squared error."""
    quantization_error: Tensor
    """(B,) mean squared plain distance between encodings and codewords; gradient to the encoder only."""
    codebook_loss: Tensor
    """Scalar, by which soft codebooks learn sigma; zero for hard ones."""


class TwoCodebookVQVAE(nn.Module):
    """Both branches always run, so that a batch without outliers is no special case.

    With ``bottleneck="soft"`` samples are reconstructed from posterior means of the codewords, while codes
    are the likeliest codewords, which `decode`, and so a prior over codes, knows alone.
    """

    data_scale: Tensor

    def __init__(self, shape: tuple[int, ...], config: ModelConfig) -> None:
        super().__init__()
        self.shape, self.config = tuple(shape), config
        self.grid = grid_shape(self.shape, config)
        self.encoder, self.decoder = build_networks(self.shape, config)
        codebook = SoftCodebook if config.bottleneck == "soft" else Codebook
        self.inlier_codebook = codebook(config.inlier_codes, config)
        self.outlier_codebook = codebook(config.outlier_codes, config)
        self.register_buffer("data_scale", torch.ones(()))

    def forward(self, x: Tensor, is_outlier: Tensor) -> Output:
        """``x`` float (B, *shape); ``is_outlier`` bool (B,). In training mode the codebooks move."""
        encodings = self.encode(x)
        z = _as_vectors(encodings)
        member = is_outlier.repeat_interleave(self.grid[0] * self.grid[1])
        codes, vectors, _ = quantize_by_set(self.inlier_codebook, self.outlier_codebook, z, member)
        reconstruction = self.decoder(_as_grid(straight_through(z, vectors), encodings.shape)).float()
        is_soft = self.config.bottleneck == "soft"
        codebook_loss = (vectors - z.detach()).square().mean() if is_soft else z.new_zeros(())
        return Output(
            reconstruction,
            codes.reshape(len(x), *self.grid),
            squared_error(x, reconstruction),
            (z - vectors.detach()).square().reshape(len(x), -1).mean(1),
            codebook_loss,
        )

    def loss(self, output: Output, weight: Tensor | float = 1.0) -> Tensor:
        """Reconstruction over the data's variance, plus commitment (van den Oord et al. 2017, eq. 3).

        ``weight`` (B,), of mean 1, is what each sample counts.
        """
        return (
            (weight * output.reconstruction_error).mean() / self.data_scale
            + output.codebook_loss
            + self.config.commitment * (weight * output.quantization_error).mean()
        )

    def encode(self, x: Tensor) -> Tensor:
        """(B, *shape) float -> (B, code_dim, h, w)."""
        return self.encoder(x)

    def quantize(self, x: Tensor) -> Quantized:
        """In the inlier codebook: codes and distance (B, h, w), vectors (B, code_dim, h, w)."""
        encodings = self.encode(x)
        found = self.inlier_codebook(_as_vectors(encodings))
        grid = (len(x), *self.grid)
        return Quantized(
            found.codes.reshape(grid), _as_grid(found.vectors, encodings.shape), found.distance.reshape(grid)
        )

    def quantize_by_both(self, x: Tensor) -> tuple[Quantized, Quantized]:
        """Rows of h * w positions, quantised by the inlier and by the outlier codebook."""
        z = _as_vectors(self.encode(x))
        return self.inlier_codebook(z), self.outlier_codebook(z)

    def decode(self, codes: Tensor) -> Tensor:
        """Inlier codes (B, h, w) int64 -> (B, *shape) float32."""
        vectors = self.inlier_codebook.codewords[codes]
        return self.decoder(vectors.permute(0, 3, 1, 2)).float()


def _as_vectors(grid: Tensor) -> Tensor:
    return grid.permute(0, 2, 3, 1).reshape(-1, grid.shape[1])


def _as_grid(vectors: Tensor, shape: torch.Size) -> Tensor:
    return vectors.reshape(shape[0], shape[2], shape[3], shape[1]).permute(0, 3, 1, 2)
