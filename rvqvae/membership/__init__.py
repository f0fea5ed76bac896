"""Decide who is an inlier: pure functions from views to log odds to sets, without networks or training.

`view` and `evidence` compute descriptors of samples, `judge` turns them into log odds, `decision` thresholds
these. `update` re-assigns the sets while the two codebooks are trained; `literal` is the abstract's rule.
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
