"""The judge: log odds of being an outlier from descriptors, by a model that was trained on other sets.

An additive model of normal scores. The quantiles of a descriptor over the training sets turn it into a normal
score, which is as robust as a rank. It enters by a line that may bend twice, and that is monotone where more
of the descriptor must be more (or less) suspicious. The products of ten descriptors with those of the set and
the group (`CONTEXT`) enter too.

Ours. Log loss of sets whose families of domains were left out, before the views were compared in a learned
metric: straight lines .273, of fixed direction .261, bent .245, with the context .226 (all descriptors by all
of the set .241); boosted trees .248. Outliers left in where 2 % of the inliers are thrown out: .54, .55, .49,
.44, (.49), .51. With the metric .198 and .35; pairs within a set, beside it, raise the mean AUROC from .925
to .928 at the same log loss.

`pipelines.train_judge` makes judge.json from data/judge_table.npz, and that table from the suite.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, ndtri

from rvqvae.membership.evidence import direction_of

Floats = NDArray[np.float64]
PROBABILITIES = np.linspace(0.01, 0.99, 25)
SCORES = ndtri(PROBABILITIES)
BEND = 0.7
"""Normal score, on either side, where a descriptor's line may bend."""
PENALTY = 0.03
"""Weight of the squared weights in the loss, where the mean log loss has weight 1."""
RANKING = 0.5
"""Weight of the mean log loss of pairs, an outlier and an inlier of a set, by their log odds' difference."""
PAIRS = 40
"""Most pairs of a set."""
KEY = (
    "spreads joint", "nats joint", "neighbours in core", "group's spreads joint",
    "group's neighbours in core", "group's separation", "group's 80 %", "group's core",
    "group's absolute view 0", "group's absolute view 2",
)  # fmt: skip
CONTEXT = (
    "group's usual separation", "set's borders", "set's 99 %", "set's size", "group's mass",
    "core's dispersion in view 0", "group's dispersion in view 0",
)  # fmt: skip
"""Descriptors that the KEY descriptors are multiplied by."""
FILE = Path(__file__).with_name("judge.json")


class Judge(NamedTuple):
    """The names of the descriptors, and the weights of the model."""

    names: tuple[str, ...]
    quantiles: Floats
    """(D, 25) of each descriptor, at PROBABILITIES."""
    weights: Floats
    """(D, 3) of its normal score, of what exceeds BEND, and of what falls below -BEND."""
    products: Floats
    """(K, C) of the products of KEY and CONTEXT descriptors, as far as these are among ``names``."""
    bias: float
    doubt: tuple[float, float] = (-4.0, 4.0)
    """Nats by which all log odds of a set may be wrong together, for 95 % of the sets that were left out (see
    `decision.rate_interval`)."""

    def __call__(self, table: Floats, names: list[str]) -> Floats:
        """(N,) log odds of being an outlier, from the descriptors ``table`` (N, columns), named ``names``."""
        place = {name: i for i, name in enumerate(names)}
        terms = self._terms(table[:, [place[name] for name in self.names]])
        log_odds: Floats = terms @ np.concatenate([self.weights.T.ravel(), self.products.ravel()]) + self.bias
        return log_odds

    def _terms(self, table: Floats) -> Floats:
        """(N, 3 D + K C): lines, bends above, bends below, products."""
        z = np.stack([_normal_scores(table[:, i], q) for i, q in enumerate(self.quantiles)], 1)
        key, context = self._places(KEY), self._places(CONTEXT)
        products = (z[:, key, None] * z[:, None, context]).reshape(len(z), -1)
        return np.concatenate([z, np.maximum(z - BEND, 0), np.minimum(z + BEND, 0), products], 1)

    def _places(self, names: tuple[str, ...]) -> list[int]:
        return [self.names.index(name) for name in names if name in self.names]

    @classmethod
    def fit(
        cls,
        names: list[str],
        table: Floats,
        is_outlier: NDArray[np.bool_],
        weight: Floats,
        sets: NDArray[np.integer],
    ) -> Judge:
        """Train on rows of many ``sets`` (M,): ``table`` (M, D), ``is_outlier`` (M,), ``weight`` (M,)."""
        # Rounded as in the file, so that ties are the same there.
        quantiles = np.array([_rounded(q) for q in np.quantile(table, PROBABILITIES, axis=0).T])
        blank = cls(tuple(names), quantiles, np.zeros((len(names), 3)), np.zeros((0, 0)), 0.0)
        key, context = blank._places(KEY), blank._places(CONTEXT)
        terms = blank._terms(np.asarray(table, np.float64))
        direction = np.array([direction_of(name) for name in names] * 3 + [0] * (len(key) * len(context)))
        pairs = _pairs(is_outlier, sets)
        found = _logistic(terms, is_outlier, weight / weight.sum(), pairs, direction)
        d = len(names)
        return blank._replace(
            weights=found[: 3 * d].reshape(3, d).T,
            products=found[3 * d : -1].reshape(len(key), len(context)),
            bias=float(found[-1]),
        )

    def as_json(self) -> dict[str, Any]:
        """Plain values, rounded to five digits."""
        return {
            "bias": round(self.bias, 4),
            "doubt": [round(end, 3) for end in self.doubt],
            "descriptors": {
                name: {"weights": _rounded(w), "quantiles": _rounded(q)}
                for name, w, q in zip(self.names, self.weights, self.quantiles, strict=True)
            },
            "products": [_rounded(row) for row in self.products],
        }

    @classmethod
    def from_json(cls, facts: dict[str, Any]) -> Judge:
        """The inverse of `as_json`."""
        columns = facts["descriptors"]
        return cls(
            tuple(columns),
            np.array([column["quantiles"] for column in columns.values()]),
            np.array([column["weights"] for column in columns.values()]),
            np.array(facts["products"]),
            float(facts["bias"]),
            (float(facts["doubt"][0]), float(facts["doubt"][1])),
        )


