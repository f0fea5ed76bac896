"""Encoders and decoders between samples and one latent vector: multi-layer perceptrons, or convolutions.

The convolutional pair is the body of `rvqvae.vqvae.networks` with a linear layer at its grid.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import prod

from torch import nn

from rvqvae.config import ModelConfig
from rvqvae.errors import InputError
from rvqvae.vqvae.networks import ImageDecoder, ImageEncoder, grid_shape

Activation = Callable[[], nn.Module]
GRID_DIM = 8
"""Channels of the grid between the convolutions and the linear layer: 8 x 7 x 7 for 28 x 28 pixels."""


def perceptron(widths: Sequence[int], activation: Activation = nn.ReLU) -> nn.Sequential:
    """(B, widths[0]) -> (B, widths[-1]): linear layers with ``activation`` between, none at the end."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), activation()]
    return nn.Sequential(*layers[:-1])


def build_encoder(
    shape: tuple[int, ...], outputs: int, hidden: Sequence[int] = (), channels: int | None = None
) -> nn.Sequential:
    """(B, *shape) float -> (B, outputs): a perceptron of widths ``hidden``, or convolutions."""
    if channels is None:
        return nn.Sequential(nn.Flatten(), *perceptron([prod(shape), *hidden, outputs]))
    size, config = _grid(shape, channels)
    return nn.Sequential(
        ImageEncoder((shape[0], shape[1], shape[2]), config), nn.Flatten(), nn.Linear(prod(size), outputs)
    )


def build_decoder(
    shape: tuple[int, ...], latent_dim: int, hidden: Sequence[int] = (), channels: int | None = None
) -> nn.Sequential:
    """(B, latent_dim) -> (B, *shape) float, any range; the mirror image of `build_encoder`."""
    if channels is None:
        return nn.Sequential(
            *perceptron([latent_dim, *reversed(hidden), prod(shape)]), nn.Unflatten(1, shape)
        )
    size, config = _grid(shape, channels)
    return nn.Sequential(
        nn.Linear(latent_dim, prod(size)),
        nn.Unflatten(1, size),
        ImageDecoder((shape[0], shape[1], shape[2]), config),
    )


def _grid(shape: tuple[int, ...], channels: int) -> tuple[tuple[int, int, int], ModelConfig]:
    """Shape of the grid at the end of the convolutions, and their configuration."""
    if len(shape) != 3:
        raise InputError(f"channels={channels}: convolutions need images; leave channels out for a matrix")
    config = ModelConfig(channels=channels, residual_blocks=1, code_dim=GRID_DIM)
    return (GRID_DIM, *grid_shape(shape, config)), config
