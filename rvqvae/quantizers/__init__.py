"""Vector quantisers: from continuous vectors to codewords. They know nothing of training."""

from rvqvae.quantizers.codebook import Codebook, Quantized, straight_through
from rvqvae.quantizers.product import ProductQuantized, ProductQuantizer
from rvqvae.quantizers.soft import SoftCodebook, nearest_weights, posterior, released_weights

__all__ = [
    "Codebook",
    "ProductQuantized",
    "ProductQuantizer",
    "Quantized",
    "SoftCodebook",
    "nearest_weights",
    "posterior",
    "released_weights",
    "straight_through",
]
