"""Soft quantisation: not the nearest centroid, but the Bayesian estimate of the one behind a noisy encoding.

Source: Wu and Flierl 2020, "Quantization-Based Regularization for Autoencoders" (arXiv:1905.11062). An
encoding z (D values) is taken for one of K centroids, all equally likely beforehand, under Gaussian noise
whose standard deviation sigma_k is an input's own for each centroid: z = c_k + sigma_k n. The decoder gets
the estimate of least mean squared error, the posterior mean of the centroids. No noise is drawn, and there is
neither schedule nor temperature: sigma is learned, by what brings the estimate near the encoding.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from rvqvae.config import ModelConfig
from rvqvae.vqvae.codebook import Codebook, Quantized

Weighting = Callable[[Tensor, Tensor, Tensor], Tensor]
"""From encodings, centroids and log sigma to the centroids' weights, as `posterior`."""

LARGEST_LOG = 20.0
"""Of log sigma, either way: beyond, the squares leave the range of float32."""


def posterior(z: Tensor, centroids: Tensor, log_sigma: Tensor) -> Tensor:
    """p(centroid | z), (N, K), for ``z`` (N, D), ``centroids`` (K, D) and ``log_sigma`` (N, K), or any shape
    that stretches to it. Bayes' rule with the densities N(z; c_k, sigma_k^2 I) and equal priors.

    All sigma small: one-hot at the nearest centroid. All equal and large: 1 / K each.
    """
    log_sigma = log_sigma.clamp(-LARGEST_LOG, LARGEST_LOG)
    return (_exponents(z, centroids, log_sigma) - z.shape[1] * log_sigma).softmax(1)


def released_weights(z: Tensor, centroids: Tensor, log_sigma: Tensor) -> Tensor:
    """The weights of the authors' published notebook, in place of `posterior`, of the same shapes.

    They multiply each exponential by sigma_k where the Gaussian density divides by sigma_k^D. For a sigma
    that all centroids share, both are the same.
    """
    log_sigma = log_sigma.clamp(-LARGEST_LOG, LARGEST_LOG)
    return (_exponents(z, centroids, log_sigma) + log_sigma).softmax(1)


def nearest_weights(z: Tensor, centroids: Tensor, log_sigma: Tensor) -> Tensor:
    """The limit of `posterior` for small sigma: one-hot at the nearest centroid, whatever ``log_sigma``."""
    nearest = _squares(z, centroids).argmin(1)
    return nn.functional.one_hot(nearest, len(centroids)).to(z.dtype)


def _exponents(z: Tensor, centroids: Tensor, log_sigma: Tensor) -> Tensor:
    """-|z - c|^2 / (2 sigma^2), (N, K)."""
    return -0.5 * _squares(z, centroids) * (-2 * log_sigma).exp()


def _squares(z: Tensor, centroids: Tensor) -> Tensor:
    """|z - c|^2, (N, K)."""
    squares = torch.addmm(centroids.square().sum(1), z, centroids.T, alpha=-2) + z.square().sum(1)[:, None]
    return squares.clamp_min(0)


class SoftCodebook(Codebook):
    """A `Codebook` whose ``vectors`` are posterior means and whose ``codes`` are the likeliest codewords.

    log sigma is a linear function of the encoding, learned by the codebook loss; it starts, with the
    codewords, as the root mean square of what they leave of the encodings (ours: it needs no tuning to the
    encoder's scale). The moving averages follow the codes.
    """

    def __init__(self, n_codes: int, config: ModelConfig) -> None:
        super().__init__(n_codes, config)
        self.log_sigma = nn.Linear(config.code_dim, n_codes)
        nn.init.zeros_(self.log_sigma.weight)
        nn.init.zeros_(self.log_sigma.bias)

    def forward(self, z: Tensor) -> Quantized:
        """Quantise ``z`` (N, D), in float32; the gradient of ``vectors`` reaches z, sigma and codewords."""
        with torch.autocast(z.device.type, enabled=False):
            z = z.float()
            # Copied, as the moving averages move the codewords before the gradient has been taken.
            codewords = self.codewords.clone()
            points, centres = z, codewords
            if self.weighted:
                points, centres = z @ self.metric, codewords @ self.metric
            weights = posterior(points, centres, self.log_sigma(z))
            vectors = weights @ codewords
            distance = (points - weights @ centres).detach().square().sum(1)
            return Quantized(weights.argmax(1), vectors, distance)

    @torch.no_grad()
    def kmeans_init(self, z: Tensor, generator: torch.Generator, iterations: int = 10) -> None:
        """As `Codebook.kmeans_init`, and sigma with it."""
        super().kmeans_init(z, generator, iterations)
        if len(z) == 0:
            return
        z = z.float()
        left = torch.cdist(z, self.codewords).min(1).values.square().mean() / z.shape[1]
        # As many codewords as encodings leave nothing, and no sigma to learn from.
        least = 1e-4 * z.square().mean() + 1e-12
        self.log_sigma.bias.fill_(float(torch.maximum(left, least).log() / 2))