def _normal_scores(values: Floats, quantiles: Floats) -> Floats:
    """(N,) by linear interpolation; equal quantiles share their mean score."""
    knots, place = np.unique(quantiles, return_inverse=True)
    return np.interp(values, knots, np.bincount(place, weights=SCORES) / np.bincount(place))


def _rounded(values: Floats) -> list[float]:
    return [float(f"{value:.5g}") for value in values]


def _pairs(is_outlier: NDArray[np.bool_], sets: NDArray[np.integer]) -> NDArray[np.int64]:
    """(P, 2) rows: an outlier and an inlier of the same set."""
    rng, drawn = np.random.default_rng(0), [np.empty((0, 2), np.int64)]
    for one in np.unique(sets):
        outliers, inliers = (np.flatnonzero((sets == one) & (is_outlier == side)) for side in (True, False))
        if len(outliers) and len(inliers):
            n = min(PAIRS, len(outliers) * len(inliers))
            drawn.append(np.stack([rng.choice(outliers, n), rng.choice(inliers, n)], 1))
    return np.concatenate(drawn)


def _logistic(
    terms: Floats,
    positive: NDArray[np.bool_],
    weight: Floats,
    pairs: NDArray[np.int64],
    direction: NDArray[np.int64],
) -> Floats:
    """Weights (T + 1,), the bias last, of least penalised loss; ``direction`` (T,): their signs, or 0."""
    sign = np.where(positive, 1.0, -1.0)
    apart = terms[pairs[:, 0]] - terms[pairs[:, 1]]

    def loss(b: Floats) -> tuple[float, Floats]:
        margin, order = sign * (terms @ b[:-1] + b[-1]), apart @ b[:-1]
        pull = -weight * sign * expit(-margin)
        gradient = np.append(terms.T @ pull + PENALTY * b[:-1], pull.sum())
        value = float(weight @ np.logaddexp(0, -margin) + PENALTY / 2 * b[:-1] @ b[:-1])
        if len(order):
            gradient[:-1] -= RANKING * (apart.T @ expit(-order)) / len(order)
            value += RANKING * float(np.logaddexp(0, -order).mean())
        return value, gradient

    bounds = [(0 if way > 0 else None, 0 if way < 0 else None) for way in direction]
    start = np.zeros(terms.shape[1] + 1)
    found = minimize(
        loss, start, jac=True, method="L-BFGS-B", bounds=[*bounds, (None, None)], options={"maxiter": 500}
    )
    return np.asarray(found.x)


@cache
def learned_judge(kind: str) -> Judge:
    """The judge in the package: ``kind`` is "images", or "any" for views of unknown units."""
    return Judge.from_json(json.loads(FILE.read_text(encoding="utf-8"))[kind])
