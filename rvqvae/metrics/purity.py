"""Purity of generated images: the share that an independent classifier calls inlier.

It is trained on clean labels: only experiments with ground truth have one, and neither cleaning nor
training may see it.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from rvqvae.errors import InputError

_SIZE = 32  # pixels the judge looks at
_BATCH = 64  # of each class


class Judge:
    """Small convolutional classifier of inliers against outliers.

    >>> judge = Judge.fit(inliers, outliers)                # doctest: +SKIP
    >>> judge.test(held_out_inliers, held_out_outliers)     # doctest: +SKIP
    0.0005
    """

    def __init__(self, network: nn.Module, channels: int) -> None:
        self._network = network.eval()
        self._channels = channels
        self.error: float | None = None
        """Balanced error on the held-out images last given to `test`; None before."""

    @classmethod
    def fit(cls, inliers: np.ndarray, outliers: np.ndarray, seed: int = 0, *, steps: int = 600) -> Judge:
        """Train on labelled clean images, uint8 (N, C, H, W) and (M, C, H, W); equal seeds, equal judges.

        Both classes are drawn equally often. Images are shifted, dimmed, blurred and made noisy at
        random, since generated images are blurred and must be judged by what they show.
        """
        if steps < 2:
            raise InputError(f"steps={steps} is out of range: it must be >= 2; use 600")
        channels = _check(inliers, "inliers")
        if _check(outliers, "outliers") != channels:
            raise InputError(
                f"inliers have {channels} channels and outliers {outliers.shape[1]}: convert them to the same"
            )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = _network(channels)
            optimiser = torch.optim.AdamW(network.parameters(), lr=4e-3)
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=steps)
            target = torch.tensor([1.0] * _BATCH + [0.0] * _BATCH)
            for _ in range(steps):
                drawn = [x[torch.randint(len(x), (_BATCH,)).numpy()] for x in (inliers, outliers)]
                logits = network(_augment(torch.cat([_prepare(x) for x in drawn]))).squeeze(1)
                loss = F.binary_cross_entropy_with_logits(logits, target)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                schedule.step()
        return cls(network, channels)

    def predict_inlier(self, images: np.ndarray) -> np.ndarray:
        """(N,) bool: which of the images uint8 (N, C, H, W) show an inlier."""
        if _check(images, "images") != self._channels:
            raise InputError(
                f"images have {images.shape[1]} channels: the judge was trained on {self._channels}"
            )
        with torch.inference_mode():
            parts = [self._network(_prepare(images[i : i + 256])) > 0 for i in range(0, len(images), 256)]
        return torch.cat(parts).squeeze(1).numpy()

    def test(self, inliers: np.ndarray, outliers: np.ndarray) -> float:
        """Mean of the two classes' error rates on held-out images; kept as ``error``."""
        missed = 1 - self.predict_inlier(inliers).mean()
        false = self.predict_inlier(outliers).mean()
        self.error = float((missed + false) / 2)
        return self.error


def purity(judge: Judge, samples: np.ndarray) -> float:
    """Share of the samples, uint8 (N, C, H, W), that the judge calls inlier; report its ``error`` as well."""
    return float(judge.predict_inlier(samples).mean())


def _network(channels: int) -> nn.Module:
    """(B, C, 32, 32) to a logit (B, 1)."""

    def block(inputs: int, outputs: int, kernel: int, stride: int) -> list[nn.Module]:
        conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
        return [conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]

    layers = block(channels, 32, 5, 2) + block(32, 64, 3, 2) + block(64, 64, 3, 2)
    return nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.2), nn.Linear(64 * 4 * 4, 1))


def _prepare(images: np.ndarray) -> torch.Tensor:
    """uint8 (B, C, H, W) to float32 (B, C, 32, 32) in [-1, 1]."""
    x = torch.tensor(images).float()
    if x.shape[2:] != (_SIZE, _SIZE):
        x = F.interpolate(x, (_SIZE, _SIZE), mode="bilinear", antialias=True, align_corners=False)
    return x / 127.5 - 1


def _augment(x: torch.Tensor) -> torch.Tensor:
    """Blur of every other image, a shift for the whole batch, contrast and noise for each image.

    Each batch holds sharp and blurred images, so that batch norm learns statistics that fit both.
    """
    small = int(torch.randint(_SIZE // 5, _SIZE, ()))
    blurred = F.interpolate(x[::2], (small, small), mode="bilinear", antialias=True, align_corners=False)
    x[::2] = F.interpolate(blurred, (_SIZE, _SIZE), mode="bilinear", align_corners=False)
    x = torch.roll(x, torch.randint(-2, 3, (2,)).tolist(), dims=(2, 3))
    contrast = 0.7 + 0.3 * torch.rand(len(x), 1, 1, 1)
    noise = 0.1 * torch.rand(len(x), 1, 1, 1)
    return (x + 1) * contrast - 1 + noise * torch.randn_like(x)


def _check(images: np.ndarray, name: str) -> int:
    """Number of channels of images uint8 (N, C, H, W)."""
    if images.dtype != np.uint8 or images.ndim != 4 or 0 in images.shape:
        raise InputError(
            f"{name} are {images.dtype} {images.shape}: the judge needs uint8 (N, C, H, W), none 0"
        )
    return int(images.shape[1])
