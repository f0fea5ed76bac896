"""One way to minimise a loss: AdamW, one cosine cycle, clipped gradients, and a check for divergence.

Everything that is trained by a single loss uses it; what happens between epochs is the caller's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rvqvae.errors import InputError


class Loop:
    """Epochs over ``n`` samples in batches; the order depends on nothing but ``seed`` and epoch.

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
        self.n, self.epochs, self.batch_size, self.seed = n, epochs, batch_size, seed
        # Fused: of wide layers torch's default takes six times as long, of convolutions much the same.
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=learning_rate, weight_decay=weight_decay, fused=True
        )
        # Exactly one step of rise makes torch divide by zero.
        steps = max(-(-n // batch_size) * epochs, int(1 / rise) + 2)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, learning_rate, total_steps=steps, pct_start=rise
        )

    def epoch(self, number: int, loss_of: Callable[[Tensor], dict[str, Tensor]]) -> dict[str, float]:
        """One pass; the mean of every term, each batch counting alike.

        ``loss_of`` gets the rows (B,) int64 of a batch and returns scalar terms, ``"loss"`` to be minimised.
        Raises InputError where a term is not finite, naming term, batch and learning rate.
        """
        order = torch.randperm(self.n, generator=generator_of(self.seed, number))
        return self.over(order.split(self.batch_size), loss_of)

    def over(
        self, batches: Iterable[Tensor], loss_of: Callable[[Tensor], dict[str, Tensor]]
    ) -> dict[str, float]:
        """`epoch` over these batches of rows."""
        names: list[str] = []
        kept, rates = [], []
        for rows in batches:
            terms = loss_of(rows)
            rates.append(float(self.schedule.get_last_lr()[0]))
            self._step(terms["loss"])
            names = list(terms)
            # Kept on the device and read once an epoch: no synchronisation in the step.
            kept.append(torch.stack([term.detach().float() for term in terms.values()]))
        values = torch.stack(kept).cpu()
        if not bool(torch.isfinite(values).all()):
            batch, term = (~torch.isfinite(values)).nonzero()[0].tolist()
            raise InputError(
                f"training diverged: {names[term]} is {float(values[batch, term])} at batch {batch + 1} of "
                f"{len(kept)}, learning rate {rates[batch]:.2g}; lower the learning rate"
            )
        return dict(zip(names, map(float, values.mean(0)), strict=True))

    def state_dict(self) -> dict[str, Any]:
        return {"optimizer": self.optimizer.state_dict(), "schedule": self.schedule.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])

    def _step(self, loss: Tensor) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.schedule.step()


def generator_of(*key: int) -> torch.Generator:
    """Randomness that depends on nothing but ``key``, as seed and epoch: a resumed run repeats it exactly."""
    return torch.Generator().manual_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))
