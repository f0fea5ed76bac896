"""Moved copies of images as grids of codes: of as many images, a prior that is told the moves learns more.

Distribution augmentation (Jun et al. 2020), by continuous amounts as in Karras et al. 2022 (arXiv:2206.00364,
section 5): told of none, the prior draws as images are.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rvqvae.optimization import generator_of
from rvqvae.vqvae.inference import BATCH, decode_codes, inlier_codes
from rvqvae.vqvae.model import TwoCodebookVQVAE

LIMITS = (0.21, 0.21, 0.25, 0.15, 0.2)
"""Most that an image is shifted right and down (half sides), turned (radians), resized (log) and sheared."""
SHARE = 0.5
"""Of copies among what the prior sees."""
WAVES = 32

Copies = Callable[[int], tuple[Tensor, Tensor]]
"""Of an epoch: grids (N, h, w) of moved copies, and by how much each was moved, (N, 5) in [-1, 1]."""


def moved(images: Tensor, amounts: Tensor) -> Tensor:
    """Each of ``images`` (B, C, H, W) float by its ``amounts`` (B, 5) of `LIMITS`; borders are repeated."""
    right, down, angle, size, shear = (amounts * amounts.new_tensor(LIMITS)).unbind(1)
    cos, sin, scale = angle.cos(), angle.sin(), size.exp()
    rows = (
        torch.stack([scale * cos, scale * (shear - sin), right], 1),
        torch.stack([scale * sin, scale * cos, down], 1),
    )
    grid = F.affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


@torch.no_grad()
def moved_grids(model: TwoCodebookVQVAE, codes: Tensor, *key: int) -> tuple[Tensor, Tensor]:
    """`Copies` of the images that ``codes`` (N, h, w) stand for, each moved by chance.

    On 7,000 digits, 7 x 7 codes, the nats per position of held-out grids were 2.10 after 16 passes without
    copies; with them 2.08 in 16, where samples were worse, and 1.99 in 48, for 3.5 times the time. Of 2,000
    samples a classifier could then read .791 (.690 before), their Fréchet distance was 147 (182), their
    coverage .534 (.472); with a critic .830 (.776), 146 (150) and .567 (.552). Kernels of 5 x 5 gave no more
    in 32 passes: 2.04 and .805.
    """
    amounts = 2 * torch.rand(len(codes), len(LIMITS), generator=generator_of(*key)) - 1
    grids = [
        inlier_codes(model, moved(decode_codes(model, few).float(), by).round().byte())
        for few, by in zip(codes.split(BATCH), amounts.split(BATCH), strict=True)
    ]
    return torch.cat(grids), amounts


class Amounts(nn.Module):
    """What each of ``layers`` gates is told of amounts (B, 5): biases (B, ``width``), zero if these are zero.

    So it is of no use once a prior has learned.
    """

    def __init__(self, layers: int, width: int) -> None:
        super().__init__()
        self.waves = nn.Linear(len(LIMITS), WAVES, bias=False)
        self.told = nn.ModuleList(nn.Linear(2 * WAVES, width, bias=False) for _ in range(layers))

    def forward(self, amounts: Tensor) -> list[Tensor]:
        waves = 2 * self.waves(amounts)
        seen = torch.cat([waves.sin(), waves.cos() - 1], 1)
        return [told(seen) for told in self.told]

    def mixed(self, grids: Tensor, copies: Tensor, amounts: Tensor) -> tuple[Tensor, list[Tensor]]:
        """``grids`` (B, h, w), `SHARE` of them replaced by their ``copies``, and what layers are told."""
        replaced = torch.rand(len(grids), device=grids.device) < SHARE
        return torch.where(replaced[:, None, None], copies, grids), self(amounts * replaced[:, None])
