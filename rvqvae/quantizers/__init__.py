"""Vector quantisers: from continuous vectors to codewords. They know nothing of training."""

from rvqvae.quantizers.codebook import Codebook, Quantized, straight_through
from rvqvae.quantizers.soft import SoftCodebook, posterior, released_weights

__all__ = ["Codebook", "Quantized", "SoftCodebook", "posterior", "released_weights", "straight_through"]
