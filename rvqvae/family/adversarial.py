"""Inference learned against a discriminator of pairs (sample, code): BiGAN and ALI.

Donahue et al. 2017 (arXiv:1605.09782) and Dumoulin et al. 2017 (arXiv:1606.00704).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from rvqvae.errors import check_number, check_whole
from rvqvae.family.base import Autoencoder, Network
from rvqvae.family.networks import perceptron
from rvqvae.optimization import Loop


class BatchNorm(nn.BatchNorm1d):
    """Without gain and bias. A batch of one has no variance: the running statistics serve it."""

    def __init__(self, width: int) -> None:
        super().__init__(width, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.training and len(x) == 1:
            return F.batch_norm(x, self.running_mean, self.running_var, eps=self.eps)
        return super().forward(x)


def normalised_perceptron(widths: Sequence[int]) -> nn.Sequential:
    """(B, widths[0]) -> (B, widths[-1]): every layer but the last is batch-normalised, then leaky (0.2)."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths[:-1]):
        layers += [nn.Linear(inputs, outputs, bias=False), BatchNorm(outputs), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Linear(widths[-2], widths[-1]))


class Centred(nn.Module):
    """Normalise codes to mean and variance of the prior, lest the discriminator tell both by their scale."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = BatchNorm(width)

    def forward(self, z: Tensor) -> Tensor:
        return self.norm(z) / 3**0.5


class Bidirectional(Network):
    """Encoder x -> z and generator z -> x that the discriminator cannot tell apart; z uniform in (-1, 1).

    The encoder's last layer that has weights is linear.
    """

    def __init__(
        self, encoder: nn.Module, decoder: nn.Module, bounded: bool, discriminator: nn.Module, latent_dim: int
    ) -> None:
        super().__init__(encoder, decoder, bounded)
        self.discriminator, self.latent_dim = discriminator, latent_dim

    def features(self, x: Tensor) -> Tensor:
        """(B, width) input of the encoder's last linear layer."""
        layers = cast(nn.Sequential, self.encoder)
        last = max(i for i, layer in enumerate(layers) if isinstance(layer, nn.Linear))
        return layers[:last](x)

    def infer(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """A code (B, latent) that the discriminator sees beside x."""
        return self.encode(x)

    def prior(self, n: int, generator: torch.Generator) -> Tensor:
        return 2 * torch.rand(n, self.latent_dim, generator=generator) - 1

    def losses(self, x: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Both players' losses at once, as each one's gradient is kept from the other's weights.

        "discriminator" and "generator" are cross entropies in nats a pair, log 4 at equilibrium; the
        generator's side has the labels exchanged, so that its gradient does not vanish when it loses.
        """
        z = self.prior(len(x), generator).to(x)
        real, made = (x, self.infer(x, generator)), (self.decode(z), z)
        pairs = torch.cat([torch.cat([a.flatten(1), b], 1) for a, b in (real, made)])
        is_real = torch.cat([torch.ones(len(x), 1), torch.zeros(len(x), 1)]).to(x)
        frozen = {name: weight.detach() for name, weight in self.discriminator.named_parameters()}
        judged = self.discriminator(pairs.detach())
        misled = functional_call(self.discriminator, frozen, (pairs,))
        discriminator = 2 * F.binary_cross_entropy_with_logits(judged, is_real)
        players = 2 * F.binary_cross_entropy_with_logits(misled, 1 - is_real)
        return {"loss": discriminator + players, "discriminator": discriminator, "generator": players}

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        return self.decode(self.prior(n, generator).to(next(self.parameters())))


class Stochastic(Bidirectional):
    """The encoder gives mean and log variance of a normal code, and z is normal, as in ALI."""

    def encode(self, x: Tensor) -> Tensor:
        return self.encoder(x)[:, : self.latent_dim]

    def infer(self, x: Tensor, generator: torch.Generator) -> Tensor:
        mean, log_variance = self.encoder(x).chunk(2, 1)
        noise = torch.randn(mean.shape, generator=generator).to(mean)
        return mean + (0.5 * log_variance.clamp(-20, 5)).exp() * noise

    def prior(self, n: int, generator: torch.Generator) -> Tensor:
        return torch.randn(n, self.latent_dim, generator=generator)


@dataclass(repr=False, eq=False, kw_only=True)
class BiGAN(Autoencoder):
    """Bidirectional adversarial network; ``critic`` are the widths of the discriminator of pairs.

    The perceptrons of encoder and generator are batch-normalised, as the paper's.
    """

    latent_dim: int = 50
    hidden: tuple[int, ...] = (1024, 1024)
    critic: tuple[int, ...] = (1024, 1024)
    learning_rate: float = 2e-4
    momentum: float = 0.5

    def features(self, X: ArrayLike) -> NDArray[np.float32]:
        """(N, width) what the encoder's last layer makes the code from, as the paper compares digits by."""
        check_is_fitted(self)
        return self._mapped(X, lambda network, x: network.features(x)).astype(np.float32)

    def _network(self, shape: tuple[int, ...]) -> Network:
        encoder, decoder = self._pair(shape)
        encoder = nn.Sequential(*encoder.children(), Centred(self.latent_dim))
        return Bidirectional(encoder, decoder, len(shape) == 3, self._discriminator(shape), self.latent_dim)

    def _pair(self, shape: tuple[int, ...], outputs: int | None = None) -> tuple[nn.Module, nn.Module]:
        if self.channels is not None:
            return super()._pair(shape, outputs)
        encoder = normalised_perceptron([prod(shape), *self.hidden, outputs or self.latent_dim])
        decoder = normalised_perceptron([self.latent_dim, *reversed(self.hidden), prod(shape)])
        return (
            nn.Sequential(nn.Flatten(), *encoder),
            nn.Sequential(*decoder, nn.Unflatten(1, shape)),
        )

    def _discriminator(self, shape: tuple[int, ...]) -> nn.Module:
        return perceptron([prod(shape) + self.latent_dim, *self.critic, 1], lambda: nn.LeakyReLU(0.2))

    def _loop(self, network: Network, n: int, seed: int) -> Loop:
        """With Adam's first moment at ``momentum`` throughout: more of it makes the players overshoot."""
        loop = super()._loop(network, n, seed)
        for group in loop.optimizer.param_groups:
            group["betas"] = (self.momentum, group["betas"][1])
            group["base_momentum"] = group["max_momentum"] = self.momentum
        return loop

    def _check_parameters(self) -> None:
        super()._check_parameters()
        for width in self.critic:
            check_whole("critic", width)
        check_number("momentum", self.momentum, 0, 0.99)


@dataclass(repr=False, eq=False, kw_only=True)
class ALI(BiGAN):
    """Adversarially learned inference: a `BiGAN` whose codes are drawn."""

    def _network(self, shape: tuple[int, ...]) -> Network:
        pair = self._pair(shape, 2 * self.latent_dim)
        return Stochastic(*pair, len(shape) == 3, self._discriminator(shape), self.latent_dim)
