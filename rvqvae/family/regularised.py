"""Autoencoders with a term beside the squared error: sparse, contractive; and the denoising one.

Weights are in the papers' units, the error summed over the d values of a sample: loss = mean squared error
+ weight x penalty / d.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Literal

import torch
from torch import Tensor, nn

from rvqvae.errors import check_choice, check_number
from rvqvae.family.base import Autoencoder, Network
from rvqvae.vqvae.networks import squared_error

# Sparse ------------------------------------------------------------------------------------------------


def l1_penalty(h: Tensor) -> Tensor:
    """Sum over units of the mean absolute activation: (B, units) -> scalar."""
    return h.abs().sum(1).mean()


def kl_penalty(h: Tensor, density: float) -> Tensor:
    """Sum over units of KL(density || mean activation): (B, units) in (0, 1) -> scalar (Ng 2011, CS294A)."""
    mean = h.mean(0).clamp(1e-6, 1 - 1e-6)
    rho = torch.full_like(mean, density)
    return (rho * (rho / mean).log() + (1 - rho) * ((1 - rho) / (1 - mean)).log()).sum()


class Sparse(Network):
    """Codes of rectified units under L1, of sigmoid units under KL."""

    def __init__(
        self, encoder: nn.Module, decoder: nn.Module, bounded: bool, weight: float, density: float | None
    ) -> None:
        super().__init__(encoder, decoder, bounded)
        self.weight, self.density = weight, density

    def encode(self, x: Tensor) -> Tensor:
        h = self.encoder(x)
        return h.relu() if self.density is None else h.sigmoid()

    def losses(self, x: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        h = self.encode(x)
        error = squared_error(x, self.decode(h)).mean()
        penalty = l1_penalty(h) if self.density is None else kl_penalty(h, self.density)
        return {"loss": error + self.weight * penalty / prod(x.shape[1:]), "error": error, "penalty": penalty}


@dataclass(repr=False, eq=False, kw_only=True)
class SparseAE(Autoencoder):
    """Few units of a wide code are active at a time.

    ``penalty``: "l1" on rectified units, or "kl" between ``density`` and each sigmoid unit's mean activation.
    """

    latent_dim: int = 256
    hidden: tuple[int, ...] = ()
    penalty: Literal["l1", "kl"] = "l1"
    weight: float = 0.3
    density: float = 0.05

    def _network(self, shape: tuple[int, ...]) -> Network:
        density = self.density if self.penalty == "kl" else None
        return Sparse(*self._pair(shape), len(shape) == 3, self.weight, density)

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_choice("penalty", self.penalty, ("l1", "kl"))
        check_number("weight", self.weight, 0)
        check_number("density", self.density, 1e-6, 1 - 1e-6)


# Denoising ---------------------------------------------------------------------------------------------


def mask(x: Tensor, amount: float, generator: torch.Generator) -> Tensor:
    """A share ``amount`` of the values, chosen by chance, set to zero (Vincent et al. 2008)."""
    return x * (torch.rand(x.shape, generator=generator) >= amount).to(x.device)


def add_gaussian(x: Tensor, amount: float, generator: torch.Generator) -> Tensor:
    """Normal noise of standard deviation ``amount``, in the units of ``x`` (Vincent et al. 2010)."""
    return x + amount * torch.randn(x.shape, generator=generator).to(x.device)


CORRUPTIONS = {"mask": mask, "gaussian": add_gaussian}


class Denoising(Network):
    """Reconstructs clean samples from corrupted ones; outside of training nothing is corrupted."""

    def __init__(
        self, encoder: nn.Module, decoder: nn.Module, bounded: bool, corruption: str, amount: float
    ) -> None:
        super().__init__(encoder, decoder, bounded)
        self.corrupt, self.amount = CORRUPTIONS[corruption], amount

    def losses(self, x: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        return {"loss": squared_error(x, self.reconstruct(self.corrupt(x, self.amount, generator))).mean()}


@dataclass(repr=False, eq=False, kw_only=True)
class DenoisingAE(Autoencoder):
    """Undoes a corruption: "mask" zeroes a share ``amount``, "gaussian" adds noise of that deviation."""

    corruption: Literal["mask", "gaussian"] = "mask"
    amount: float = 0.3

    def _network(self, shape: tuple[int, ...]) -> Network:
        return Denoising(*self._pair(shape), len(shape) == 3, self.corruption, self.amount)

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_choice("corruption", self.corruption, CORRUPTIONS)
        check_number("amount", self.amount, 0, 0.99 if self.corruption == "mask" else 100)


# Contractive -------------------------------------------------------------------------------------------


def sigmoid_jacobian_norm(h: Tensor, weight: Tensor) -> Tensor:
    """Squared Frobenius norm of dh/dx for h = sigmoid(W x + b): (B, units), (units, d) -> (B,).

    Rifai et al. 2011, eq. 6.
    """
    return (h * (1 - h)).square() @ weight.square().sum(1)


def hutchinson_jacobian_norm(h: Tensor, x: Tensor, generator: torch.Generator) -> Tensor:
    """Unbiased estimate of the same for any h (B, units) computed from x (B, ...), which needs a gradient.

    E |v' dh/dx|^2 over random signs v (Hutchinson 1990); one draw a sample. Differentiable.
    """
    signs = torch.randint(0, 2, h.shape, generator=generator).to(h) * 2 - 1
    (gradient,) = torch.autograd.grad(h, x, signs, create_graph=True)
    return gradient.square().flatten(1).sum(1)


class Contractive(Network):
    """Sigmoid codes that change little with the sample."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module, bounded: bool, weight: float) -> None:
        super().__init__(encoder, decoder, bounded)
        self.weight = weight

    def encode(self, x: Tensor) -> Tensor:
        return self.encoder(x).sigmoid()

    def jacobian_norm(self, x: Tensor, h: Tensor, generator: torch.Generator) -> Tensor:
        """(B,) exact for one layer, estimated for deeper encoders."""
        layers = [layer for layer in self.encoder.children() if not isinstance(layer, nn.Flatten)]
        if len(layers) == 1 and isinstance(layers[0], nn.Linear):
            return sigmoid_jacobian_norm(h, layers[0].weight)
        return hutchinson_jacobian_norm(h, x, generator)

    def losses(self, x: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        x = x.detach().requires_grad_()
        h = self.encode(x)
        error, penalty = squared_error(x, self.decode(h)).mean(), self.jacobian_norm(x, h, generator).mean()
        return {"loss": error + self.weight * penalty / prod(x.shape[1:]), "error": error, "penalty": penalty}


@dataclass(repr=False, eq=False, kw_only=True)
class ContractiveAE(Autoencoder):
    """``weight`` times the squared norm of the code's Jacobian beside the error (Rifai et al. 2011)."""

    latent_dim: int = 256
    hidden: tuple[int, ...] = ()
    weight: float = 0.1

    def _network(self, shape: tuple[int, ...]) -> Network:
        return Contractive(*self._pair(shape), len(shape) == 3, self.weight)

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_number("weight", self.weight, 0)
