"""Deep-feature-consistent variational autoencoder (Hou et al. 2017): images compared by a frozen network."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rvqvae.errors import InputError, check_number
from rvqvae.family.base import Autoencoder, Network
from rvqvae.family.variational import Variational
from rvqvae.features.perceptual import deep_features


def perceptual_distance(x: Tensor, y: Tensor) -> Tensor:
    """Half the mean squared difference of the maps, summed over stages (eq. 4): images twice -> (B,)."""
    pairs = zip(deep_features(x), deep_features(y), strict=True)
    return torch.stack([0.5 * (a - b).square().flatten(1).mean(1) for a, b in pairs]).sum(0)


class DeepFeatureConsistent(Variational):
    """``weight`` times the perceptual distance stands where the likelihood does in a VAE."""

    def __init__(
        self, encoder: nn.Module, decoder: nn.Module, bounded: bool, latent_dim: int, weight: float
    ) -> None:
        super().__init__(encoder, decoder, bounded, latent_dim)
        self.weight = weight

    def log_prob(self, x: Tensor, z: Tensor) -> Tensor:
        return -self.weight * perceptual_distance(x, self.decode(z))


@dataclass(repr=False, eq=False, kw_only=True)
class DeepFeatureVAE(Autoencoder):
    """Images only; ``weight`` of the perceptual distance beside the divergence in nats."""

    weight: float = 100.0

    def _network(self, shape: tuple[int, ...]) -> Network:
        if len(shape) != 3:
            raise InputError(f"samples of shape {shape} have no pixels: a DeepFeatureVAE is for images")
        pair = self._pair(shape, 2 * self.latent_dim)
        return DeepFeatureConsistent(*pair, True, self.latent_dim, self.weight)

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_number("weight", self.weight, 0)
