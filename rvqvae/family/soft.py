"""The soft VQ-VAE (Wu and Flierl 2020, arXiv:1905.11062): the decoder gets a posterior mean of codewords."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from rvqvae.errors import check_choice, check_number, check_whole
from rvqvae.family.base import Autoencoder, Network, RelativeNetwork
from rvqvae.vqvae.codebook import straight_through
from rvqvae.vqvae.soft_codebook import Weighting, nearest_weights, posterior, released_weights

WEIGHTINGS: dict[str, Weighting] = {
    "posterior": posterior,
    "released": released_weights,
    "nearest": nearest_weights,
}


class SoftQuantizing(RelativeNetwork):
    """The encoder gives the code, (B, D), and a log sigma for each of the K codewords.

    Codewords start uniform in a cube of mean square length 1 and linear layers as in Glorot and Bengio 2010,
    as the authors' do: the code's scale against the codewords' decides how soft the start is.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        bounded: bool,
        codewords: tuple[int, int],
        weighting: Weighting,
        strength: float,
        commitment: float,
    ) -> None:
        super().__init__(encoder, decoder, bounded)
        self.weighting, self.strength, self.commitment = weighting, strength, commitment
        side = (3 / codewords[1]) ** 0.5
        self.codewords = nn.Parameter(torch.empty(codewords))
        nn.init.uniform_(self.codewords, -side, side)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)

    def encode(self, x: Tensor) -> Tensor:
        return self.encoder(x)[:, : self.codewords.shape[1]]

    def quantize(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Codes z (B, D) and weights of the codewords (B, K)."""
        outputs = self.encoder(x)
        # Squared distances are differences of large numbers: never in half precision.
        with torch.autocast(x.device.type, enabled=False):
            z, log_sigma = outputs.to(self.codewords.dtype).split(
                [self.codewords.shape[1], len(self.codewords)], 1
            )
            return z, self.weighting(z, self.codewords, log_sigma)

    def reconstruct(self, x: Tensor) -> Tensor:
        return self.decode(self.quantize(x)[1] @ self.codewords)

    def losses(self, x: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        z, weights = self.quantize(x)
        with torch.autocast(x.device.type, enabled=False):
            vectors = weights @ self.codewords
        error = self.relative_error(x, self.decode(straight_through(z, vectors)))
        codebook = (vectors - z.detach()).square().mean()
        commitment = (vectors.detach() - z).square().mean()
        return {
            "loss": error + self.strength * (codebook + self.commitment * commitment),
            "error": error,
            "commitment": commitment,
            "perplexity": _perplexity(weights.detach()),
        }


def _perplexity(weights: Tensor) -> Tensor:
    """exp of the entropy of the mean weights: how many of the codewords a batch (B, K) uses."""
    share = weights.mean(0)
    return torch.special.entr(share).sum().exp()


@dataclass(repr=False, eq=False, kw_only=True)
class SoftVQVAE(Autoencoder):
    """``n_codes`` codewords of ``latent_dim`` numbers; a sample is reconstructed from their posterior mean.

    The loss is the squared error over the data's variance, plus ``strength`` (lambda) times the sum of the
    codebook loss and ``commitment`` (beta) times the commitment loss. The defaults are the authors' for
    MNIST, 40,000 steps there; only the schedule of the learning rate is `Loop`'s. `encode` gives the codes
    before the quantiser.

    ``weighting``: "posterior" as in the paper; "released" as in the authors' notebook; "nearest" is a hard
    VQ-VAE, all else being equal. Seen on MNIST, with 940 steps of the authors' settings: "released" repeats
    their curve (training error .417; the notebook says .424 after 900 steps and .390 after 1,000),
    "posterior" lags (.495), because latent_dim times log sigma makes the weights hard from the start: the
    test images use 41 codewords (perplexity) in place of 83. The error falls with steps and with the learning
    rate: few epochs of large batches leave it high.
    """

    latent_dim: int = 64
    hidden: tuple[int, ...] = (500, 500, 2000)
    epochs: int = 43
    batch_size: int = 64
    learning_rate: float = 3e-4
    n_codes: int = 128
    strength: float = 3.0
    commitment: float = 2.5
    weighting: Literal["posterior", "released", "nearest"] = "posterior"

    def codes(self, X: ArrayLike) -> NDArray[np.int64]:
        """(N,) the likeliest codeword of each sample."""
        return self.weights(X).argmax(1)

    def weights(self, X: ArrayLike) -> NDArray[np.float32]:
        """(N, n_codes) weight of each codeword; rows sum to 1."""
        check_is_fitted(self)
        return self._mapped(X, lambda network, x: network.quantize(x)[1]).astype(np.float32)

    def _network(self, shape: tuple[int, ...]) -> Network:
        return SoftQuantizing(
            *self._pair(shape, self.latent_dim + self.n_codes), len(shape) == 3,
            (self.n_codes, self.latent_dim), WEIGHTINGS[self.weighting], self.strength, self.commitment,
        )  # fmt: skip

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_whole("n_codes", self.n_codes, 2)
        check_number("strength", self.strength, 0)
        check_number("commitment", self.commitment, 0)
        check_choice("weighting", self.weighting, WEIGHTINGS)
