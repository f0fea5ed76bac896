"""What self-augmented training moves samples by: adversarial and random steps, and affine maps of images."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

REACH = 10.0
"""Length of the trial step from which the adversarial direction is taken: the authors' xi.

Far beyond a linear approximation, on data whose neighbours are 10 apart as they are here (`Scale`).
"""
DEGREES, SHEAR, SHIFT, ZOOM = 15.0, 10.0, 0.1, 0.1
"""Most that `affine` does: degrees of rotation and of shear, share of the side, and of the size."""


def unit_steps(like: Tensor, generator: torch.Generator) -> Tensor:
    """Random directions of length 1, shaped as ``like`` (B, d)."""
    return F.normalize(torch.randn(like.shape, generator=generator, device=like.device), dim=1)


def adversarial_direction(
    network: Callable[[Tensor], Tensor],
    divergence: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    logits: Tensor,
    generator: torch.Generator,
    reach: float = REACH,
) -> Tensor:
    """Directions (B, d) of length 1 in which the prediction for ``x`` (B, d) changes most.

    One power step of virtual adversarial training (Miyato et al. 2016, section 3): the gradient, with
    respect to a random step of length ``reach``, of the divergence from ``logits``, which is held fixed.
    """
    step = (reach * unit_steps(x, generator)).requires_grad_()
    far = divergence(logits.detach(), network(x + step)).sum()
    (gradient,) = torch.autograd.grad(far, step)
    # Where nothing changes the gradient is zero, and any direction will do: the random one.
    flat = gradient.norm(dim=1, keepdim=True) == 0
    return F.normalize(torch.where(flat, step.detach(), gradient), dim=1, eps=1e-30)


def affine(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each of the images (B, C, H, W) float turned, sheared, shifted and resized a little, at random.

    Beyond the border the nearest pixel is repeated, which suits any background. torchvision's RandomAffine
    would move all images of a batch alike.
    """
    draw = torch.rand(5, len(images), generator=generator, device=images.device) * 2 - 1
    angle, shear = math.radians(DEGREES) * draw[0], torch.tan(math.radians(SHEAR) * draw[1])
    size = 1 + ZOOM * draw[2]
    cos, sin = angle.cos() * size, angle.sin() * size
    rows = (
        torch.stack([cos, cos * shear - sin, 2 * SHIFT * draw[3]], 1),
        torch.stack([sin, sin * shear + cos, 2 * SHIFT * draw[4]], 1),
    )
    grid = F.affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def neighbour_distances(
    samples: Tensor,
    neighbour: int = 10,
    *,
    shift: Tensor | None = None,
    block: int = 1024,
    progress: Callable[[int], object] | None = None,
) -> Tensor:
    """(N,) float32 Euclidean distance of each of N samples (N, d) to its ``neighbour``-th nearest other one.

    With fewer other samples, the farthest. Else as `nearest_distances`.
    """
    return nearest_distances(samples, neighbour, shift=shift, block=block, progress=progress)[:, -1]


def nearest_distances(
    samples: Tensor,
    neighbours: int,
    *,
    shift: Tensor | None = None,
    block: int = 1024,
    progress: Callable[[int], object] | None = None,
) -> Tensor:
    """(N, neighbours) float32 Euclidean distances of N samples (N, d) to the nearest others, rising.

    Exact, by comparing all pairs, a ``block`` of rows at a time; with fewer other samples, as many columns.
    ``shift`` (d,), such as the mean, is subtracted first, for precision. ``progress`` is called with the
    rows done.
    """
    samples = samples.float()
    if shift is not None:
        samples = samples - shift
    count = min(neighbours, len(samples) - 1)
    parts = []
    for start in range(0, len(samples), block):
        rows = samples[start : start + block]
        distance = torch.cdist(rows, samples, compute_mode="use_mm_for_euclid_dist")
        # A sample is no neighbour of its own.
        distance[torch.arange(len(rows)), torch.arange(start, start + len(rows))] = torch.inf
        parts.append(distance.topk(count, largest=False).values)
        if progress is not None:
            progress(start + len(rows))
    return torch.cat(parts)
