"""Product codebooks in an autoencoder's bottleneck, learned for retrieval (Wu and Flierl 2019, GlobalSIP).

Beyond its abstract the paper is not public. The loss and the steps of the codebooks follow third-party notes;
network, sizes and the weights lambda and beta are ours, or those of the same authors' soft VQ-VAE.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from rvqvae.errors import check_number, check_whole
from rvqvae.family.base import Autoencoder, Network, RelativeNetwork
from rvqvae.retrieval import ProductIndex
from rvqvae.vqvae.codebook import straight_through
from rvqvae.vqvae.networks import to_float
from rvqvae.vqvae.product_codebook import ProductQuantizer, check_divisible

POOL = 8192
"""Samples whose encodings start the codebooks and replace idle codewords."""


class ProductQuantizing(RelativeNetwork):
    """The decoder sees the concatenation of each part's nearest sub-codeword."""

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        bounded: bool,
        quantizer: ProductQuantizer,
        strength: float,
        commitment: float,
    ) -> None:
        super().__init__(encoder, decoder, bounded)
        self.quantizer, self.strength, self.commitment = quantizer, strength, commitment

    def codes(self, x: Tensor) -> Tensor:
        """(B, M) int64."""
        return self.quantizer(self.encode(x)).codes

    def reconstruct(self, x: Tensor) -> Tensor:
        return self.decode(self.quantizer(self.encode(x)).vectors)

    def losses(self, x: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        z = self.encode(x)
        found = self.quantizer(z)
        error = self.relative_error(x, self.decode(straight_through(z, found.vectors)))
        # The codewords' own term of the loss is what their moving averages minimise.
        commitment = (z - found.vectors.detach()).square().mean()
        self.quantizer.ema_update(z.detach(), found.codes)
        loss = error + self.strength * self.commitment * commitment
        return {"loss": loss, "error": error, "commitment": commitment}

    @torch.no_grad()
    def before_epoch(self, number: int, data: Tensor, generator: torch.Generator) -> None:
        super().before_epoch(number, data, generator)
        pick = torch.randperm(len(data), generator=generator)[:POOL]
        pool = self.encode(to_float(data[pick].to(self.variance.device)))
        if number == 0:
            self.quantizer.kmeans_init(pool, generator)
        else:
            self.quantizer.replace_dead_codes(pool, generator)


@dataclass(repr=False, eq=False, kw_only=True)
class PQVAE(Autoencoder):
    """Autoencoder whose code is one of ``n_codes`` sub-codewords for each of ``n_codebooks`` parts.

    The loss is the squared error over the data's variance, plus ``strength`` (lambda) times ``commitment``
    (beta) times the commitment loss: the larger lambda, the more the encodings gather at the codewords, and
    the more of the data's likeness do these keep. An image is log2(n_codes) * n_codebooks bits. `encode`
    gives vectors before the quantiser, `codes` the codes, `index` a search index that shares the codebooks.
    """

    latent_dim: int = 64
    hidden: tuple[int, ...] = (512, 256)
    n_codebooks: int = 4
    n_codes: int = 256
    strength: float = 3.0
    commitment: float = 2.5

    def codes(self, X: ArrayLike) -> NDArray[np.uint8]:
        """(N, n_codebooks) sub-codewords of each sample."""
        check_is_fitted(self)
        return self._mapped(X, lambda network, x: network.codes(x)).astype(np.uint8)

    def index(self, X: ArrayLike | None = None) -> ProductIndex:
        """An index with the codebooks and, where given, samples ``X``; it searches by `encode` of others."""
        check_is_fitted(self)
        quantizer = cast(ProductQuantizing, self.network_).quantizer
        index = ProductIndex.from_codebooks(quantizer.codewords.cpu().numpy())
        return index if X is None else index.add(self.encode(X))

    def _network(self, shape: tuple[int, ...]) -> Network:
        return ProductQuantizing(
            *self._pair(shape), len(shape) == 3,
            ProductQuantizer(self.n_codebooks, self.n_codes, self.latent_dim), self.strength, self.commitment,
        )  # fmt: skip

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_whole("n_codebooks", self.n_codebooks, 1, 1024)
        check_whole("n_codes", self.n_codes, 2, 256)
        check_divisible(self.latent_dim, self.n_codebooks)
        check_number("strength", self.strength, 0)
        check_number("commitment", self.commitment, 0)
