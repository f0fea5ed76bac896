"""Foreign pictures, drawn on purpose: a set is called clean only if they would have stood out in it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

EACH = 8
"""Plants of each kind."""


def draw_plants(shape: tuple[int, int, int], seed: int) -> NDArray[np.uint8]:
    """(32, C, H, W) uint8 of `shape` (C, H, W): noise, stripes, discs and gradients, EACH of them."""
    rng = np.random.default_rng(seed)
    channels, height, width = shape
    y, x = np.mgrid[:height, :width] / max(height, width)

    def coloured(pattern: NDArray[np.float64]) -> NDArray[np.float64]:
        """A pattern (H, W) from 0 to 1 between two colours."""
        one, other = rng.random((2, channels, 1, 1))
        return one + (other - one) * pattern

    def stripes() -> NDArray[np.float64]:
        angle, pitch = rng.uniform(0, np.pi), rng.uniform(4, 14)
        return np.sin(2 * np.pi * pitch * (x * np.cos(angle) + y * np.sin(angle))) > 0

    def discs() -> NDArray[np.float64]:
        centres = rng.random((6, 2, 1, 1))
        return (np.hypot(x - centres[:, 0], y - centres[:, 1]) < rng.uniform(0.05, 0.2, (6, 1, 1))).any(0)

    def gradient() -> NDArray[np.float64]:
        angle = rng.uniform(0, 2 * np.pi)
        slope = x * np.cos(angle) + y * np.sin(angle)
        return (slope - slope.min()) / (np.ptp(slope) + 1e-9)

    plants = [rng.random(shape) for _ in range(EACH)]
    for pattern in (stripes, discs, gradient):
        plants += [coloured(pattern().astype(np.float64)) for _ in range(EACH)]
    return (np.stack(plants) * 255).round().astype(np.uint8)
