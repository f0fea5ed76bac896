"""A conditional PixelCNN as decoder (van den Oord et al. 2016, sections 2.3 and 2.4), on grey levels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rvqvae.config import PriorConfig
from rvqvae.errors import InputError, check_number, check_whole
from rvqvae.family.base import Network
from rvqvae.family.networks import build_encoder
from rvqvae.family.variational import Variational, VariationalAutoencoder
from rvqvae.priors import GatedPixelCNN


class _Condition(nn.Linear):
    """In whatever precision the sampler has put the weights."""

    def forward(self, h: Tensor) -> Tensor:
        return super().forward(h.to(self.weight.dtype))


class ConditionalPixelCNN(GatedPixelCNN):
    """A PixelCNN whose gates are shifted by a linear map of a vector h (eq. 4) in place of a class.

    Wherever `GatedPixelCNN` takes labels, give h: (B, width) float.
    """

    def __init__(self, n_codes: int, config: PriorConfig, width: int) -> None:
        super().__init__(n_codes, config)
        self.width = width
        for layer in self.layers:
            layer.condition = _Condition(width, 4 * config.channels, bias=False)

    def _checked_labels(self, labels: Tensor | None, n: int) -> Tensor | None:
        if labels is None or labels.shape != (n, self.width):
            shape = None if labels is None else tuple(labels.shape)
            raise InputError(f"conditions of shape {shape} do not fit {n} grids: give ({n}, {self.width})")
        return labels


class PixelVariational(Variational):
    """p(x | z) pixel by pixel, over grey levels; what it decodes is drawn, always with the same seed."""

    decoder: ConditionalPixelCNN

    def __init__(
        self, encoder: nn.Module, decoder: ConditionalPixelCNN, latent_dim: int, free_nats: float
    ) -> None:
        super().__init__(encoder, decoder, True, latent_dim)
        self.free_nats = free_nats

    def losses(self, x: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        terms = super().losses(x, generator)
        return terms | {"loss": terms["reconstruction"] + terms["kl"].clamp_min(self.free_nats)}

    def levels(self, x: Tensor) -> Tensor:
        """(B, 1, H, W) in [0, 1] -> (B, H, W) int64 level, the nearest."""
        return (x[:, 0] * (self.decoder.n_codes - 1)).round().long()

    def log_prob(self, x: Tensor, z: Tensor) -> Tensor:
        return self.decoder.log_prob(self.levels(x), z)

    def decode(self, z: Tensor, seed: int = 0) -> Tensor:
        drawn = self.decoder.sample(len(z), self.decoder.grid_shape, seed=seed, labels=z)
        return drawn[:, None].float() / (self.decoder.n_codes - 1)

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        z = torch.randn(n, self.latent_dim, generator=generator)
        seed = int(torch.randint(2**31, (1,), generator=generator))
        return self.decode(z.to(next(self.parameters())), seed)


@dataclass(repr=False, eq=False, kw_only=True)
class PixelCNNVAE(VariationalAutoencoder):
    """VAE whose decoder is a PixelCNN over ``levels`` greys; 2 are binary images. Grey images only.

    ``pixel_channels`` and ``pixel_layers`` are the PixelCNN's; ``hidden`` or ``channels`` the encoder's. The
    code may hold ``free_nats`` at no cost (Kingma et al. 2016): else a decoder this strong leaves it unused.
    """

    levels: int = 2
    pixel_channels: int = 32
    pixel_layers: int = 4
    free_nats: float = 4.0

    def _network(self, shape: tuple[int, ...]) -> Network:
        if len(shape) != 3 or shape[0] != 1:
            raise InputError(f"samples of shape {shape} are no grey images: a PixelCNNVAE needs (N, H, W)")
        config = PriorConfig(channels=self.pixel_channels, layers=self.pixel_layers)
        decoder = ConditionalPixelCNN(self.levels, config, self.latent_dim)
        decoder.grid_shape = shape[1:]
        encoder = build_encoder(shape, 2 * self.latent_dim, self.hidden, self.channels)
        return PixelVariational(encoder, decoder, self.latent_dim, self.free_nats)

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_whole("levels", self.levels, 2, 256)
        check_whole("pixel_channels", self.pixel_channels)
        check_whole("pixel_layers", self.pixel_layers)
        check_number("free_nats", self.free_nats, 0)
