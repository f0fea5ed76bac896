"""The prior over code grids: it sees integer grids only."""

from rvqvae.priors.pixelcnn import GatedPixelCNN
from rvqvae.priors.training import fit_prior

__all__ = ["GatedPixelCNN", "fit_prior"]
