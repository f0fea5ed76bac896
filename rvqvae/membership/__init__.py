"""Who is an inlier: pure functions from evidence to sets. They know nothing of networks or training."""

from rvqvae.membership.literal import literal_split
from rvqvae.membership.start import joint_view, warm_start
from rvqvae.membership.types import Membership

__all__ = ["Membership", "joint_view", "literal_split", "warm_start"]
