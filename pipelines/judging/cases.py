"""A scenario in hand, what a method says of it, and the figures that follow."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

import rvqvae.features
from pipelines.common.domains import Folder, Scenario
from pipelines.judging.mixtures import draw
from pipelines.judging.tabular import Tables
from pipelines.train_judge import Source
from rvqvae.atomic import replacing
from rvqvae.features.metric import Metric, learned_metric
from rvqvae.features.pretrained import extract_views
from rvqvae.membership import JointView

Vector = NDArray[np.float64]
NAN = float("nan")


class Decision(NamedTuple):
    """What is said of N images; the defaults stand for what a method does not say."""

    score: Vector
    """(N,) higher = more of an outlier."""
    is_outlier: NDArray[np.bool_] | None = None
    probability: Vector | None = None
    """(N,) of being an outlier."""
    interval: tuple[float, float] = (NAN, NAN)
    """95 % interval of the contamination."""
    verdict: str = ""
    asked: NDArray[np.bool_] | None = None
    """(N,) whether an image is in one of the first eight groups that would be asked about."""


class Row(NamedTuple):
    """One method on one scenario after so many answers; nan or "" where there is nothing to say."""

    id: str
    kind: str
    domains: str
    rate: float
    samples: int
    method: str
    groups: int
    """Answers about groups."""
    singles: int
    """Answers about single images."""
    auroc: float
    left_in: float
    """Share of the outliers that are kept."""
    thrown_out: float
    """Share of the inliers that are dropped."""
    reached: float
    """Share of the outliers that are dropped or would be asked about."""
    low: float
    high: float
    verdict: str
    seconds: float
    """After the views are there, of one core."""


@dataclass
class Case:
    """One scenario drawn; its views are kept in ``cache``."""

    scenario: Scenario
    samples: NDArray
    """Images uint8 (N, C, H, W), or vectors (N, d)."""
    is_outlier: NDArray[np.bool_]
    cache: Path
    source: Folder | Tables | None = None

    @classmethod
    def of(cls, source: Folder | Tables, scenario: Scenario, cache: Path) -> Case:
        samples, truth = draw(source, scenario)
        if samples.ndim > 2:
            samples = samples[:, None] if samples.ndim == 3 else samples.transpose(0, 3, 1, 2)
        return cls(scenario, np.ascontiguousarray(samples), truth, cache, source)

    @property
    def seed(self) -> int:
        return self.scenario.seed

    @cached_property
    def views(self) -> list[NDArray[np.generic]]:
        """As `extract_views`; half precision, in which they are kept, moves no distance by a thousandth."""
        if self.samples.ndim == 2:
            return [self.samples]
        digest = hashlib.sha256(self.samples.tobytes()).hexdigest()[:24]
        path = self.cache / features_version() / f"{digest}.npz"
        if not path.exists():
            _, *others = extract_views(self.samples)
            with replacing(path) as kept:
                np.savez(kept, *(view.astype(np.float16) for view in others))
        with np.load(path) as file:
            views = [view.astype(np.float32) for view in file.values()]
        return [self.samples.reshape(len(self.samples), -1), *views]

    @cached_property
    def metric(self) -> Metric:
        """Learned without the families of this scenario."""
        if not isinstance(self.source, Folder):
            return learned_metric()
        return domains_of(self.source, self.cache).metric(self.scenario.families)

    @cached_property
    def joint(self) -> NDArray[np.float32]:
        """(N, d) the joint view, or the vectors themselves: what the peers see too."""
        if self.samples.ndim == 2:
            return self.samples.astype(np.float32)
        views = self.metric(self.views[1:])
        return JointView.fit(views, self.seed)(views)

    def row(self, method: str, said: Decision, seconds: float, groups: int = 0, singles: int = 0) -> Row:
        truth, out, asked = self.is_outlier, said.is_outlier, said.asked
        mixed = truth.any() and not truth.all()
        return Row(
            self.scenario.id,
            self.scenario.kind,
            "/".join(self.scenario.domains),
            float(truth.mean()),
            len(truth),
            method,
            groups,
            singles,
            float(roc_auc_score(truth, said.score)) if mixed else NAN,
            float((~out)[truth].mean()) if out is not None and mixed else NAN,
            float(out[~truth].mean()) if out is not None else NAN,
            float((out | asked)[truth].mean()) if out is not None and asked is not None and mixed else NAN,
            *said.interval,
            said.verdict,
            round(seconds, 3),
        )


@cache
def domains_of(folder: Folder, cache: Path) -> Source:
    """The folder's domains as the metric learns from them; what is kept goes with the sets' features."""
    return Source(folder.root, folder.datasets, cache / features_version() / "domains")


def features_version() -> str:
    """Of the code that makes the views, so that no views of another version are taken for its own."""
    names = ("efficientnet", "pretrained", "statistics")
    files = [Path(rvqvae.features.__path__[0]) / f"{name}.py" for name in names]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]
