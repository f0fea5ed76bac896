"""The multi-layer perceptron from samples to the logits of their code."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise

import torch
from torch import nn

SPREAD, LAST_SPREAD = 0.1**0.5, 1e-4**0.5
"""Standard deviation of the initial weights times the square root of their fan-in.

The authors' code says wscale = .1 and .0001, of which Chainer takes the square root. With .1 itself Adam
turns the small weights about in its first steps, and three of MNIST's digits stay mixed for long.
"""


class Perceptron(nn.Sequential):
    """d -> hidden -> m: linear, batch norm and ReLU for each width in ``hidden``, then linear.

    The small start leaves all samples undecided, so that the first steps do not commit to chance. Without a
    ``generator`` its matrices lie on the meta device, to be loaded.
    """

    def __init__(
        self,
        inputs: int,
        hidden: Sequence[int],
        outputs: int,
        generator: torch.Generator | None = None,
    ) -> None:
        layers: list[nn.Module] = []
        for fan_in, width in pairwise([inputs, *hidden]):
            layers += [_linear(fan_in, width, SPREAD, generator), nn.BatchNorm1d(width), nn.ReLU()]
        last = [inputs, *hidden][-1]
        super().__init__(*layers, _linear(last, outputs, LAST_SPREAD, generator))


@contextmanager
def untouched_statistics(network: nn.Module) -> Iterator[None]:
    """Within, batch norms in training mode use the batch's statistics but do not add them to the average."""
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm1d)]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True


def _linear(fan_in: int, width: int, spread: float, generator: torch.Generator | None) -> nn.Linear:
    # Not torch's own start, which draws from the global generator.
    layer = nn.Linear(fan_in, width, device="meta")
    if generator is None:
        return layer
    layer = layer.to_empty(device="cpu")
    nn.init.normal_(layer.weight, std=spread / fan_in**0.5, generator=generator)
    nn.init.zeros_(layer.bias)
    return layer
