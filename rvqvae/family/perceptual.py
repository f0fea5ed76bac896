"""Deep-feature-consistent variational autoencoder (Hou et al. 2017): images compared by a frozen network."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from rvqvae.errors import InputError
from rvqvae.family.base import Autoencoder, Network, in_range
from rvqvae.family.variational import Variational
from rvqvae.features import LITE_MEAN, LITE_STD, efficientnet_lite0, fold_batch_norm

STAGES = 3
"""Blocks that are looked at after the stem: to an eighth of the image's side, 40 channels."""


@lru_cache(maxsize=2)
def _stages(device: torch.device) -> list[nn.Module]:
    # Storage of its own even while a saved model is rebuilt without.
    with torch.device(device):
        network: Any = fold_batch_norm(efficientnet_lite0()).requires_grad_(False)
        network = network.to(device, memory_format=torch.channels_last)
    return [nn.Sequential(network.conv_stem, network.bn1), *network.blocks[:STAGES]]


def deep_features(images: Tensor) -> list[Tensor]:
    """Maps of EfficientNet-Lite0's stem and first blocks: (B, 1 | 3, H, W) in [0, 1] -> (B, C, h, w) each."""
    x = (255 * images.expand(-1, 3, -1, -1) - LITE_MEAN[0]) / LITE_STD[0]
    x, maps = x.contiguous(memory_format=torch.channels_last), []
    for stage in _stages(images.device):
        maps.append(x := stage(x))
    return maps


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
        in_range("weight", self.weight, 0)
