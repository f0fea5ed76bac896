"""The autoencoder family that the Robust VQ-VAE belongs to: one interface, a small class for each member.

What they share is in `base`; the survey that they follow is Bank, Koenigstein and Giryes, "Autoencoders"
(arXiv:2003.05991).
"""

from rvqvae.family.adversarial import ALI, BiGAN
from rvqvae.family.autoregressive import PixelCNNVAE
from rvqvae.family.base import Autoencoder, Network
from rvqvae.family.hard import HardVQVAE
from rvqvae.family.perceptual import DeepFeatureVAE
from rvqvae.family.product import PQVAE
from rvqvae.family.recommender import AutoRec
from rvqvae.family.regularised import ContractiveAE, DenoisingAE, SparseAE
from rvqvae.family.soft import SoftVQVAE
from rvqvae.family.variational import VAE

__all__ = [
    "ALI",
    "PQVAE",
    "VAE",
    "AutoRec",
    "Autoencoder",
    "BiGAN",
    "ContractiveAE",
    "DeepFeatureVAE",
    "DenoisingAE",
    "HardVQVAE",
    "Network",
    "PixelCNNVAE",
    "SoftVQVAE",
    "SparseAE",
]
