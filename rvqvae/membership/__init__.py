"""Who is an inlier: pure functions from evidence to sets. They know nothing of networks or training."""

from rvqvae.membership.literal import literal_split
from rvqvae.membership.start import joint_view, warm_start
from rvqvae.membership.types import Evidence, Membership
from rvqvae.membership.update import update

__all__ = ["Evidence", "Membership", "joint_view", "literal_split", "update", "warm_start"]
