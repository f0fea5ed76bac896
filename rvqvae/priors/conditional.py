"""Sampling on demand: of one class or cluster at a time, and of what the model itself takes for inliers.

A class-conditional prior is a mixture as every prior of `rvqvae.priors.groups` is, whose groups lie each
within one class: p(grid | class) is the sum over the groups of the class of p(group | class) p(grid | group),
with the gates of van den Oord et al. 2016, eq. 4, conditional on the group. Ours: of 500 images of a class,
groups within it say more about the whole grid than the class alone.
"""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from rvqvae.config import PriorConfig
from rvqvae.errors import InputError
from rvqvae.priors import GatedPixelCNN, fit_prior
from rvqvae.priors.groups import GROUP, code_groups
from rvqvae.priors.training import Report
from rvqvae.vqvae.inference import decode_codes, inlier_codes
from rvqvae.vqvae.model import TwoCodebookVQVAE

Label = int | str
FEWEST = 2
"""Inliers of a class."""
BLOCK = 256
"""Samples that are drawn and judged at a time."""
MOST = 20
"""Samples that are drawn at most for each that is wanted, before `accepted` gives up."""


class Classes(NamedTuple):
    """Which classes a prior knows, and which of them each of its G groups is in."""

    names: tuple[Label, ...]
    of_group: tuple[int, ...]
    """(G,) index into ``names``."""

    @classmethod
    def read(cls, stored: dict[str, Any] | None, prior: GatedPixelCNN | None) -> Classes | None:
        """What ``_asdict`` became as JSON; ValueError unless it fits the prior."""
        if stored is None:
            return None
        n_groups = 0 if prior is None else prior.n_classes
        names, of_group = tuple(stored["names"]), tuple(map(int, stored["of_group"]))
        if len(of_group) != n_groups or set(of_group) != set(range(len(names))):
            raise ValueError(f"classes of {len(of_group)} groups")
        return cls(names, of_group)

    def draw(self, prior: GatedPixelCNN, label: object, n: int, seed: int) -> Tensor:
        """Groups (n,) int64 of the class ``label``, by their share; the i-th depends on seed and i alone."""
        if not isinstance(label, Integral | str) or label not in self.names:
            known = ", ".join(map(repr, self.names[:20]))
            raise InputError(f"label={label!r} is not one of the classes that were kept: give one of {known}")
        inside = torch.tensor(self.of_group) == self.names.index(label)
        share = (prior.class_share.cpu().double() * inside).cumsum(0).numpy()
        drawn = np.random.default_rng([seed, 2]).random(n) * share[-1]
        return torch.from_numpy(np.searchsorted(share, drawn, side="right"))


def condition(
    model: TwoCodebookVQVAE,
    samples: NDArray[Any],
    outlier_probability: NDArray[np.float64],
    labels: ArrayLike | None,
    clusters: int | None,
    config: PriorConfig | None,
    *,
    seed: int,
    report: Report | None = None,
    device: torch.device | str | None = None,
) -> tuple[GatedPixelCNN, Classes]:
    """`fit_class_prior` to the inliers among ``samples``, as they are labelled or by clusters of them.

    ``outlier_probability`` (N,): samples above .5 are left out, the others count by what remains to 1.
    ``labels`` (N,) whole numbers or strings; or ``clusters``, how many k-means is to find (0, 1, ...).
    """
    if config is None:
        raise InputError("prior_epochs=0: there is no prior to condition; fit with prior_epochs=10")
    if (labels is None) == (clusters is None):
        raise InputError("give labels, or the number of clusters: one of them")
    kept = outlier_probability <= 0.5
    inliers = samples[kept]
    if labels is not None:
        found = _checked_labels(labels, len(samples))[kept]
    elif isinstance(clusters, Integral) and 2 <= clusters <= len(inliers) // FEWEST:
        found = code_groups(model, inlier_codes(model, inliers), int(clusters), seed).numpy()
    else:
        raise InputError(
            f"clusters={clusters!r} is out of range: with {len(inliers)} inliers it must be from 2 to "
            f"{len(inliers) // FEWEST}"
        )
    return fit_class_prior(
        model, inliers, found, config, seed=seed, weights=1 - outlier_probability[kept], report=report,
        device=device,
    )  # fmt: skip


