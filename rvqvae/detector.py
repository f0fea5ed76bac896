"""The whole fit: views, warm start, joint training, and one rule for training and new samples alike."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from rvqvae.config import ModelConfig, TrainConfig
from rvqvae.errors import InputError
from rvqvae.features.patch_dictionary import LearnedFeatures
from rvqvae.features.pretrained import Backbone, extract_views
from rvqvae.io.arrays import release_pages
from rvqvae.membership import Competition, Rule, Start, cut_at, warm_start
from rvqvae.membership.start import FEWEST
from rvqvae.progress import Progress, silent
from rvqvae.vqvae.inference import CodebookScores, code_counts, codebook_scores, evidence, evidence_of_new
from rvqvae.vqvae.model import TwoCodebookVQVAE
from rvqvae.vqvae.training import fit

Samples = NDArray[Any]
"""uint8 (N, C, H, W), or float (N, d)."""
Verdict = Literal["clean", "contaminated", "undecided"]
BLOCK = 4096
"""Samples whose views are held at a time when scoring."""
LEARN = 100_000
"""Samples that are learned from, drawn at random from larger sets; the others are scored by the result."""
VARIETY = "nothing can be told from them; keep one of each, then fit again"
COLLAPSED = 1e-4
"""Spread of the log distances (usually .1 to 1) below which the majority is one sample over and over."""


class Judged(NamedTuple):
    """What a scorer says of N samples."""

    log_odds: NDArray[np.float64]
    """(N,) of being an outlier: the warm start's rule plus what the two codebooks say."""
    vectors: NDArray[np.float32]
    """(N, d) the samples in the joint view, by which they are compared."""


class Scorer(NamedTuple):
    """All that it takes to score a sample."""

    backbone: Backbone
    rule: Rule
    model: TwoCodebookVQVAE
    counts: tuple[torch.Tensor, torch.Tensor]
    """Uses of each code at each position by the training set, (P, K) of either codebook."""
    competition: Competition | None

    def __call__(self, samples: Samples) -> Judged:
        """Of N samples, a block of them at a time."""
        parts = [self._block(samples[i : i + BLOCK]) for i in range(0, len(samples), BLOCK)]
        return Judged(*map(np.concatenate, zip(*parts, strict=True)))

    def vectors(self, samples: Samples) -> NDArray[np.float32]:
        """(N, d) the samples in the joint view, at half the cost of judging them."""
        return self.rule.view(views_of(samples, self.backbone, self.model.data_scale.device))

    def _block(self, samples: Samples) -> Judged:
        z = self.vectors(samples)
        return self.weigh(z, None if self.competition is None else codebook_scores(self.model, samples))

    def weigh(self, z: NDArray[np.float32], scores: CodebookScores | None) -> Judged:
        """By the vectors ``z`` (N, d) and the ``scores`` of N samples."""
        odds = self.rule(z)
        if self.competition is None or scores is None:
            return Judged(odds, z)
        return Judged(odds + self.competition(evidence_of_new(scores, self.counts)), z)


class Detected(NamedTuple):
    """A scorer and what it says of all samples, as `Judged`."""

    scorer: Scorer
    log_odds: NDArray[np.float64]
    vectors: NDArray[np.float32]
    learned: NDArray[np.int64]
    """Rows of the samples that were learned from, sorted; all, unless there are more than LEARN."""
    cut: float
    """Log odds above which a sample is an outlier: 0, unless a contamination was given."""
    interval: tuple[float, float]
    """95 % interval of the contamination."""
    history: list[dict[str, float]]

    @property
    def is_outlier(self) -> NDArray[np.bool_]:
        return self.log_odds > self.cut

    @property
    def verdict(self) -> Verdict:
        return verdict_of(self.interval)


def verdict_of(interval: tuple[float, float]) -> Verdict:
    """What an interval of the contamination amounts to."""
    low, high = interval
    if low > 0.005:
        return "contaminated"
    return "clean" if high <= 0.02 else "undecided"


