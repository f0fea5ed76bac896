"""One way to minimise a loss: AdamW, one cosine cycle, clipped gradients, and a check for divergence.

Everything that is trained by a single loss uses it; what happens between epochs is the caller's.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rvqvae.atomic import load_state, save_state
from rvqvae.errors import InputError


class Loop:
    """Epochs over ``n`` samples in batches; the order depends on nothing but ``seed`` and epoch.

        for rows in loop.batches(epoch):
            loop.step({"loss": ...})
        means = loop.means()

    A rise of the learning rate over ``rise`` of all steps, then a fall along a cosine.
    """

    def __init__(
        self,
        parameters: Iterable[torch.nn.Parameter],
        n: int,
        *,
        epochs: int,
        batch_size: int,
        learning_rate: float,
        seed: int,
        weight_decay: float = 1e-4,
        rise: float = 0.15,
    ) -> None:
        self.parameters = list(parameters)
        self.n, self.batch_size, self.seed = n, batch_size, seed
        self._names: list[str] = []
        self._kept: list[Tensor] = []
        self._rates: list[float] = []
        # Fused: of wide layers torch's default takes six times as long, of convolutions much the same.
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=learning_rate, weight_decay=weight_decay, fused=True
        )
        # Exactly one step of rise makes torch divide by zero.
        steps = max(-(-n // batch_size) * epochs, int(1 / rise) + 2)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, learning_rate, total_steps=steps, pct_start=rise
        )

    def batches(self, epoch: int) -> Iterator[Tensor]:
        """The rows (B,) int64 of each batch of a pass."""
        return iter(torch.randperm(self.n, generator=generator_of(self.seed, epoch)).split(self.batch_size))

    def step(self, terms: dict[str, Tensor]) -> None:
        """Minimise the scalar ``terms["loss"]`` by one step, and keep all terms for `means`."""
        self.optimizer.zero_grad(set_to_none=True)
        terms["loss"].backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self._rates.append(float(self.schedule.get_last_lr()[0]))
        self.optimizer.step()
        self.schedule.step()
        self._names = list(terms)
        # Kept on the device and read once an epoch: no synchronisation in the step.
        self._kept.append(torch.stack([term.detach().float() for term in terms.values()]))

    def means(self) -> dict[str, float]:
        """Of every term over the steps since the last call, each batch counting alike.

        Raises InputError where a term is not finite, naming term, batch and learning rate.
        """
        values, rates = torch.stack(self._kept).cpu(), self._rates
        self._kept, self._rates = [], []
        if not bool(torch.isfinite(values).all()):
            batch, term = (~torch.isfinite(values)).nonzero()[0].tolist()
            raise InputError(
                f"training diverged: {self._names[term]} is {float(values[batch, term])} at batch "
                f"{batch + 1} of {len(values)}, learning rate {rates[batch]:.2g}; lower the learning rate"
            )
        return dict(zip(self._names, map(float, values.mean(0)), strict=True))

    def state_dict(self) -> dict[str, Any]:
        return {"optimizer": self.optimizer.state_dict(), "schedule": self.schedule.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])


class Checkpoint:
    """Network, loop and history after every epoch, in ``directory``, from where the same training goes on.

    A training is the same if the samples are, and the texts of ``settings``, which must say all that matters.
    ``also`` is a tensor that the caller needs to go on. Without a directory nothing is kept on disk. Raises
    InputError for a directory that holds another training.
    """

    def __init__(
        self, directory: str | os.PathLike[str] | None, network: torch.nn.Module, loop: Loop, data: Tensor,
        *settings: object,
    ) -> None:  # fmt: skip
        self.network, self.loop, self.history = network, loop, list[dict[str, float]]()
        self.also: Tensor | None = None
        self.path = None if directory is None else Path(directory) / "training.pt"
        if self.path is None:
            return
        digest = hashlib.sha256(np.ascontiguousarray(data.cpu().numpy()).data)
        digest.update(repr(settings).encode())
        self.fingerprint = digest.hexdigest()
        if state := load_state(self.path, self.fingerprint):
            network.load_state_dict(state["network"])
            loop.load_state_dict(state["loop"])
            self.history, self.also = state["history"], state.get("also")

    def add(self, terms: dict[str, float], also: Tensor | None = None) -> None:
        """Add the mean ``terms`` of an epoch to the history, and write all to the disk."""
        self.history.append(terms)
        if self.path is not None:
            state = {"network": self.network.state_dict(), "loop": self.loop.state_dict(), "also": also}
            save_state(self.path, state | {"history": self.history, "fingerprint": self.fingerprint})


def generator_of(*key: int) -> torch.Generator:
    """Randomness that depends on nothing but ``key``, as seed and epoch: a resumed run repeats it exactly."""
    return torch.Generator().manual_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))
