"""The autoencoder family that the Robust VQ-VAE belongs to: one interface, a small class for each member.

What they share is in `base`; the survey that they follow is Bank, Koenigstein and Giryes, "Autoencoders"
(arXiv:2003.05991).
"""

from rvqvae.family.base import Autoencoder, Network

__all__ = ["Autoencoder", "Network"]
