"""Plain statistics of a picture: brightness, colour, edges, texture, spectrum, layout.

Ours: a view that owes nothing to a pretrained network. Networks see what a picture shows; these see how it
was made (drawn, rendered, photographed, scanned), which often is what tells foreign images.
"""

from __future__ import annotations

from itertools import pairwise
from math import cos, pi, sin

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from rvqvae.batches import map_batches

SCALES = (
    0.19, 0.25, 0.31, 0.36, 0.36, 0.29, 0.24, 0.15, 0.11, 0.12, 0.88, 0.72, 0.22, 0.14, 0.86, 0.84, 0.28,
    0.11, 0.79, 0.9, 0.27, 0.12, 0.1, 0.08, 0.12, 0.03, 0.06, 2.5, 2.1,
    1.8, 1.6, 1.5, 0.38, 0.08, 0.29, 0.33, 0.32, 0.11,
)  # fmt: skip
"""Standard deviation of each statistic over the 22 domains of the development suite."""
QUANTILES = (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99)
BANDS, ORIENTATIONS = 5, 6
EDGES = tuple(
    (0.0 if 2 * i == ORIENTATIONS else cos(pi * i / ORIENTATIONS), sin(pi * i / ORIENTATIONS))
    for i in range(1, ORIENTATIONS)
)
"""Cosine and sine of the angles between orientations."""
BATCH = 256
STATISTICS = len(SCALES)
"""Statistics of each picture."""


def picture_statistics(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(N, STATISTICS) float32 of images uint8 (N, 1 | 3, H, W); grey ones have no saturation or tint.

    Each is divided by its SCALE and by the root of their number: distances mean the same in every set.
    """
    unit = torch.tensor(SCALES) * STATISTICS**0.5

    def of(rows: slice) -> tuple[Tensor]:
        return (_statistics(torch.from_numpy(images[rows].astype(np.float32)) / 255) / unit,)

    return map_batches(len(images), BATCH, of)[0].numpy()


def _statistics(x: Tensor) -> Tensor:
    grey = x.mean(1)
    flat = grey.flatten(1)
    return torch.cat(
        [
            torch.quantile(flat, torch.tensor(QUANTILES), dim=1).T,
            tint(x),
            palette(x),
            edges(grey),
            _spectrum(grey),
            layout(grey),
        ],
        1,
    )


def tint(x: Tensor) -> Tensor:
    """(B, 3) mean saturation, and the mean excess of red and of blue over green."""
    x = x.expand(-1, 3, -1, -1)
    saturation = (x.amax(1) - x.amin(1)).mean((1, 2))
    red, green, blue = x.mean((2, 3)).unbind(1)
    return torch.stack([saturation, red - green, blue - green], 1)


def palette(x: Tensor) -> Tensor:
    """(B, 4) of colours in 8 steps a channel: how many, their entropy, shares of the first and first four."""
    steps = (x.expand(-1, 3, -1, -1) * 7.999).long()
    index = (steps[:, 0] * 64 + steps[:, 1] * 8 + steps[:, 2]).flatten(1)
    counts = x.new_zeros(x.shape[0], 512).scatter_add_(1, index, torch.ones_like(index, dtype=x.dtype))
    share = counts / index.shape[1]
    entropy = -(share * (share + 1e-12).log()).sum(1)
    largest = share.topk(4, 1).values
    return torch.stack([(share > 0).float().sum(1).log(), entropy, largest[:, 0], largest.sum(1)], 1)


def edges(grey: Tensor) -> Tensor:
    """(B, 7 + ORIENTATIONS) of gradients: mean, spread, flat and steep shares; of the Laplacian: spread, size
    and share of zeros; and the share of each orientation."""
    dx = grey[:, 1:, 1:] - grey[:, 1:, :-1]
    dy = grey[:, 1:, 1:] - grey[:, :-1, 1:]
    size = (dx.square() + dy.square()).sqrt()
    kernel = torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]])[None, None]
    laplacian = F.conv2d(grey[:, None], kernel)[:, 0]
    # As by the angle modulo pi, which takes longer and which ONNX has no operator for.
    turned = torch.where((dy < 0) | ((dy == 0) & (dx < 0)), -dx, dx)
    index = torch.stack([dy.abs() * x >= turned * y for x, y in EDGES]).long().sum(0).flatten(1)
    strength = size.new_zeros(size.shape[0], ORIENTATIONS).scatter_add_(1, index, size.flatten(1))
    orientation = strength / (size.sum((1, 2))[:, None] + 1e-6)
    columns = [
        (size.mean((1, 2)) + 1e-4).log(),
        (size.std((1, 2)) + 1e-4).log(),
        (size < 0.01).float().mean((1, 2)),
        (size > 0.2).float().mean((1, 2)),
        (laplacian.std((1, 2)) + 1e-4).log(),
        (laplacian.abs().mean((1, 2)) + 1e-4).log(),
        (laplacian.abs() < 0.004).float().mean((1, 2)),
    ]
    return torch.cat([torch.stack(columns, 1), orientation], 1)


def _spectrum(grey: Tensor) -> Tensor:
    """(B, BANDS) log power in octaves of spatial frequency, the mean removed."""
    power = torch.fft.rfft2(grey - grey.mean((1, 2), keepdim=True)).abs().square() / grey[0].numel()
    return (
        torch.stack(
            [
                (power[:, band].mean(1) if band.any() else power[:, 0, 0] * 0)
                for band in bands(*grey.shape[1:])
            ],
            1,
        )
        .add(1e-6)
        .log()
    )


def bands(height: int, width: int) -> list[Tensor]:
    """BANDS masks (H, W // 2 + 1) of the octaves of spatial frequency, the lowest first; some are empty."""
    fy = torch.fft.fftfreq(height)[:, None]
    fx = torch.fft.rfftfreq(width)[None]
    frequency = (fy.square() + fx.square()).sqrt()
    ends = [0.0, *(0.7072 * 2.0 ** -torch.arange(BANDS - 1, -1, -1)).tolist()]
    return [(frequency > low) & (frequency <= high) for low, high in pairwise(ends)]


def layout(grey: Tensor) -> Tensor:
    """(B, 6): the border's mean and spread, how much brighter the centre is, likeness to both mirror images,
    and the spread of the picture."""
    height, width = grey.shape[1:]
    edge = torch.ones(height, width, dtype=torch.bool)
    edge[1:-1, 1:-1] = False
    border = grey.flatten(1)[:, edge.flatten().nonzero()[:, 0]]
    centre = grey[:, height // 4 : -(height // 4), width // 4 : -(width // 4)].mean((1, 2))
    centred = grey - grey.mean((1, 2), keepdim=True)
    variance = centred.square().mean((1, 2)) + 1e-4
    mirrored = [(centred * centred.flip(axis)).mean((1, 2)) / variance for axis in (1, 2)]
    return torch.stack(
        [border.mean(1), border.std(1), centre - border.mean(1), *mirrored, variance.sqrt()], 1
    )
