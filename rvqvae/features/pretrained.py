"""Image features from a frozen network: what membership and the metrics compare images by.

The default network travels with its weights in a package, so nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from rvqvae.batches import map_batches
from rvqvae.errors import InputError, check_whole
from rvqvae.features.efficientnet import FEATURES, MEAN, STD, EfficientNetLite0, efficientnet_lite0
from rvqvae.features.statistics import picture_statistics
from rvqvae.features.timm_networks import SIDE, timm_network

STYLE_STAGES = 5
"""Stages before the style is taken: 112 channels, a sixteenth of the image's side."""
STYLE = 224
"""Its values."""

DEFAULT = "efficientnet_lite0"
Backbone = str | Callable[[torch.Tensor], torch.Tensor]


def extract_features(
    images: np.ndarray,
    backbone: Backbone = DEFAULT,
    *,
    size: int | None = None,
    batch_size: int = 32,
    device: str | torch.device | None = None,
) -> np.ndarray:
    """Features (N, d), float32, of images (N, 1 | 3, H, W), uint8.

    ``backbone`` is ``"efficientnet_lite0"`` (d = 1280, ImageNet weights from a package), the name of
    any timm model (its pretrained weights may be downloaded), a .safetensors file of its weights (see
    `timm_network`), or a callable from a uint8 batch (B, 1 | 3, H, W) on ``device`` to a tensor (B, d).
    Named networks see RGB (grey is repeated) of ``size`` x ``size`` pixels (by default 64, and up to 224
    where the size is part of the network), resized bilinearly with antialiasing. A CPU works at up to four
    batches at a time, so a callable is called from as many threads. ``batch_size`` changes speed only: at 128
    images their maps leave a CPU's caches, and it is 30 % lower.
    """
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3) or 0 in images.shape:
        raise InputError(
            f"images are {images.dtype} {images.shape}: features need uint8 (N, 1 or 3, H, W), none 0; "
            "convert with rvqvae.io.arrays first"
        )
    check_whole("batch_size", batch_size)
    device = torch.device(device or "cpu")
    network = named_backbone(backbone, size, device) if isinstance(backbone, str) else backbone

    def features_of(rows: slice) -> tuple[torch.Tensor]:
        batch = torch.tensor(images[rows], device=device)
        features = network(batch)
        if features.ndim != 2 or len(features) != len(batch):
            raise InputError(
                f"backbone={backbone!r} turned {tuple(batch.shape)} into {tuple(features.shape)}: "
                f"it must return ({len(batch)}, d)"
            )
        return (features.float(),)

    # TF32 would make features depend on the batch and the machine at the third decimal.
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        return map_batches(len(images), batch_size, features_of, device)[0].numpy()


def named_backbone(
    name: str, size: int | None = None, device: str | torch.device = "cpu"
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Function from a uint8 batch (B, 1 | 3, H, W) to features (B, d) of the network called ``name``."""
    if size is not None and size < 32:
        raise InputError(f"size={size} is out of range: the networks need >= 32 pixels; use 64 or more")
    if name == DEFAULT:
        return _from_bytes(efficientnet_lite0(), size or SIDE, (MEAN,) * 3, (STD,) * 3, device)
    network = timm_network(name, size)
    return _from_bytes(network.module, network.size, network.mean, network.std, device)


def extract_views(images: np.ndarray, backbone: Backbone = DEFAULT, **options: Any) -> list[np.ndarray]:
    """The views by which membership compares images (N, 1 | 3, H, W): pixels, features, style, picture
    statistics and texture; each (N, d).

    Features are scaled to unit length, because their length says how strongly an image excites the
    network, not what is in it. Style is the mean and standard deviation, over space, of every channel of
    a middle stage (Huang and Belongie 2017, eq. 8), texture those of all stages before it, from the same
    pass; a ``backbone`` other than the default has neither. ``options`` as in `extract_features`.
    """
    pixels = images.reshape(len(images), -1)
    if backbone != DEFAULT:
        features = unit_rows(extract_features(images, backbone, **options))
        return [pixels, features, picture_statistics(images)]
    size, device = options.pop("size", SIDE), torch.device(options.pop("device", None) or "cpu")
    joined = extract_features(images, _all_stages(size, device), device=device, **options)
    features, style = unit_rows(joined[:, :FEATURES]), joined[:, FEATURES : FEATURES + STYLE]
    return [pixels, features, style, picture_statistics(images), joined[:, FEATURES + STYLE :]]


@lru_cache(maxsize=2)
def _all_stages(size: int, device: torch.device) -> Callable[[torch.Tensor], torch.Tensor]:
    """From a uint8 batch to `AllStages`' output; kept, as building the network takes a second."""
    return _from_bytes(AllStages(efficientnet_lite0()), size, (MEAN,) * 3, (STD,) * 3, device)


class AllStages(nn.Module):
    """(B, 3, H, W) to features, style and texture side by side, in one pass."""

    def __init__(self, network: EfficientNetLite0) -> None:
        super().__init__()
        self.stem = network.stem
        self.first = nn.ModuleList(network.stages[:STYLE_STAGES])
        self.rest = nn.Sequential(*network.stages[STYLE_STAGES:], network.head)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        maps = [self.stem(x)]
        for stage in self.first:
            maps.append(stage(maps[-1]))
        *texture, style = [torch.cat([m.mean((2, 3)), spread(m)], 1) for m in maps]
        return torch.cat([self.rest(maps[-1]).mean((2, 3)), style, *texture], 1)


def spread(maps: torch.Tensor) -> torch.Tensor:
    """Standard deviations (B, C) over space of ``maps`` (B, C, H, W) float32, as ``maps.std((2, 3))``.

    torch's takes five times as long on a CPU, a third of the network's time; both sum in float64.
    """
    deviations = maps.double()
    deviations -= deviations.mean((2, 3), keepdim=True)
    return (deviations.square_().sum((2, 3)) / (maps[0, 0].numel() - 1)).sqrt().to(maps.dtype)


def unit_rows(features: np.ndarray) -> np.ndarray:
    """Rows of unit length, in place: a copy of the features would be the largest array of all."""
    lengths = np.sqrt(np.einsum("ij,ij->i", features, features))
    features /= np.maximum(lengths, 1e-12)[:, None]
    return features


def _from_bytes(
    network: nn.Module,
    size: int,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    device: str | torch.device,
) -> Callable[[torch.Tensor], torch.Tensor]:
    """``network`` behind the step from a uint8 batch of any size to its own input."""
    network = network.to(device).to(memory_format=torch.channels_last)  # twice as fast on a CPU
    shift = torch.tensor(mean, device=device).view(1, 3, 1, 1)
    scale = torch.tensor(std, device=device).view(1, 3, 1, 1)

    def features(batch: torch.Tensor) -> torch.Tensor:
        x = batch.float()
        if x.shape[2:] != (size, size):
            x = F.interpolate(x, (size, size), mode="bilinear", antialias=True, align_corners=False)
        x = (x.expand(-1, 3, -1, -1) - shift) / scale
        return network(x.contiguous(memory_format=torch.channels_last))

    return features
