"""Purity of generated images: the share that an independent classifier takes for inliers.

The classifier is trained on clean labels. Only experiments with ground truth have one, and neither cleaning
nor training may use it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from rvqvae.errors import InputError, check_whole

_SIZE = 32  # pixels of the classifier's input
_BATCH = 128  # of all kinds together


class Classifier:
    """Small convolutional classifier of K kinds of images.

    Training images are shifted, dimmed, blurred and made noisy at random. Ours: generated images are blurred,
    and must be classified by their content.
    """

    def __init__(self, network: nn.Module, channels: int) -> None:
        self._network = network.eval()
        self._channels = channels

    @classmethod
    def fit(cls, kinds: Sequence[np.ndarray], seed: int = 0, *, steps: int = 600) -> Classifier:
        """Train on clean images of each kind, uint8 (N_k, C, H, W); all kinds are drawn equally often.

        Equal seeds give equal classifiers. Raises InputError for other dtypes and shapes.
        """
        check_whole("steps", steps, 2)
        channels = [_check(images, f"images of kind {k}") for k, images in enumerate(kinds)]
        if len(set(channels)) > 1:
            several = " and ".join(map(str, sorted(set(channels))))
            raise InputError(f"there are images of {several} channels: convert them to the same")
        each = _BATCH // len(kinds)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = _network(channels[0], len(kinds))
            optimiser = torch.optim.AdamW(network.parameters(), lr=4e-3)
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=steps)
            target = torch.arange(len(kinds)).repeat_interleave(each)
            for _ in range(steps):
                drawn = [x[torch.randint(len(x), (each,)).numpy()] for x in kinds]
                logits = network(_augment(torch.cat([_prepare(x) for x in drawn])))
                loss = F.cross_entropy(logits, target)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                schedule.step()
        return cls(network, channels[0])

    @torch.inference_mode()
    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """(N, K) float32 probabilities of the kinds, of images uint8 (N, C, H, W)."""
        if _check(images, "images") != self._channels:
            raise InputError(
                f"images have {images.shape[1]} channels: the classifier was trained on {self._channels}"
            )
        parts = [self._network(_prepare(images[i : i + 256])) for i in range(0, len(images), 256)]
        return torch.cat(parts).softmax(1).numpy()


class InlierClassifier:
    """`Classifier` of inliers against outliers.

    >>> classifier = InlierClassifier.fit(inliers, outliers)     # doctest: +SKIP
    >>> classifier.test(held_out_inliers, held_out_outliers)     # doctest: +SKIP
    0.0005
    """

    def __init__(self, classifier: Classifier) -> None:
        self.classifier = classifier
        self.error: float | None = None
        """Balanced error on the held-out images last given to `test`; None before."""

    @classmethod
    def fit(
        cls, inliers: np.ndarray, outliers: np.ndarray, seed: int = 0, *, steps: int = 600
    ) -> InlierClassifier:
        """Train on labelled clean images, uint8 (N, C, H, W) and (M, C, H, W)."""
        return cls(Classifier.fit([outliers, inliers], seed, steps=steps))

    def predict_inlier(self, images: np.ndarray) -> np.ndarray:
        """(N,) bool: whether each of the images uint8 (N, C, H, W) is taken for an inlier."""
        return self.classifier.probabilities(images)[:, 1] > 0.5

    def test(self, inliers: np.ndarray, outliers: np.ndarray) -> float:
        """Mean of the two classes' error rates on held-out images; kept as ``error``."""
        missed = 1 - self.predict_inlier(inliers).mean()
        false = self.predict_inlier(outliers).mean()
        self.error = float((missed + false) / 2)
        return self.error


def purity(classifier: InlierClassifier, samples: np.ndarray) -> float:
    """Share of the samples, uint8 (N, C, H, W), taken for inliers; report the classifier's ``error`` too."""
    return float(classifier.predict_inlier(samples).mean())


def _network(channels: int, kinds: int) -> nn.Module:
    """(B, C, 32, 32) to logits (B, K)."""

    def block(inputs: int, outputs: int, kernel: int, stride: int) -> list[nn.Module]:
        conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
        return [conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]

    layers = block(channels, 32, 5, 2) + block(32, 64, 3, 2) + block(64, 64, 3, 2)
    return nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.2), nn.Linear(64 * 4 * 4, kinds))


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
            f"{name} are {images.dtype} {images.shape}: the classifier needs uint8 (N, C, H, W), none 0"
        )
    return int(images.shape[1])
