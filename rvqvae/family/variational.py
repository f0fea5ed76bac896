"""Variational autoencoder (Kingma and Welling 2014), with an importance-weighted likelihood."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn
from torch.nn import functional as F

from rvqvae.devices import in_double
from rvqvae.errors import InputError, check_choice, check_whole
from rvqvae.family.base import Autoencoder, Network, batches
from rvqvae.io.samples import draw_seed
from rvqvae.optimization import generator_of


def gaussian_kl(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, variance) || N(0, I)) in nats: (B, latent) twice -> (B,) (appendix B)."""
    return 0.5 * (mean.square() + log_variance.exp() - log_variance - 1).sum(1)


def normal_log_density(x: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """Log density of N(mean, variance) in nats, summed over all axes but the first: (B, ...) -> (B,)."""
    nats = math.log(2 * math.pi) + log_variance + (x - mean).square() * (-log_variance).exp()
    return -0.5 * nats.flatten(1).sum(1)


class Variational(Network):
    """Normal posterior whose mean and log variance the encoder gives, standard normal prior.

    Subclasses say ``log_prob``. ``latent_dim`` is the width of the code, half of the encoder's.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module, bounded: bool, latent_dim: int) -> None:
        super().__init__(encoder, decoder, bounded)
        self.latent_dim = latent_dim

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance, (B, latent) each."""
        mean, log_variance = self.encoder(x).chunk(2, 1)
        # Beyond this the exponential overflows, and one odd sample would end the training.
        return mean, log_variance.clamp(-20, 20)

    def encode(self, x: Tensor) -> Tensor:
        return self.posterior(x)[0]

    def log_prob(self, x: Tensor, z: Tensor) -> Tensor:
        """log p(x | z) in nats, (B,)."""
        raise NotImplementedError

    def losses(self, x: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        mean, log_variance = self.posterior(x)
        noise = torch.randn(mean.shape, generator=generator).to(mean)
        reconstruction = -self.log_prob(x, mean + (0.5 * log_variance).exp() * noise).mean()
        kl = gaussian_kl(mean, log_variance).mean()
        return {"loss": reconstruction + kl, "reconstruction": reconstruction, "kl": kl}

    def score(self, x: Tensor) -> Tensor:
        """(B,) the evidence lower bound in nats, at the posterior's mean instead of a draw."""
        mean, log_variance = self.posterior(x)
        return self.log_prob(x, mean) - gaussian_kl(mean, log_variance)

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        z = torch.randn(n, self.latent_dim, generator=generator)
        return self.decode(z.to(next(self.parameters())))


class Bernoulli(Variational):
    """Values in [0, 1], each a coin's probability; greys count as shares of both outcomes."""

    def log_prob(self, x: Tensor, z: Tensor) -> Tensor:
        logits = self.decoder(z)
        return -F.binary_cross_entropy_with_logits(logits, x, reduction="none").flatten(1).sum(1)

    def before_epoch(self, number: int, data: Tensor, generator: torch.Generator) -> None:
        if number == 0 and data.is_floating_point() and (data.min() < 0 or data.max() > 1):
            raise InputError(
                f"values from {float(data.min()):.3g} to {float(data.max()):.3g} are no probabilities: "
                "scale them to 0..1, or use likelihood='gaussian'"
            )


class Gaussian(Variational):
    """Normal values of one learned variance (Rybkin et al. 2021): nothing to tune between the two terms."""

    def __init__(self, encoder: nn.Module, decoder: nn.Module, bounded: bool, latent_dim: int) -> None:
        super().__init__(encoder, decoder, bounded, latent_dim)
        self.log_variance = nn.Parameter(torch.zeros(()))

    def log_prob(self, x: Tensor, z: Tensor) -> Tensor:
        # A floor: an exact reconstruction would send it to minus infinity.
        return normal_log_density(x, self.decode(z), self.log_variance.clamp_min(-12))


class VariationalAutoencoder(Autoencoder):
    """What the members with a likelihood share."""

    def log_likelihood(
        self, X: ArrayLike, n_samples: int = 200, random_state: int | np.random.RandomState | None = 0
    ) -> NDArray[np.float64]:
        """(N,) log p(x) in nats, from below, by ``n_samples`` weighted draws from the posterior.

        Burda et al. 2016, eq. 8: tighter with more draws; with one, an estimate of the evidence lower bound.
        The draws of a sample depend on ``random_state`` and on its place in ``X``.
        """
        check_is_fitted(self)
        check_whole("n_samples", n_samples)
        generator = generator_of(draw_seed(random_state), 3)
        network, parts = cast(Variational, in_double(self.network_)), []
        with torch.inference_mode():
            for x in batches(self._samples(X), network):
                mean, log_variance = network.posterior(x)
                weights = []
                for _ in range(n_samples):
                    noise = torch.randn(mean.shape, generator=generator).to(mean)
                    z = mean + (0.5 * log_variance).exp() * noise
                    nothing = torch.zeros_like(z)
                    prior = normal_log_density(z, nothing, nothing)
                    weights.append(network.log_prob(x, z) + prior - normal_log_density(z, mean, log_variance))
                parts.append(torch.stack(weights).double().logsumexp(0) - math.log(n_samples))
        return torch.cat(parts).cpu().numpy()


@dataclass(repr=False, eq=False, kw_only=True)
class VAE(VariationalAutoencoder):
    """Variational autoencoder with a "gaussian" or "bernoulli" ``likelihood``; scores are bounds in nats."""

    likelihood: Literal["gaussian", "bernoulli"] = "gaussian"

    def _network(self, shape: tuple[int, ...]) -> Network:
        bernoulli = self.likelihood == "bernoulli"
        kind = Bernoulli if bernoulli else Gaussian
        pair = self._pair(shape, 2 * self.latent_dim)
        return kind(*pair, bernoulli or len(shape) == 3, self.latent_dim)

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_choice("likelihood", self.likelihood, ("gaussian", "bernoulli"))
