"""Who is an inlier: pure functions from evidence to sets. They know nothing of networks or training."""

from rvqvae.membership.literal import literal_split
from rvqvae.membership.types import Evidence, Membership

__all__ = ["Evidence", "Membership", "literal_split"]
