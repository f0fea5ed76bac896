"""The update of the sets between epochs, by the likelihood ratio of both codebooks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit

from rvqvae.membership.decision import cut_at
from rvqvae.membership.linear import FOLDS, out_of_fold
from rvqvae.membership.types import CodebookEvidence, Membership

MAX_RATIO = 2.0
"""Largest change of the start's log odds by the codebooks: they may decide unsure samples only.

Ours. Without a limit, codebooks confirm whatever split they were trained on, and on near outliers they spoil
a good start: with 4.0, digit 4 at rate .3 fell from AUROC .996 to .993 and T-shirts at .1 rose from
.954 to .962 in training but not on new images (.941), with 8 % more called outliers than there are.
"""


def update(
    start: Membership,
    current: Membership,
    evidence: CodebookEvidence,
    seed: int,
    contamination: float | None = None,
) -> Membership:
    """Sets of the next epoch: the log odds of ``start`` plus the log likelihood ratio of the codebooks.

    The ratio is learned from the ``current`` sets, which the codebooks were trained on, and read out of fold.
    With fewer samples in a set than folds, the start is returned. A given ``contamination`` is met exactly.
    """
    outliers = int(current.is_outlier.sum())
    if min(outliers, len(current.is_outlier) - outliers) < FOLDS:
        return start
    ratio = np.clip(likelihood_ratio(evidence, current.is_outlier, seed), -MAX_RATIO, MAX_RATIO)
    log_odds = start.log_odds + ratio
    return Membership(log_odds if contamination is None else log_odds - cut_at(log_odds, contamination))


def likelihood_ratio(
    evidence: CodebookEvidence, is_outlier: NDArray[np.bool_], seed: int
) -> NDArray[np.float64]:
    """(N,) log p(evidence | outlier) / p(evidence | inlier), by a linear model, out of fold."""
    return np.asarray(out_of_fold(_columns(evidence), is_outlier, 1.0, seed) - logit(is_outlier.mean()))


def _columns(evidence: CodebookEvidence) -> NDArray[np.float64]:
    """(N, 4)."""
    return np.column_stack(
        [
            np.log(evidence.inlier_distance + 1e-12),
            np.log(evidence.outlier_distance + 1e-12),
            evidence.inlier_surprise,
            evidence.outlier_surprise,
        ]
    )