def fit_class_prior(
    model: TwoCodebookVQVAE,
    inliers: Tensor | NDArray[Any],
    labels: NDArray[Any],
    config: PriorConfig,
    *,
    seed: int,
    weights: ArrayLike | None = None,
    report: Report | None = None,
    device: torch.device | str | None = None,
) -> tuple[GatedPixelCNN, Classes]:
    """A prior over the grids of ``inliers``, class by class, and its classes: those of 2 inliers or more.

    ``labels`` (N,) integers or strings; ``weights`` (N,) as in `fit_prior`. Each class has as many of the
    ``config.groups`` as its share, fewer for fewer than 35 inliers to a group. Raises InputError if no class
    has 2 inliers.
    """
    names, of_sample, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    enough = np.flatnonzero(sizes >= FEWEST)
    if len(enough) == 0:
        raise InputError(f"no class has {FEWEST} inliers: give labels that several samples share")
    kept = np.isin(of_sample, enough)
    codes = inlier_codes(model, torch.as_tensor(inliers))[torch.from_numpy(kept)]
    of_sample, importance = of_sample[kept], None if weights is None else np.asarray(weights)[kept]
    groups = torch.zeros(len(codes), dtype=torch.int64)
    of_group: list[int] = []
    for index, name in enumerate(enough):
        rows = torch.from_numpy(of_sample == name)
        within = min(round(config.groups * int(rows.sum()) / len(codes)), int(rows.sum()) // GROUP)
        groups[rows] = len(of_group)
        if within > 1:
            groups[rows] += code_groups(model, codes[rows], within, seed)
        of_group += [index] * max(within, 1)
    prior = fit_prior(
        codes, model.config.inlier_codes, config, seed=seed, weights=importance, labels=groups,
        n_classes=len(of_group), report=report, device=device,
    )  # fmt: skip
    return prior, Classes(tuple(names[enough].tolist()), tuple(of_group))


def draw(
    model: TwoCodebookVQVAE,
    prior: GatedPixelCNN | None,
    classes: Classes | None,
    n: int,
    seed: int,
    *,
    label: object = None,
    temperature: float = 1.0,
    top_p: float = 1.0,
) -> NDArray[Any]:
    """``n`` new samples, uint8 (n, C, H, W) or float (n, d), of any class or of ``label`` alone."""
    if prior is None:
        raise InputError(
            "prior_epochs=0: this model has no prior to sample from; fit it with prior_epochs=10"
        )
    if label is not None and classes is None:
        raise InputError(f"label={label!r}: this model knows no classes; call condition_on first")
    groups = None if label is None or classes is None else classes.draw(prior, label, n, seed)
    codes = prior.sample(n, model.grid, seed=seed, temperature=temperature, top_p=top_p, labels=groups)
    return decode_codes(model, codes).numpy()


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
    if n < 1:
        raise InputError(f"n={n!r} is out of range: ask for at least 1 sample")
    if not 0 < limit <= 1:
        raise InputError(f"max_outlier_probability={limit!r} is out of range: it must be above 0, at most 1")
    passed: list[NDArray[Any]] = []
    blocks = MOST * -(-n // BLOCK)
    for block in range(blocks):
        drawn = drawing(BLOCK, int(np.random.SeedSequence([seed, block]).generate_state(1)[0]))
        passed.append(drawn[outlier_probability(drawn) <= limit])
        if sum(map(len, passed)) >= n:
            return np.concatenate(passed)[:n]
    raise InputError(
        f"{sum(map(len, passed)):,} of {blocks * BLOCK:,} samples are outliers with a probability of at most "
        f"{limit:g}, and {n:,} are wanted: raise max_outlier_probability, or lower temperature or top_p"
    )


def _checked_labels(labels: ArrayLike, n: int) -> NDArray[Any]:
    """Integers or strings (n,)."""
    found = np.asarray(labels)
    if found.dtype == object and all(isinstance(label, str) for label in found.flat):
        found = found.astype(str)
    if found.dtype.kind not in "iuU":
        raise InputError(f"labels of dtype {found.dtype} are neither whole numbers nor strings: convert them")
    if found.shape != (n,):
        raise InputError(f"labels of shape {found.shape} do not fit {n} samples: give ({n},)")
    return found
