"""Ratings that were not given: a masked autoencoder beside means and truncated singular values.

The ratings are made up, as no public set comes with this repository: see `ratings`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import TruncatedSVD

from pipelines.autoencoders.bench import Bench, Method, Row
from rvqvae.family import AutoRec

USERS, ITEMS, RANK = 3000, 400, 5
NOISE = 0.6
"""Standard deviation of a rating around a user's taste: no method can have a smaller error."""
SEEN, HELD_OUT = 0.12, 0.1


class Ratings(NamedTuple):
    """Users x items; NaN where nothing is known."""

    known: NDArray[np.float64]
    held_out: NDArray[np.float64]


def ratings(seed: int) -> Ratings:
    """Real numbers, about 1 to 5: mean 3.5 + user's mood + item's quality + taste + noise.

    Mood and quality are normal (deviation 0.4), taste is the product of ``RANK`` normal factors of user
    and item (deviation 0.7), noise is normal (`NOISE`). Entries are observed by chance, ``SEEN`` of them in
    all, with log-normal odds of the items, as few items have most of the ratings. A tenth of the observed
    is held out.
    """
    rng = np.random.default_rng(seed)
    mood, quality = 0.4 * rng.normal(size=(USERS, 1)), 0.4 * rng.normal(size=(1, ITEMS))
    taste = rng.normal(size=(USERS, RANK)) @ rng.normal(size=(RANK, ITEMS)) * 0.7 / RANK**0.5
    full = 3.5 + mood + quality + taste + NOISE * rng.normal(size=taste.shape)
    popularity = rng.lognormal(size=(1, ITEMS))
    observed = rng.random(full.shape) < np.minimum(SEEN * popularity / popularity.mean(), 0.9)
    hidden = rng.random(full.shape) < HELD_OUT
    return Ratings(np.where(observed & ~hidden, full, np.nan), np.where(observed & hidden, full, np.nan))


def baseline(known: NDArray) -> NDArray:
    """Mean + user's offset + item's offset, shrunk as if five more ratings of no offset had been given."""
    mean = np.nanmean(known)
    item = np.nansum(known - mean, 0) / (np.isfinite(known).sum(0) + 5)
    user = np.nansum(known - mean - item, 1) / (np.isfinite(known).sum(1) + 5)
    return mean + item + user[:, None]


def rmse(predicted: NDArray | float, held_out: NDArray) -> Row:
    return Row("RMSE", float(np.sqrt(np.nanmean((predicted - held_out) ** 2))))


def global_mean(bench: Bench) -> Iterator[Row]:
    known, held_out = ratings(bench.seed)
    yield rmse(float(np.nanmean(known)), held_out)


def means(bench: Bench) -> Iterator[Row]:
    known, held_out = ratings(bench.seed)
    yield rmse(baseline(known), held_out)


def decomposition(bench: Bench, rank: int) -> Iterator[Row]:
    """Of what the means leave over, zero where nothing is known."""
    known, held_out = ratings(bench.seed)
    start = baseline(known)
    svd = TruncatedSVD(rank, random_state=bench.seed)
    left = svd.inverse_transform(svd.fit_transform(np.nan_to_num(known - start)))
    yield rmse(start + left, held_out)


def autoencoder(bench: Bench) -> Iterator[Row]:
    known, held_out = ratings(bench.seed)
    start = baseline(known)
    model = AutoRec(latent_dim=32, hidden=(), epochs=80, learning_rate=5e-3)
    yield rmse(start + bench.fit(model, known - start).reconstruct(known - start), held_out)


METHODS: dict[str, Method] = {
    "mean": global_mean,
    "user and item means": means,
    "truncated SVD": partial(decomposition, rank=RANK),
    "AutoRec": autoencoder,
    "noise": lambda bench: [Row("RMSE", NOISE)],
}
