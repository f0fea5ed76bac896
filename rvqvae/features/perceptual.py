"""Images compared by the early layers of the embedded network: what a squared error of pixels blurs away."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from rvqvae.features.efficientnet import MEAN, STD, efficientnet_lite0

STAGES = 3
"""Blocks whose outputs are compared, after the stem: down to an eighth of the side, 40 channels."""


@lru_cache(maxsize=2)
def _stages(device: torch.device, dtype: torch.dtype) -> list[nn.Module]:
    # Storage of its own even while a saved model is rebuilt without.
    with torch.device(device):
        network: Any = efficientnet_lite0().requires_grad_(False)
        network = network.to(device, dtype, memory_format=torch.channels_last)
    return [network.stem, *network.stages[:STAGES]]


def deep_features(images: Tensor) -> list[Tensor]:
    """Maps of EfficientNet-Lite0's stem and first blocks: (B, 1 | 3, H, W) in [0, 1] -> (B, C, h, w) each."""
    x = (255 * images.expand(-1, 3, -1, -1) - MEAN) / STD
    x, maps = x.contiguous(memory_format=torch.channels_last), []
    # Under autocast images are in half precision, and the weights must not be.
    for stage in _stages(images.device, torch.promote_types(images.dtype, torch.float32)):
        maps.append(x := stage(x))
    return maps


def perceptual_loss(images: Tensor, reconstructions: Tensor, weight: Tensor | float = 1.0) -> Tensor:
    """Mean squared difference of the maps over their variance, mean over stages: a scalar, 0 for equals.

    ``weight`` (B,), of mean 1, is what each image counts. The variance is that of the maps of ``images``.

    After Johnson et al. 2016, eq. 2. Ours: the variance, so that one weight fits all stages and data; and
    the shallow stages alone, at the images' own size. On 7,000 images of Fashion-MNIST, with weight 2 and a
    quarter of each batch looked at, the Fréchet distance of reconstructed test images fell from 535 to 377
    for 1.5 times the time; with whole batches and one stage less it was 373, for 2.4 times. Part of that is
    the measure's own network, the same as here: the squared error rose by a tenth, and by features of
    patches at 16 pixels (`rvqvae.features.patch_dictionary`), which see no fine texture, the distance rose as
    well (after 8 epochs from .93 to 1.40, real images .10).
    """
    with torch.no_grad():
        wanted = deep_features(images)
        scales = [values.var().clamp_min(1e-8) for values in wanted]
    stages = zip(deep_features(reconstructions), wanted, scales, strict=True)
    losses = [(weight * (a - b).square().flatten(1).mean(1)).mean() / scale for a, b, scale in stages]
    return torch.stack(losses).mean()
