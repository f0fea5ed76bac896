"""Sampling on demand: images like one that is shown, and only what the model itself takes for inliers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rvqvae.errors import InputError, check_number, check_whole
from rvqvae.priors import GatedPixelCNN
from rvqvae.vqvae.inference import decode_codes, inlier_codes
from rvqvae.vqvae.model import TwoCodebookVQVAE

BATCH = 256
"""Samples that are drawn and judged at a time."""
MAX_DRAWN = 20
"""Samples that are drawn at most for each that is wanted, before `accepted` gives up."""


def draw(
    model: TwoCodebookVQVAE,
    prior: GatedPixelCNN,
    n: int,
    seed: int,
    *,
    like: NDArray[Any] | None = None,
    temperature: float = 1.0,
    top_p: float = 1.0,
) -> NDArray[Any]:
    """``n`` new samples, uint8 (n, C, H, W) or float (n, d), of all groups or of the sample ``like``'s."""
    groups = None
    if like is not None:
        groups = groups_of(prior, inlier_codes(model, like[None])[0], n, seed)
    codes = prior.sample(n, model.grid, seed=seed, temperature=temperature, top_p=top_p, labels=groups)
    return decode_codes(model, codes).numpy()


@torch.no_grad()
def groups_of(prior: GatedPixelCNN, codes: Tensor, n: int, seed: int) -> Tensor:
    """``n`` groups, int64, drawn from p(group | grid) of one grid ``codes`` (h, w).

    By Bayes' rule from the prior's own p(grid | group) and p(group), so that nothing else has to be kept. The
    i-th depends on the seed and i alone. Raises InputError for a prior without groups.
    """
    if not prior.n_classes:
        raise InputError(
            "this model tells no groups of inliers apart, so it cannot draw images like another: fit it with "
            "70 inliers or more, or leave `like` out"
        )
    likelihood = prior.log_prob(codes.expand(prior.n_classes, -1, -1), torch.arange(prior.n_classes))
    posterior = (likelihood.double() + prior.class_share.double().log()).softmax(0).cumsum(0).cpu().numpy()
    drawn = np.random.default_rng([seed, 2]).random(n) * posterior[-1]
    return torch.from_numpy(np.searchsorted(posterior, drawn, side="right"))


def accepted(
    drawing: Callable[[int, int], NDArray[Any]],
    outlier_probability: Callable[[NDArray[Any]], NDArray[np.float64]],
    n: int,
    limit: float | None,
    seed: int,
) -> NDArray[Any]:
    """The first ``n`` samples that are outliers with a probability of at most ``limit``; None takes all.

    ``drawing(number, seed)`` is called for 256 at a time with seeds that follow from ``seed``, so that the
    first samples do not depend on ``n``. Purity is bought with what the model doubts: look at coverage
    and recall as well. Raises InputError if fewer than one in 20 pass.
    """
    if limit is None:
        return drawing(n, seed)
    check_whole("n", n)
    check_number("max_outlier_probability", limit, 0, 1, above=True)
    passed: list[NDArray[Any]] = []
    blocks = MAX_DRAWN * -(-n // BATCH)
    for block in range(blocks):
        drawn = drawing(BATCH, int(np.random.SeedSequence([seed, block]).generate_state(1)[0]))
        passed.append(drawn[outlier_probability(drawn) <= limit])
        if sum(map(len, passed)) >= n:
            return np.concatenate(passed)[:n]
    raise InputError(
        f"{sum(map(len, passed)):,} of {blocks * BATCH:,} samples are outliers with a probability of at most "
        f"{limit:g}, and {n:,} are wanted: raise max_outlier_probability, or lower temperature or top_p"
    )
