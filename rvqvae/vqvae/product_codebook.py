"""Product quantiser: M small codebooks side by side, each for its own part of a vector.

Sources: Jegou, Douze and Schmid 2011 (product quantisation, and the distances by table that it allows);
Wu and Flierl 2019 (in the bottleneck of an autoencoder: each part takes its nearest sub-codeword, the decoder
sees their concatenation straight-through, each sub-codeword moves to the mean of what it codes). K words in
M codebooks make K**M codewords, at the cost of storing and comparing with M * K short ones.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from rvqvae.config import ModelConfig
from rvqvae.errors import InputError, check_number, check_whole
from rvqvae.vqvae.codebook import Codebook


class ProductQuantized(NamedTuple):
    """Nearest product codewords of N vectors."""

    codes: Tensor
    """(N, M) int64 index of each part's sub-codeword."""
    vectors: Tensor
    """(N, D) float32 codewords."""
    distance: Tensor
    """(N,) float32 squared distance."""


class ProductQuantizer(nn.Module):
    """M codebooks of K sub-codewords of dimension D / M, learned by moving averages.

    ``decay`` 0 is the paper's step: every sub-codeword of which the batch has members moves to their mean.
    """

    def __init__(self, n_codebooks: int, n_codes: int, dim: int, decay: float = 0.97) -> None:
        super().__init__()
        check_whole("n_codebooks", n_codebooks)
        check_whole("n_codes", n_codes, 2)
        check_divisible(dim, n_codebooks)
        check_number("decay", decay, 0, 1, below=True)
        config = ModelConfig(code_dim=dim // n_codebooks)
        self.books = nn.ModuleList([Codebook(n_codes, config) for _ in range(n_codebooks)])
        for book in self._books:
            book.decay = decay

    @property
    def _books(self) -> list[Codebook]:
        return list(self.books)  # type: ignore[arg-type]

    @property
    def codewords(self) -> Tensor:
        """(M, K, D / M)."""
        return torch.stack([book.codewords for book in self._books])

    def forward(self, z: Tensor) -> ProductQuantized:
        """Quantise ``z`` (N, D). The nearest of K**M codewords is that of the M nearest sub-codewords."""
        parts = [book(part) for book, part in zip(self._books, self._split(z), strict=True)]
        return ProductQuantized(
            torch.stack([part.codes for part in parts], 1),
            torch.cat([part.vectors for part in parts], 1),
            torch.stack([part.distance for part in parts]).sum(0),
        )

    def decode(self, codes: Tensor) -> Tensor:
        """(N, M) int64 -> (N, D) float32."""
        return torch.cat([book.codewords[codes[:, m]] for m, book in enumerate(self._books)], 1)

    def kmeans_init(self, z: Tensor, generator: torch.Generator) -> None:
        """K-means start of every codebook from ``z`` (N, D)."""
        for book, part in zip(self._books, self._split(z), strict=True):
            book.kmeans_init(part, generator)

    def ema_update(self, z: Tensor, codes: Tensor) -> None:
        """Move the sub-codewords after the parts of ``z`` (N, D) that ``codes`` (N, M) assign to them."""
        for m, (book, part) in enumerate(zip(self._books, self._split(z), strict=True)):
            book.ema_update(part, codes[:, m])

    def replace_dead_codes(self, z: Tensor, generator: torch.Generator) -> int:
        """Move what is hardly used onto random parts of ``z`` (N, D); how many were."""
        parts = zip(self._books, self._split(z), strict=True)
        return sum(book.replace_dead_codes(part, generator) for book, part in parts)

    def usage(self) -> dict[str, float]:
        """As of one codebook, the mean over all."""
        each = [book.usage() for book in self._books]
        return {name: sum(one[name] for one in each) / len(each) for name in each[0]}

    def _split(self, z: Tensor) -> tuple[Tensor, ...]:
        return z.chunk(len(self.books), 1)


def check_divisible(dim: int, n_codebooks: int) -> None:
    """InputError unless vectors of ``dim`` numbers can be cut into equal parts."""
    if dim % n_codebooks:
        fit = [m for m in range(1, dim + 1) if dim % m == 0]
        near = ", ".join(map(str, sorted(sorted(fit, key=lambda m: abs(m - n_codebooks))[:3])))
        raise InputError(
            f"{dim} dimensions cannot be cut into {n_codebooks} equal parts: use {near} codebooks, or drop "
            "or add dimensions (as PCA does)"
        )