def detect(
    samples: Samples,
    model_config: ModelConfig,
    train_config: TrainConfig,
    *,
    contamination: float | None = None,
    backbone: Backbone = "efficientnet_lite0",
    seed: int = 0,
    directory: Path | None = None,
    progress: Progress | None = None,
    device: torch.device | str = "cpu",
) -> Detected:
    """Learn who belongs among ``samples``, and the Robust VQ-VAE with them.

    Of more than LEARN samples so many are learned from, and the others scored by the result.
    ``backbone`` is as in `extract_features`, or "learned" for features of the samples themselves. Raises
    InputError for too few or non-finite samples, and if more than half of them are identical.
    """
    learned = drawn(len(samples), LEARN, seed)
    few = samples if len(learned) == len(samples) else samples[learned]
    release_pages(samples)
    scorer, own, start, history = _learn(
        few, model_config, train_config, contamination, backbone, seed, directory, progress, device
    )
    log_odds, vectors = own
    if len(few) < len(samples):
        log_odds, vectors = (np.empty((len(samples), *kind.shape[1:]), kind.dtype) for kind in own)
        log_odds[learned], vectors[learned] = own
        others = np.delete(np.arange(len(samples)), learned)
        for begin in range(0, len(others), BLOCK):
            rows = others[begin : begin + BLOCK]
            log_odds[rows], vectors[rows] = scorer(samples[rows])
            release_pages(samples)
            if progress:
                progress("score", begin + len(rows), len(others))
    cut = 0.0 if contamination is None else cut_at(log_odds, contamination)
    found = Detected(scorer, log_odds, vectors, learned, cut, start.interval, history)
    return found._replace(interval=_around(float(found.is_outlier.mean()), start.interval))


def drawn(n: int, most: int, seed: int) -> NDArray[np.int64]:
    """At most ``most`` of ``n`` rows, at random, sorted."""
    if n <= most:
        return np.arange(n)
    return np.sort(np.random.default_rng(seed).choice(n, most, replace=False))


class _Learned(NamedTuple):
    """A scorer, what it says of the samples behind it, and how it came about."""

    scorer: Scorer
    judged: Judged
    start: Start
    history: list[dict[str, float]]


def _learn(
    samples: Samples,
    model_config: ModelConfig,
    train_config: TrainConfig,
    contamination: float | None,
    backbone: Backbone,
    seed: int,
    directory: Path | None,
    progress: Progress | None,
    device: torch.device | str,
) -> _Learned:
    _check_variety(samples)
    tell = progress or silent
    is_image = samples.ndim == 4
    tell("features", 0, len(samples))
    if is_image and backbone == "learned":
        backbone = LearnedFeatures.fit(samples, seed).to(device)
    views = views_of(samples, backbone, device)
    tell("features", len(samples), len(samples))
    images = samples if is_image else None
    start = warm_start(views, images=images, contamination=contamination, seed=seed)
    if len(samples) >= FEWEST and not start.rule.majority.spread > COLLAPSED:
        raise InputError(f"more than half of the samples that may belong are identical: {VARIETY}")
    epochs = train_config.epochs
    fitted = fit(
        samples, model_config, train_config, seed=seed, start=start.membership, contamination=contamination,
        directory=directory, report=lambda epoch, _: tell("train", epoch, epochs), device=device,
    )  # fmt: skip
    scores = codebook_scores(fitted.model, samples)
    sets = fitted.membership.is_outlier
    scorer = Scorer(
        backbone,
        start.rule,
        fitted.model,
        code_counts(scores, sets),
        Competition.fit(evidence(scores, sets), sets),
    )
    return _Learned(scorer, scorer.weigh(start.rule.view(views), scores), start, fitted.history)


def views_of(
    samples: Samples, backbone: Backbone, device: torch.device | str = "cpu"
) -> list[NDArray[np.generic]]:
    """What membership compares samples by; of vectors, the vectors themselves."""
    return extract_views(samples, backbone, device=device) if samples.ndim == 4 else [samples]


def _check_variety(samples: Samples) -> None:
    """More than half identical make every median, hence every distance, collapse."""
    _, count = Counter(hash(sample.tobytes()) for sample in samples).most_common(1)[0]
    if count > max(1, len(samples) // 2):
        raise InputError(f"{count} of {len(samples)} samples are identical, more than half: {VARIETY}")


def _around(rate: float, interval: tuple[float, float]) -> tuple[float, float]:
    return min(rate, interval[0]), max(rate, interval[1])
