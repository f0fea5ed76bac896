"""`ProductIndex`: nearest neighbours among millions of vectors, of which it keeps M bytes each."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Self, overload

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from rvqvae.atomic import write_atomically
from rvqvae.errors import InputError, check_choice, check_whole
from rvqvae.io.samples import MAX_VALUE, check_values
from rvqvae.retrieval.scan import GROUP, nearest_codes, table_sums
from rvqvae.vqvae.product_codebook import check_divisible

FORMAT, HEADER = 1, "product_index"
MAX_CODEBOOKS, MAX_CODEWORDS = 1024, 256
"""The latter is what a byte can tell apart."""
POINTS = 64
"""Vectors that k-means sees for each codeword; four times as many lower the error by about 1 %."""
ROWS = 16_384
"""Vectors that are encoded at a time."""

Mode = Literal["asymmetric", "symmetric"]


class ProductIndex(TransformerMixin, BaseEstimator):
    """Product quantisation of vectors, and search among their codes (Jegou, Douze and Schmid 2011).

    `fit` learns the codebooks, `add` encodes vectors and keeps their codes, `kneighbors` searches them.

    Parameters
    ----------
    n_codebooks : M, parts that a vector of D numbers is cut into; it must divide D. A code has M bytes.
    n_codewords : K, from 2 to 256, codewords of each codebook.
    max_iter : iterations of k-means.
    random_state : int, RandomState instance or None.

    Attributes
    ----------
    codebooks_ : (M, K, D / M) float32; tables_ : (M, K, K) float64, squared distances between codewords.
    codes_ : (N, M) uint8; ids_ : (N,) int64; n_features_in_ : D.
    """

    codes_: NDArray[np.uint8]
    ids_: NDArray[np.int64]

    def __init__(
        self,
        n_codebooks: int = 8,
        n_codewords: int = MAX_CODEWORDS,
        *,
        max_iter: int = 25,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_codebooks = n_codebooks
        self.n_codewords = n_codewords
        self.max_iter = max_iter
        self.random_state = random_state

    @classmethod
    def from_codebooks(cls, codebooks: ArrayLike) -> Self:
        """An empty index with ``codebooks`` (M, K, D / M) that were learned elsewhere, as in a bottleneck."""
        words = np.asarray(codebooks, np.float32)
        if words.ndim != 3 or not words.size:
            raise InputError(f"codebooks have shape {words.shape}: give (M, K, D / M), none of them 0")
        index = cls(*words.shape[:2])
        index._check_parameters()
        return index._take(words)

    def fit(self, X: ArrayLike, y: object = None) -> Self:
        """Learn the codebooks from ``X`` (N, D), N >= K, by k-means; the index is then empty."""
        self._check_parameters()
        x = self._vectors(X, reset=True)
        check_divisible(x.shape[1], self.n_codebooks)
        if len(x) < self.n_codewords:
            raise InputError(
                f"{len(x)} vectors are too few for n_codewords={self.n_codewords}: give at least as many "
                "vectors, or lower n_codewords"
            )
        if not np.ptp(x, axis=0).any():
            raise InputError(f"all {len(x)} vectors are equal: there is nothing to tell them apart by")
        rng = check_random_state(self.random_state)
        if len(x) > POINTS * self.n_codewords:
            x = x[rng.choice(len(x), POINTS * self.n_codewords, replace=False)]
        seed = int(rng.randint(2**31 - 1))
        return self._take(np.stack([self._k_means(part, seed) for part in np.split(x, self.n_codebooks, 1)]))

    def add(self, X: ArrayLike, ids: ArrayLike | None = None) -> Self:
        """Append vectors (N, D). `kneighbors` reports ``ids`` (N,), integers; by default their positions."""
        codes = self.transform(X)
        if ids is None:
            new: NDArray[np.int64] = np.arange(len(self), len(self) + len(codes))
        else:
            given = np.asarray(ids)
            if given.shape != (len(codes),) or given.dtype.kind not in "iu":
                raise InputError(f"ids are {given.dtype} {given.shape}: give ({len(codes)},) integers")
            new = given.astype(np.int64)
        self.codes_ = np.concatenate([self.codes_, codes])
        self.ids_ = np.concatenate([self.ids_, new])
        return self

    def transform(self, X: ArrayLike) -> NDArray[np.uint8]:
        """Codes (N, M) of vectors (N, D): the nearest codeword of each part."""
        check_is_fitted(self)
        x = torch.from_numpy(self._vectors(X))
        words = torch.from_numpy(self.codebooks_)
        square, parts = words.square().sum(2), len(words)
        codes = np.empty((len(x), parts), np.uint8)
        for start in range(0, len(x), ROWS):
            for m, part in enumerate(x[start : start + ROWS].chunk(parts, 1)):
                nearest = torch.addmm(square[m], part, words[m].T, alpha=-2).argmin(1)
                codes[start : start + ROWS, m] = nearest.numpy()
        return codes

    def inverse_transform(self, codes: ArrayLike) -> NDArray[np.float32]:
        """Vectors (N, D) that ``codes`` (N, M) stand for."""
        check_is_fitted(self)
        known = np.asarray(codes)
        if known.ndim != 2 or known.shape[1] != len(self.codebooks_) or known.dtype.kind not in "iu":
            raise InputError(
                f"codes are {known.dtype} {known.shape}: give (N, {len(self.codebooks_)}) integers"
            )
        size = self.codebooks_.shape[1]
        if known.size and not 0 <= known.min() <= known.max() < size:
            raise InputError(
                f"codes are from {known.min()} to {known.max()}: each must be from 0 to {size - 1}"
            )
        return np.concatenate([words[known[:, m]] for m, words in enumerate(self.codebooks_)], 1)

    @overload
    def kneighbors(
        self, X: ArrayLike, n_neighbors: int = ..., mode: Mode = ..., return_distance: Literal[True] = ...
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]: ...
    @overload
    def kneighbors(
        self, X: ArrayLike, n_neighbors: int = ..., mode: Mode = ..., *, return_distance: Literal[False]
    ) -> NDArray[np.int64]: ...
    def kneighbors(
        self, X: ArrayLike, n_neighbors: int = 10, mode: Mode = "asymmetric", return_distance: bool = True
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]] | NDArray[np.int64]:
        """The ``n_neighbors`` nearest codes to each of ``X`` (Q, D), nearest first: distances and ids (Q, k).

        Distances are squared Euclidean: "asymmetric" between the query itself and what a code stands for,
        "symmetric" between what both codes stand for. Of equally near ones, those added first come first.
        """
        check_whole("n_neighbors", n_neighbors)
        groups = self._groups(X, mode)
        if n_neighbors > len(self):
            raise InputError(f"n_neighbors={n_neighbors}, but the index holds {len(self)}: ask for fewer")
        found = [nearest_codes(tables, self.codes_, int(n_neighbors)) for tables in groups]
        ids = self.ids_[np.concatenate([part.positions for part in found])]
        return (np.concatenate([part.distances for part in found]), ids) if return_distance else ids

    def distances(self, X: ArrayLike, mode: Mode = "asymmetric") -> NDArray[np.float64]:
        """(Q, N) squared distances of ``X`` (Q, D) to everything in the index, see `kneighbors`."""
        return np.concatenate([table_sums(tables, self.codes_) for tables in self._groups(X, mode)])

    def __len__(self) -> int:
        return len(self.codes_) if hasattr(self, "codes_") else 0

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file ``path``: safetensors, whose header holds the parameters as JSON."""
        check_is_fitted(self)
        facts = {"format": FORMAT, "max_iter": int(self.max_iter)}
        arrays: dict[str, NDArray[Any]] = {
            "codebooks": self.codebooks_,
            "codes": self.codes_,
            "ids": self.ids_,
        }
        write_atomically(Path(path), save(arrays, {HEADER: json.dumps(facts)}))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """The index that `save` wrote. InputError for a missing, damaged or foreign file."""
        if not Path(path).is_file():
            raise InputError(f"{path} is not a file: give one that ProductIndex.save wrote")
        try:
            with safe_open(path, "numpy") as file:
                facts = json.loads((file.metadata() or {})[HEADER])
                words, codes, ids = (file.get_tensor(name) for name in ("codebooks", "codes", "ids"))
            if facts["format"] != FORMAT:
                raise ValueError(f"format {facts['format']!r}")
            if (words.dtype, codes.dtype, ids.dtype) != (np.float32, np.uint8, np.int64):
                raise ValueError(f"arrays of {words.dtype}, {codes.dtype} and {ids.dtype}")
            index = cls.from_codebooks(words)
            if ids.ndim != 1 or codes.shape != (len(ids), len(words)) or (codes >= words.shape[1]).any():
                raise ValueError(f"codes of shape {codes.shape} for {len(ids)} ids")
            index.max_iter = int(facts["max_iter"])
            index._check_parameters()
        except (OSError, SafetensorError, LookupError, TypeError, ValueError, RecursionError) as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:160]
            raise InputError(f"{path} is not a complete index ({reason}); save it again") from error
        index.codes_, index.ids_ = codes, ids
        return index

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "codebooks_")

    def _take(self, words: NDArray[np.float32]) -> Self:
        """Start anew with these codebooks (M, K, D / M)."""
        if not np.isfinite(words).all() or np.abs(words).max() > MAX_VALUE:
            raise InputError(f"codebooks hold values that are not finite or above {MAX_VALUE:g}: scale them")
        self.codebooks_ = np.ascontiguousarray(words)
        self.tables_ = np.stack([_squared_distances(w, w) for w in words.astype(np.float64)])
        self.n_features_in_ = len(words) * words.shape[2]
        self.codes_, self.ids_ = np.empty((0, len(words)), np.uint8), np.empty(0, np.int64)
        return self

    def _k_means(self, part: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
        with warnings.catch_warnings():
            # Fewer different parts than codewords, as at the border of images: some words are idle then.
            warnings.simplefilter("ignore", ConvergenceWarning)
            found = KMeans(self.n_codewords, n_init=1, max_iter=self.max_iter, random_state=seed).fit(part)
        words: NDArray[np.float32] = found.cluster_centers_.astype(np.float32)
        return words

    def _groups(self, X: ArrayLike, mode: Mode) -> Iterator[NDArray[np.float64]]:
        """Tables (Q, M, K) of a group of queries at a time."""
        check_is_fitted(self)
        check_choice("mode", mode, ("asymmetric", "symmetric"))
        if not len(self):
            raise InputError("the index is empty: add(X) what is to be searched first")
        x = self._vectors(X)
        groups = [slice(start, start + GROUP) for start in range(0, len(x), GROUP)]
        if mode == "symmetric":
            codes = self.transform(x)
            return (self.tables_[np.arange(codes.shape[1]), codes[rows]] for rows in groups)
        words = self.codebooks_.astype(np.float64)
        parts = np.split(x.astype(np.float64), len(words), 1)
        return (
            np.stack([_squared_distances(p[rows], w) for p, w in zip(parts, words, strict=True)], 1)
            for rows in groups
        )

    def _vectors(self, X: ArrayLike, reset: bool = False) -> NDArray[np.float32]:
        x = validate_data(self, X, dtype=[np.float32, np.float64], reset=reset)
        check_values(x)
        return np.require(x, np.float32, ["C", "W"])

    def _check_parameters(self) -> None:
        check_whole("n_codebooks", self.n_codebooks, 1, MAX_CODEBOOKS)
        check_whole("n_codewords", self.n_codewords, 2, MAX_CODEWORDS)
        check_whole("max_iter", self.max_iter, 1, 10_000)


def _squared_distances(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """(len(a), len(b)), a row at a time; never by a difference of squares, which loses digits."""
    return np.stack([np.square(row - b).sum(1) for row in a])
