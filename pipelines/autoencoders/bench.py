"""What the experiments with the autoencoder family share: the data, one way to fit, the rows of the table."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from functools import cached_property
from math import inf
from pathlib import Path
from time import process_time
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from data.recipes import load
from rvqvae.devices import bfloat16_pays
from rvqvae.family import Autoencoder

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]
A = TypeVar("A", bound=Autoencoder)


class Row(NamedTuple):
    """One number; ``low`` to ``high`` is where a target wants it."""

    measure: str
    value: float
    published: str = ""
    low: float = -inf
    high: float = inf


class Cost(NamedTuple):
    """Of one training."""

    seen: int
    """Images that it was shown, each counted in every epoch."""
    seconds: float
    """Of the CPU."""


class Bench:
    """Digits, and the models fitted to them, of one seed.

    ``costs`` lists what the trainings cost that the current method rests on.
    """

    def __init__(self, root: str | None, seed: int, epochs: int | None, out: Path) -> None:
        self.root, self.seed, self.epochs, self.out = root, seed, epochs, out
        self.costs: list[Cost] = []
        self._kept: dict[str, tuple[Any, list[Cost]]] = {}

    @cached_property
    def train(self) -> tuple[Images, Labels]:
        return load("mnist", self.root)

    @cached_property
    def test(self) -> tuple[Images, Labels]:
        return load("mnist", self.root, train=False)

    def fit(self, model: A, X: ArrayLike) -> A:
        """``model`` after training on ``X``, with this seed, and --epochs in place of its own."""
        model.set_params(random_state=self.seed, epochs=self.epochs or model.epochs)
        told = hashlib.sha256(repr((model.get_params(), np.shape(X), np.asarray(X).sum())).encode())
        kept = self.out / "trainings" / f"{type(model).__name__}-{told.hexdigest()[:12]}"
        model.set_params(directory=kept)
        begin = process_time()
        model.fit(X)
        self.costs.append(Cost(model.epochs * np.shape(X)[0], process_time() - begin))
        return model

    def fit_rounded(self, model: A, X: ArrayLike) -> A:
        """`fit`, with matrix products and convolutions in bfloat16 where that is faster."""
        # With its cache of the rounded weights, autocast would never see them change.
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16_pays("cpu"), cache_enabled=False):
            return self.fit(model, X)

    def once(self, name: str, make: Callable[[], A]) -> A:
        """What ``make`` returned when ``name`` was first asked for; its cost counts each time."""
        if name not in self._kept:
            before = len(self.costs)
            model = make()
            self._kept[name] = model, self.costs[before:]
        else:
            self.costs += self._kept[name][1]
        return self._kept[name][0]

    def keep(self, name: str, **arrays: NDArray) -> None:
        """Arrays that a figure is drawn from."""
        folder = self.out / "arrays"
        folder.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(folder / f"{name}-seed{self.seed}.npz", **arrays)


Method = Callable[[Bench], Iterable[Row]]
