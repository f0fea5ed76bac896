"""IMSAT: clusters and hash codes by information maximising self-augmented training (Hu et al. 2017).

`objective` says what is optimised, `augmentation` what samples are moved by, `training` how it is trained.
"""

from rvqvae.clustering.augmentation import nearest_distances, neighbour_distances
from rvqvae.clustering.estimators import IMSAT, IMSATHash, hamming_distances

__all__ = ["IMSAT", "IMSATHash", "hamming_distances", "nearest_distances", "neighbour_distances"]
