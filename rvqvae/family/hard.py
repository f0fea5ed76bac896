"""The plain VQ-VAE (van den Oord et al. 2017) on the family's interface, to compare with."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from rvqvae.config import ModelConfig
from rvqvae.errors import check_number, check_whole
from rvqvae.family.base import Autoencoder, Network
from rvqvae.vqvae.codebook import Codebook, straight_through
from rvqvae.vqvae.networks import ImageDecoder, ImageEncoder, grid_shape, squared_error, to_float

POOL = 2048
"""Samples whose encodings start the codebook and replace its dead codewords."""


class Quantizing(Network):
    """Every code vector gives way to its nearest codeword. Codes are (B, D x positions), flat (D, h, w)."""

    def __init__(
        self, encoder: nn.Module, decoder: nn.Module, bounded: bool, codebook: Codebook, commitment: float
    ) -> None:
        super().__init__(encoder, decoder, bounded)
        self.codebook, self.commitment = codebook, commitment

    def rows(self, z: Tensor) -> Tensor:
        """(B, D x positions) -> (B x positions, D)."""
        return z.unflatten(1, (self.codebook.codewords.shape[1], -1)).transpose(1, 2).flatten(0, 1)

    def flat(self, rows: Tensor, n: int) -> Tensor:
        """The inverse of `rows`, for ``n`` samples."""
        return rows.unflatten(0, (n, -1)).transpose(1, 2).flatten(1)

    def encode(self, x: Tensor) -> Tensor:
        return self.flat(self.codebook(self.rows(self.encoder(x))).vectors, len(x))

    def codes(self, x: Tensor) -> Tensor:
        """(B, positions) int64."""
        return self.codebook(self.rows(self.encoder(x))).codes.unflatten(0, (len(x), -1))

    def losses(self, x: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        z = self.rows(self.encoder(x))
        found = self.codebook(z)
        error = squared_error(x, self.decode(self.flat(straight_through(z, found.vectors), len(x)))).mean()
        commitment = (z - found.vectors.detach()).square().mean()
        self.codebook.ema_update(z.detach(), found.codes)
        return {"loss": error + self.commitment * commitment, "error": error, "commitment": commitment}

    @torch.no_grad()
    def before_epoch(self, number: int, data: Tensor, generator: torch.Generator) -> None:
        pick = torch.randperm(len(data), generator=generator)[:POOL]
        pool = self.rows(self.encoder(to_float(data[pick].to(self.codebook.codewords.device))))
        if number == 0:
            self.codebook.kmeans_init(pool, generator)
        else:
            self.codebook.replace_dead_codes(pool, generator)


@dataclass(repr=False, eq=False, kw_only=True)
class HardVQVAE(Autoencoder):
    """``n_codes`` codewords of ``latent_dim`` numbers.

    With ``hidden`` a sample is one codeword; with ``channels`` it is a grid of them, a quarter of the
    image's sides.
    """

    n_codes: int = 256
    commitment: float = 0.25

    def codes(self, X: ArrayLike) -> NDArray[np.int64]:
        """(N, positions) int64 codewords of each sample; positions in raster order."""
        check_is_fitted(self)
        return self._mapped(X, lambda network, x: network.codes(x))

    def _network(self, shape: tuple[int, ...]) -> Network:
        config = ModelConfig(
            code_dim=self.latent_dim, commitment=self.commitment, inlier_codes=self.n_codes,
            channels=self.channels or ModelConfig.channels,
        )  # fmt: skip
        encoder, decoder = self._pair(shape)
        if self.channels is not None:
            size = (self.latent_dim, *grid_shape(shape, config))
            images = (shape[0], shape[1], shape[2])
            encoder = nn.Sequential(ImageEncoder(images, config), nn.Flatten())
            decoder = nn.Sequential(nn.Unflatten(1, size), ImageDecoder(images, config))
        codebook = Codebook(self.n_codes, config)
        return Quantizing(encoder, decoder, len(shape) == 3, codebook, self.commitment)

    @property
    def _n_features_out(self) -> int:
        if self.channels is None:
            return self.latent_dim
        return self.latent_dim * prod(grid_shape(self.shape_, ModelConfig()))

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_whole("n_codes", self.n_codes, 2)
        check_number("commitment", self.commitment, 0)
