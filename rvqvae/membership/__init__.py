"""Who is an inlier: pure functions from evidence to sets. They know nothing of networks or training."""

from rvqvae.membership.literal import literal_split
from rvqvae.membership.start import Rule, Start, warm_start
from rvqvae.membership.types import Evidence, Membership, cut_at
from rvqvae.membership.update import Competition, update
from rvqvae.membership.view import JointView

__all__ = [
    "Competition",
    "Evidence",
    "JointView",
    "Membership",
    "Rule",
    "Start",
    "cut_at",
    "literal_split",
    "update",
    "warm_start",
]
