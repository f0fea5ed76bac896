"""The k nearest of many packed codes, by tables of distances (Jegou, Douze and Schmid 2011, section III).

The distance between a query and a code is a sum of M entries of the query's tables. A coarse pass over blocks
of codes finds the few that can be among the nearest, and the same sum in double precision decides among
them. So the answer is exact, and depends on neither blocks nor other queries.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

BLOCK = 16_384
"""Codes that are compared at a time: with their distances they stay in a core's cache."""
GROUP = 32
"""Queries that are compared at a time: a row of their table entries is a few vector registers."""
FEW, LONG = 6, 65_536
"""Queries below which a vector register would be mostly empty, and tables of pairs are faster; the codes that
make up for the tables, which are then compared at a time."""
STRIP = 64
"""Codes whose least sum is compared with the limit first."""
TOP = 32_000
"""Largest sum in tables of whole numbers, of 16 bits."""


class Nearest(NamedTuple):
    """The k codes nearest to each of Q queries, nearest first; of equally near ones the earlier first."""

    distances: NDArray[np.float64]
    """(Q, k)."""
    positions: NDArray[np.int64]
    """(Q, k)."""


def nearest_codes(tables: NDArray[np.float64], codes: NDArray[np.uint8], k: int) -> Nearest:
    """For ``tables`` (Q, M, K) >= 0 of up to GROUP queries and ``codes`` (N, M), N >= k."""
    few = len(tables) < FEW and len(codes) > LONG
    coarse, size = (_Pairs(tables), LONG) if few else (_Rows(tables), BLOCK)
    found = _Found(tables, codes, k, coarse)
    for start in range(0, len(codes), size):
        found.look(coarse(codes[start : start + size]), start)
    return found.result()


def table_sums(tables: NDArray[np.float64], codes: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(Q, N) distances of all codes ``codes`` (N, M) by ``tables`` (Q, M, K)."""
    sums = np.zeros((len(tables), len(codes)))
    for m in range(codes.shape[1]):
        sums += tables[:, m, codes[:, m]]
    return sums


class _Rows:
    """Coarse sums as sums of rows of a matrix (M * K, Q): all queries at once, in single precision.

    A distance d comes out within ``slack`` (Q,) of ``scale`` (Q,) times d; so of `_Pairs`.
    """

    def __init__(self, tables: NDArray[np.float64]) -> None:
        count, m, k = tables.shape
        self.rows = torch.from_numpy(np.ascontiguousarray(tables.reshape(count, -1).T, np.float32))
        self.first = torch.arange(0, m * k, k, dtype=torch.int32)
        self.scale = np.ones(count)
        self.slack = m * np.finfo(np.float32).eps * tables.max(2).sum(1)

    def __call__(self, codes: NDArray[np.uint8]) -> Tensor:
        """(B, Q) sums for codes (B, M)."""
        return F.embedding_bag(torch.from_numpy(codes.astype(np.int32)) + self.first, self.rows, mode="sum")


class _Pairs:
    """Coarse sums by tables for two codes at a time, in whole numbers: half the look-ups, in small tables."""

    def __init__(self, tables: NDArray[np.float64]) -> None:
        count, m, k = tables.shape
        most = tables.max(2).sum(1)
        self.scale = TOP / np.where(most > 0, most, 1)
        self.slack = np.full(count, m + 1.0)
        padded = np.zeros((count, m + m % 2, 256), np.int16)
        padded[:, :m, :k] = (tables * self.scale[:, None, None]).round()
        # The first of two bytes is the low one of a little-endian number.
        pairs = padded[:, 1::2, :, None] + padded[:, ::2, None, :]
        self.entries = torch.from_numpy(pairs.reshape(count, -1, 256 * 256))

    def __call__(self, codes: NDArray[np.uint8]) -> Tensor:
        """(B, Q) sums for codes (B, M)."""
        even = np.pad(codes, ((0, 0), (0, 1))) if codes.shape[1] % 2 else codes
        both = torch.from_numpy(even.view("<u2").T.astype(np.int32))
        total = torch.zeros(len(self.entries), len(codes), dtype=torch.int16)
        for own, entry in zip(total, self.entries, strict=True):
            for half, pair in zip(both, entry, strict=True):
                own += pair.index_select(0, half)
        return total.T


class _Found:
    """The best so far, and those that may be better and wait to be weighed."""

    def __init__(
        self, tables: NDArray[np.float64], codes: NDArray[np.uint8], k: int, coarse: _Rows | _Pairs
    ) -> None:
        self.tables, self.codes, self.k, self.coarse = tables, codes, k, coarse
        self.limit = torch.full((len(tables),), torch.inf)
        self.query: NDArray[np.int64] = np.empty(0, np.int64)
        self.position, self.distance = self.query.copy(), np.empty(0)
        self.waiting: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
        self.number = 0

    def look(self, sums: Tensor, start: int) -> None:
        """Keep, of the codes from ``start`` on with coarse ``sums`` (B, Q), what the limit allows."""
        if bool(self.limit[0].isinf()) and len(sums) >= self.k:
            least = sums.T.contiguous().topk(self.k, largest=False).values[:, -1].double().numpy()
            self._limit_to(least + self.coarse.slack)
        short = -len(sums) % STRIP
        strips = F.pad(sums.float(), (0, 0, 0, short), value=torch.inf) if short else sums
        strips = strips.unflatten(0, (-1, STRIP))
        strip, query = (strips.amin(1) <= self.limit).nonzero(as_tuple=True)
        hit, row = (strips[strip, :, query] <= self.limit[query, None]).nonzero(as_tuple=True)
        position = strip[hit] * STRIP + row
        # Those of the padding come in while the limit is infinite.
        inside = position < len(sums)
        self.waiting.append((query[hit][inside].numpy(), position[inside].numpy() + start))
        self.number += len(self.waiting[-1][0])
        if self.number > len(self.tables) * max(STRIP, 4 * self.k):
            self._weigh()

    def result(self) -> Nearest:
        self._weigh()
        shape = len(self.tables), self.k
        return Nearest(self.distance.reshape(shape), self.position.reshape(shape))

    def _weigh(self) -> None:
        """Keep the k best of each query by exact distance, then position, and lower the limits."""
        nothing = self.query[:0]
        query, position = (np.concatenate(p) for p in zip((nothing, nothing), *self.waiting, strict=True))
        self.waiting, self.number = [], 0
        distance, codes = np.zeros(len(query)), self.codes[position]
        for m in range(codes.shape[1]):
            distance += self.tables[query, m, codes[:, m]]
        query = np.concatenate([self.query, query])
        position = np.concatenate([self.position, position])
        distance = np.concatenate([self.distance, distance])
        order = np.lexsort((position, distance, query))
        starts = np.searchsorted(query[order], np.arange(len(self.tables)))
        best = order[np.arange(len(order)) - starts[query[order]] < self.k]
        self.query, self.position, self.distance = query[best], position[best], distance[best]
        if len(best) == len(self.tables) * self.k:
            self._limit_to(self.distance.reshape(-1, self.k)[:, -1] * self.coarse.scale)

    def _limit_to(self, scaled: NDArray[np.float64]) -> None:
        """Coarse sums above these, by more than they can be wrong, are out."""
        limit = (scaled + self.coarse.slack).astype(np.float32)
        self.limit = torch.from_numpy(np.nextafter(limit, np.float32(np.inf)))
