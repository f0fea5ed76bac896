"""Who is an inlier: pure functions from views to log odds to sets. They know nothing of networks or training.

`view` and `evidence` describe samples, `judge` weighs the descriptors, `decision` draws the line; `update`
re-assigns the sets during the training of the two codebooks, and `literal` is the rule of the abstract.
"""

from rvqvae.membership.decision import cut_at, cut_of, rate_interval, verdict_of
from rvqvae.membership.evidence import Evidence, gather, names_of
from rvqvae.membership.judge import Judge, learned_judge
from rvqvae.membership.literal import literal_split
from rvqvae.membership.types import CodebookEvidence, Membership
from rvqvae.membership.update import update
from rvqvae.membership.view import JointView

__all__ = [
    "CodebookEvidence",
    "Evidence",
    "JointView",
    "Judge",
    "Membership",
    "cut_at",
    "cut_of",
    "gather",
    "learned_judge",
    "literal_split",
    "names_of",
    "rate_interval",
    "update",
    "verdict_of",
]
