"""Our own method as the suite sees it: `RobustVQVAE` itself, and what its two codebooks would add.

Two things differ from how a user calls it, so that many sets are measured fairly: the judge has not learned
from the families of the set at hand, and the views of the images are read from where they are kept.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cache, partial
from typing import NamedTuple
from unittest.mock import patch

import numpy as np
import torch
from scipy.special import expit

from pipelines.judging.cases import Case, Decision
from pipelines.judging.review import Review, User
from pipelines.train_judge import Table, read_table
from rvqvae import RobustVQVAE, detector
from rvqvae.config import ModelConfig, training_for
from rvqvae.errors import InputError
from rvqvae.membership import Judge, Membership
from rvqvae.membership.linear import FOLDS
from rvqvae.membership.update import likelihood_ratio
from rvqvae.questions import Question
from rvqvae.vqvae.inference import codebook_evidence, codebook_scores
from rvqvae.vqvae.training import Fitted, fit

GROUP_STAGES, IMAGE_STAGES = (3, 5, 8), (20, 50)
"""Answers after which a decision is looked at, as after the last."""
FIRST = 8
"""Questions that count as asked before any answer."""
BATCH = 5
"""Images that are asked about at a time."""
MOST = 500
"""Questions at most among which single images are looked for."""


class Stage(NamedTuple):
    """What is said after so many answers about groups and about single images."""

    groups: int
    singles: int
    said: Decision


def membership(case: Case, user: User, asked: Review, leave_out: bool) -> Iterator[Stage]:
    """Answers are taken; no network is trained, as that changes no score."""
    with measured(case, leave_out), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # answers that contradict others: some are wrong
        est = RobustVQVAE(epochs=0, random_state=case.seed).fit(case.samples)
        first = np.zeros(len(case.samples), bool)
        for question in est.ask(FIRST):
            first[question.rows] = len(question.rows) > 1
        yield Stage(0, 0, said_by(est)._replace(asked=first))
        yield from _about_groups(est, user, asked.groups)
        for singles in range(BATCH, asked.singles + BATCH, BATCH):
            singles = min(singles, asked.singles)
            answer(est, user, images_to_ask(est, singles - (singles - 1) // BATCH * BATCH))
            if singles in (*IMAGE_STAGES, asked.singles):
                yield Stage(asked.groups, singles, said_by(est))


def codebooks(case: Case, user: User, asked: Review, leave_out: bool) -> Iterator[Stage]:
    """The sets that a training ends with: the judge's, moved by the evidence of both codebooks."""
    _, fitted = _trained(case, leave_out)
    odds, sets = fitted.membership.log_odds, fitted.membership.is_outlier
    yield Stage(0, 0, Decision(odds, sets, expit(odds)))


def codebooks_alone(case: Case, user: User, asked: Review, leave_out: bool) -> Iterator[Stage]:
    """Their likelihood ratio alone, neither bounded nor added to the judge's log odds; it only ranks."""
    est, fitted = _trained(case, leave_out)
    sets = fitted.membership.is_outlier
    if min(sets.sum(), (~sets).sum()) < FOLDS:
        yield Stage(0, 0, Decision(-est.scores_))
        return
    known = codebook_evidence(codebook_scores(fitted.model, torch.as_tensor(case.samples)), sets)
    yield Stage(0, 0, Decision(likelihood_ratio(known, sets, case.seed)))


def _trained(case: Case, leave_out: bool) -> tuple[RobustVQVAE, Fitted]:
    """As `RobustVQVAE.fit` trains by default, from the judge's sets."""
    usual = training_for("usual", len(case.samples), case.samples.shape[1:], None)
    with measured(case, leave_out):
        est = RobustVQVAE(epochs=0, random_state=case.seed).fit(case.samples)
    start = Membership(est.offset_ - est.scores_)
    return est, fit(case.samples, ModelConfig(), usual, seed=case.seed, start=start)


OWN: dict[str, Callable[[Case, User, Review, bool], Iterator[Stage]]] = {
    "rvqvae": membership,
    "codebooks": codebooks,
    "codebooks alone": codebooks_alone,
}


def _about_groups(est: RobustVQVAE, user: User, budget: int) -> Iterator[Stage]:
    for groups in range(1, budget + 1):
        # Where no group is worth asking about, what is left of the budget stays unused.
        answer(est, user, [question for question in est.ask(1) if len(question.rows) > 1])
        if groups in (*GROUP_STAGES, budget):
            yield Stage(groups, 0, said_by(est))


def answer(est: RobustVQVAE, user: User, asked: Sequence[Question]) -> None:
    """As the user does, one by one; an answer after which nothing would belong is not taken."""
    for question in asked:
        with suppress(InputError):
            est.answer({question.id: user.belongs(question.rows)})


def images_to_ask(est: RobustVQVAE, n: int) -> list[Question]:
    """The ``n`` single images most worth asking about: they come after all groups that are."""
    wanted, found = n, list[Question]()
    while len(found) < n and wanted < MOST:
        found = [question for question in est.ask(wanted) if len(question.rows) == 1]
        wanted += n - len(found)
    return found[:n]


def said_by(est: RobustVQVAE) -> Decision:
    """What the estimator says of its training data."""
    return Decision(
        -est.scores_, ~est.inlier_mask_, est.outlier_probability_, est.contamination_interval_, est.verdict_
    )


@contextmanager
def measured(case: Case, leave_out: bool) -> Iterator[None]:
    """While it lasts, a fit to the case reads the kept views and, to leave out, has metric and judge of its
    own."""
    extract_views = detector.extract_views

    def kept(samples, *args, **options):
        known = samples.shape == case.samples.shape and (samples == case.samples).all()
        return case.views if known else extract_views(samples, *args, **options)

    with ExitStack() as stack:
        stack.enter_context(patch.object(detector, "extract_views", kept))
        if leave_out and case.samples.ndim > 2:
            metric = case.metric
            stack.enter_context(patch.object(detector, "learned_metric", lambda: metric))
            stack.enter_context(
                patch.object(detector, "learned_judge", partial(left_out, case.scenario.families))
            )
        yield


@cache
def left_out(families: frozenset[str], kind: str) -> Judge:
    return table().judge(kind, families)


@cache
def table() -> Table:
    return read_table()
