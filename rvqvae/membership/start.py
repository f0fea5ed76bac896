"""The warm start: who belongs to the majority, before any training.

Three questions, as there are three kinds of outliers. A foreign group, however tight, is found by whether
the majority's codebook of patches can stand in for its own (`patches`); a mode of its own beside a majority
that is one mode, by the valley between them (`modes`); whatever lies far from the majority, alone or not, by
a robust ellipsoid in the joint view (`ellipsoid`). None sees a label or needs a rate.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from rvqvae.errors import InputError
from rvqvae.membership.ellipsoid import Ellipsoid
from rvqvae.membership.linear import FOLDS, Linear, out_of_fold
from rvqvae.membership.modes import FEWEST as FEWEST_FOR_MODES
from rvqvae.membership.modes import PARTED, Modes, one_mode
from rvqvae.membership.patches import MOST, foreignness
from rvqvae.membership.types import Membership, cut_at
from rvqvae.membership.view import JointView, Views

FEWEST = 50
"""Fewer samples are ranked, but nothing can be said of their rate."""
VALLEY = 0.8
"""Nats of depth above which a mode beside the majority is taken for outliers: T-shirts alone show .7."""
FEWEST_BESIDE = 0.01
"""Share of the data below which modes beside the majority are taken for chance."""
ISOLATED = 1e-14
"""Where no mode lies beside the majority: a sample is an outlier if a normal distribution's would lie as far
with less than this probability.

That is 6.5 spreads of the log distance in the 96 dimensions of images, where clean digits reach 5.2, clothes
2.6 and single classes 4.4, noise among digits 6.7 and negatives of digits 7.6; in 6 dimensions it is 4.4.
"""
SPREADS_PER_NAT = 2.5
"""What a nat of valley counts for beside the ellipsoid, above the depth of 0.3 that halves of a mode show.

Mean AUROC over the single classes at rates .05/.1/.2/.3/.45: ellipsoid alone .945 .955 .963 .961 .935,
valleys alone .840 .893 .936 .946 .946, both .947 .958 .968 .970 .959.
"""


class Rule(NamedTuple):
    """What the warm start learned; it scores new samples exactly as it scored the training set."""

    view: JointView
    majority: Ellipsoid
    foreign: Linear | None
    modes: Modes | None
    cut: float
    """Spreads above which a sample is an outlier."""

    def __call__(self, z: NDArray[np.float32]) -> NDArray[np.float64]:
        """(N,) log odds of being an outlier, of samples ``z`` (N, d) in the joint `view`."""
        odds = self.far(z) - self.cut
        return odds if self.foreign is None else np.logaddexp(odds, self.foreign(z))

    def far(self, z: NDArray[np.float32]) -> NDArray[np.float64]:
        """(N,) distance from the majority, in spreads."""
        beside = 0.0 if self.modes is None else SPREADS_PER_NAT * np.clip(self.modes(z) - 0.3, 0, 1.6)
        return self.majority(z) + beside


class Start(NamedTuple):
    """The sets before training, the rule behind them, and how well the rate is known."""

    membership: Membership
    rule: Rule
    interval: tuple[float, float]
    """95 % interval of the contamination."""


def warm_start(
    views: Views,
    *,
    images: NDArray[np.uint8] | None = None,
    contamination: float | None = None,
    seed: int = 0,
) -> Start:
    """Split N samples by their ``views``, each (N, d); ``images`` uint8 (N, C, H, W) if they are images.

    With ``contamination`` exactly that share, with the highest log odds, are outliers. Raises InputError
    for a single sample, and for identical or non-finite samples.
    """
    _check(views)
    view = JointView.fit(views, seed)
    z = view(views)
    foreign = np.zeros(len(z), bool)
    if images is not None and len(z) >= FEWEST:
        foreign = foreignness(images, z, seed) > 1
    classifier = None
    if FOLDS <= foreign.sum() <= (1 - MOST) * len(z):
        # Out of fold, the classifier mends the images that k-means put into the wrong group.
        mended = out_of_fold(z, foreign, 0.1, seed) > 0
        foreign = mended if FOLDS <= mended.sum() <= (1 - MOST) * len(z) else foreign
        classifier = Linear.fit(z, foreign, 0.1)
    else:
        foreign[:] = False
    rule = Rule(view, Ellipsoid.fit(z, ~foreign, seed), classifier, None, _isolated(z.shape[1]))
    interval = (0.0, 0.5)
    if len(z) >= FEWEST:
        rule, interval = _beside(rule, z, foreign, seed)
    log_odds = rule(z)
    if contamination is not None:
        log_odds = log_odds - cut_at(log_odds, contamination)
        interval = (contamination, contamination)
    return Start(Membership(log_odds), rule, interval)


def _beside(
    rule: Rule, z: NDArray[np.float32], foreign: NDArray[np.bool_], seed: int
) -> tuple[Rule, tuple[float, float]]:
    """``rule`` with the modes beside the majority, if it is one mode; and the interval of the rate.

    The intervals are what was measured on each class of MNIST and Fashion-MNIST among the others at rates 0
    to .45: at least the deepest modes are outliers; half as many again as were found, and a tenth of the
    data, may hide among the inliers. A majority of several modes can hide none that this rule could see.
    """
    rest = z[~foreign]
    share = len(rest) / len(z)
    low = high = 1 - share
    doubt = 0.01
    if len(rest) < FEWEST_FOR_MODES:
        return rule, (max(0.0, low - doubt), min(0.5, high + 0.12 * share + doubt))
    modes = Modes.fit(rest, seed)
    depth = modes(rest)
    whole = one_mode(modes.inside, len(rest))
    beside = (depth > VALLEY) & whole
    if FEWEST_BESIDE <= beside.mean() <= 0.5:
        rule = rule._replace(modes=modes)
        far = rule.far(rest)
        rule = rule._replace(cut=_balanced_cut(far, beside))
        found = float((far > rule.cut).mean())
        low += share * min(found, float((depth > 1.4 * VALLEY).mean()))
        high += share * (0.1 + 1.5 * found)
    elif whole:
        high += 0.12 * share
    elif modes.inside <= PARTED:
        high = 0.5
    return rule, (max(0.0, low - doubt), min(0.5, high + doubt))


def _isolated(dimensions: int) -> float:
    """ISOLATED in spreads: the log of a chi-squared variable, centred and scaled as `Ellipsoid` does."""
    normal = chi2(dimensions)
    spread = np.log(normal.ppf(0.75) / normal.ppf(0.25)) / 1.349
    return float(np.log(normal.isf(ISOLATED) / normal.median()) / spread)


def _balanced_cut(far: NDArray[np.float64], beside: NDArray[np.bool_]) -> float:
    """The distance that tells the modes ``beside`` (N,) from the rest with the fewest errors of both kinds.

    A missed one counts half of a dropped one: what lies beside is in doubt, the majority is not.
    """
    cuts = np.sort(far)[len(far) // 2 :]
    missed = np.searchsorted(np.sort(far[beside]), cuts) / beside.sum()
    dropped = 1 - np.searchsorted(np.sort(far[~beside]), cuts) / (~beside).sum()
    return float(cuts[np.argmin(0.5 * missed + dropped)])


def _check(views: Views) -> None:
    n = len(views[0])
    if n < 2:
        raise InputError(f"n_samples={n} is too few to tell a majority: give at least 2, better {FEWEST}")
    for view in views:
        if not np.isfinite(view).all():
            raise InputError("the samples hold NaN or infinite values; remove or impute them first")
    if (views[0] == views[0][:1]).all():
        raise InputError("all samples are identical: there is nothing to tell apart")
