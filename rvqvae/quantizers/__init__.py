"""Vector quantisers: from continuous vectors to codewords. They know nothing of training."""

from rvqvae.quantizers.codebook import Codebook, Quantized, straight_through

__all__ = ["Codebook", "Quantized", "straight_through"]
