"""Slow twin of ``GatedPixelCNN.sample``: the whole network again for every position."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor

from rvqvae.priors import GatedPixelCNN


def choose(logits: np.ndarray, uniform: float, temperature: float, top_p: float) -> int:
    """One code from logits (n_codes,), by a loop over the codes."""
    p = np.exp((logits - logits.max()) / temperature)
    p /= p.sum()
    if top_p < 1:
        mass, kept = 0.0, np.zeros_like(p)
        for code in np.argsort(-p, kind="stable"):
            if mass >= top_p:
                break
            mass, kept[code] = mass + p[code], p[code]
        p = kept
    target, mass = uniform * p.sum(), 0.0
    for code, share in enumerate(p):
        mass += share
        if mass > target:
            return code
    return int(np.flatnonzero(p)[-1])


@torch.no_grad()
def slow_sample(
    model: GatedPixelCNN,
    n: int,
    grid_shape: tuple[int, int],
    *,
    seed: int,
    temperature: float = 1.0,
    top_p: float = 1.0,
    labels: Tensor | None = None,
) -> Tensor:
    """What ``model.sample`` must return, integer for integer."""
    model = copy.deepcopy(model).eval().double()
    uniform = np.random.default_rng(seed).random((n, *grid_shape))
    codes = torch.zeros(n, *grid_shape, dtype=torch.int64)
    for i in range(grid_shape[0]):
        for j in range(grid_shape[1]):
            logits = model(codes, labels)[:, :, i, j].numpy()
            for k in range(n):
                codes[k, i, j] = choose(logits[k], uniform[k, i, j], temperature, top_p)
    return codes
