"""Contaminate a clean set on purpose: mix outliers in at an exact rate, or make them up.

The rate is outliers / total throughout.
"""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Callable, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from rvqvae.errors import InputError
from rvqvae.io.arrays import as_nchw, from_nchw, layout_of

RandomState = int | np.random.Generator | np.random.RandomState | None
NoiseKind = Literal["uniform", "gaussian", "salt_and_pepper"]
TransformKind = Literal["blur", "invert", "occlude", "jpeg", "rotate"]


class Contaminated(NamedTuple):
    """A shuffled mixture of inliers and outliers, and the truth about it."""

    images: NDArray
    """(N, ...) rows of both sources, in their dtype."""
    is_outlier: NDArray[np.bool_]
    """bool (N,)."""
    source_index: NDArray[np.int64]
    """int64 (N,): the row's index among the inliers, or among the outliers where `is_outlier`."""


class Manifest(NamedTuple):
    """The truth about a mixture without its images; both fields as in `Contaminated`."""

    is_outlier: NDArray[np.bool_]
    source_index: NDArray[np.int64]


def contaminate(
    inliers: ArrayLike,
    outliers: ArrayLike,
    rate: float,
    random_state: RandomState = None,
    *,
    total: int | None = None,
) -> Contaminated:
    """Mix `inliers` (n, ...) with `outliers` (m, ...) so that outliers / total = `rate` to one image.

    Without `total` every inlier is kept, and the number of outliers is the one that brings the rate
    nearest. With it, round(rate * total) outliers and total - that many inliers are drawn. All draws are
    without replacement, and the result is shuffled; equal seeds give equal mixtures. Works on images and
    on feature vectors alike. InputError if the rate is outside [0, 1), shapes or dtypes differ, or there
    are too few rows.
    """
    inliers, outliers = np.asarray(inliers), np.asarray(outliers)
    if not isinstance(rate, Real) or not 0 <= rate < 1:  # NaN fails the comparison
        raise InputError(f"rate={rate!r} is out of range: outliers / total must be at least 0 and below 1")
    if total is not None and (not isinstance(total, Integral) or total < 1):
        raise InputError(f"total={total!r} is out of range: it must be an integer >= 1")
    if inliers.ndim == 0 or outliers.ndim == 0 or inliers.shape[1:] != outliers.shape[1:]:
        raise InputError(
            f"inliers of shape {inliers.shape} and outliers of shape {outliers.shape} differ after the first "
            "axis: bring them to one size and layout"
        )
    if inliers.dtype != outliers.dtype:
        raise InputError(
            f"inliers have dtype {inliers.dtype} and outliers {outliers.dtype}: convert one to the other's"
        )
    n_outliers = _outliers_for(len(inliers), rate) if total is None else round(rate * total)
    n_inliers = len(inliers) if total is None else total - n_outliers
    for kind, needed, there in (
        ("inliers", n_inliers, len(inliers)), ("outliers", n_outliers, len(outliers)),
    ):  # fmt: skip
        if needed > there:
            raise InputError(
                f"rate={rate} needs {needed} {kind}, but there are only {there}: "
                "give more of them, another rate, or a smaller total"
            )
    if n_inliers + n_outliers == 0:
        raise InputError("there are no inliers: give at least one")

    rng = _generator(random_state)
    source_index = np.concatenate(
        [
            rng.choice(len(inliers), n_inliers, replace=False),
            rng.choice(len(outliers), n_outliers, replace=False) if n_outliers else np.empty(0, np.int64),
        ]
    ).astype(np.int64)
    is_outlier = np.arange(n_inliers + n_outliers) >= n_inliers
    order = rng.permutation(n_inliers + n_outliers)
    images = np.concatenate([inliers[source_index[:n_inliers]], outliers[source_index[n_inliers:]]])
    return Contaminated(images[order], is_outlier[order], source_index[order])


def split_classes(
    images: ArrayLike, labels: ArrayLike, inlier_classes: int | Sequence[int]
) -> tuple[NDArray, NDArray]:
    """Split `images` (N, ...) by `labels` (N,) into (inliers, outliers), both in their original order."""
    images, labels = np.asarray(images), np.asarray(labels)
    if labels.shape != images.shape[:1]:
        raise InputError(
            f"labels have shape {labels.shape}, but there are {len(images)} images: give one each"
        )
    classes = np.unique(labels)
    wanted = np.atleast_1d(inlier_classes)
    unknown = np.setdiff1d(wanted, classes)
    if len(unknown) or not len(wanted):
        raise InputError(f"inlier_classes={wanted.tolist()} must name some of the labels {classes.tolist()}")
    inlier = np.isin(labels, wanted)
    if inlier.all():
        raise InputError(
            f"inlier_classes={wanted.tolist()} are all the labels there are: leave one to the outliers"
        )
    return images[inlier], images[~inlier]


def noise_images(
    n: int, shape: tuple[int, ...], kind: NoiseKind, random_state: RandomState = None
) -> NDArray[np.uint8]:
    """Draw `n` uint8 images of independent pixels, (n, *shape).

    ``uniform`` on 0..255; ``gaussian`` with mean 127.5 and standard deviation 64, clipped;
    ``salt_and_pepper`` 0 or 255 with equal chance.
    """
    if n < 0 or any(side < 1 for side in shape):
        raise InputError(f"n={n} and shape={shape} must not be negative or empty")
    rng = _generator(random_state)
    size = (n, *shape)
    if kind == "uniform":
        return rng.integers(0, 256, size, dtype=np.uint8)
    if kind == "gaussian":
        return rng.normal(127.5, 64, size).round().clip(0, 255).astype(np.uint8)
    if kind == "salt_and_pepper":
        return rng.integers(0, 2, size, dtype=np.uint8) * np.uint8(255)
    raise _unknown("noise", kind, get_args(NoiseKind))


def transform_images(
    images: ArrayLike, kind: TransformKind, random_state: RandomState = None
) -> NDArray[np.uint8]:
    """Damage every image of a uint8 array in any layout of `rvqvae.io.arrays`; same shape and dtype back.

    ``blur``: Gaussian, sigma 1/14 of the shorter side (at least 1 pixel). ``invert``: 255 - x.
    ``occlude``: a random rectangle, a third to two thirds of each side, black or white, whichever is
    further from what it hides. ``jpeg``: quality 2 to 8. ``rotate``: by 45 to 315 degrees about the
    centre, corners black. Where there is nothing to see (a blank image), some leave it as it is.
    """
    if kind not in _TRANSFORMS:
        raise _unknown("transform", kind, tuple(_TRANSFORMS))
    layout = layout_of(images)
    rng = _generator(random_state)
    transform = _TRANSFORMS[kind]
    damaged = [transform(torch.from_numpy(image.copy()), rng).numpy() for image in as_nchw(images)]
    return from_nchw(np.stack(damaged), layout)


def save_manifest(path: str | Path, contaminated: Contaminated | Manifest) -> None:
    """Write the truth as CSV, ``index,is_outlier,source_index``; the file appears complete or not at all."""
    path = Path(path)
    if not path.parent.is_dir():
        raise InputError(f"{path} cannot be written: make the folder {path.parent} first")
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with partial.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(_COLUMNS)
            truth = zip(contaminated.is_outlier.tolist(), contaminated.source_index.tolist(), strict=True)
            writer.writerows((index, int(outlier), source) for index, (outlier, source) in enumerate(truth))
        os.replace(partial, path)
    except OSError as error:
        raise InputError(
            f"{path} cannot be written: {error.strerror}: give a file in an existing folder"
        ) from error
    finally:
        partial.unlink(missing_ok=True)


def load_manifest(path: str | Path) -> Manifest:
    """Read what `save_manifest` wrote; InputError if the file is missing or damaged."""
    try:
        with Path(path).open(encoding="utf-8", newline="") as file:
            header, *rows = csv.reader(file)
            values = np.array(rows, dtype=np.int64).reshape(-1, len(_COLUMNS))
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as a manifest: {error}") from error
    index, is_outlier, source_index = values.T
    in_order = np.array_equal(index, np.arange(len(index)))
    if tuple(header) != _COLUMNS or not in_order or not np.isin(is_outlier, (0, 1)).all():
        raise InputError(
            f"{path} is not a manifest: it needs the columns {','.join(_COLUMNS)}, with index 0, 1, 2... and "
            "is_outlier 0 or 1"
        )
    return Manifest(is_outlier.astype(bool), source_index.copy())


_COLUMNS = ("index", "is_outlier", "source_index")


def _outliers_for(n_inliers: int, rate: float) -> int:
    """The number of outliers m that brings m / (n_inliers + m) nearest to `rate`."""
    below = math.floor(n_inliers * rate / (1 - rate))
    return min((below, below + 1), key=lambda m: abs(m / max(n_inliers + m, 1) - rate))


def _generator(random_state: RandomState) -> np.random.Generator:
    if isinstance(random_state, np.random.RandomState):
        return np.random.default_rng(random_state.randint(2**31 - 1))
    try:
        return np.random.default_rng(random_state)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"random_state={random_state!r} must be None, an integer >= 0, a numpy Generator or RandomState"
        ) from error


def _unknown(what: str, kind: object, known: tuple[str, ...]) -> InputError:
    return InputError(f"kind={kind!r} is not a {what}: choose from {', '.join(known)}")


def _blur(image: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    sigma = max(1.0, min(image.shape[1:]) / 14)
    return F.gaussian_blur(image, [2 * round(3 * sigma) + 1] * 2, [sigma] * 2)


def _invert(image: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    return 255 - image


def _occlude(image: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    sides = [int(rng.integers(math.ceil(side / 3), 2 * side // 3, endpoint=True)) for side in image.shape[1:]]
    top, left = (
        int(rng.integers(0, full - side, endpoint=True))
        for full, side in zip(image.shape[1:], sides, strict=True)
    )
    hidden = image[:, top : top + sides[0], left : left + sides[1]]
    hidden[:] = 0 if hidden.float().mean() >= 128 else 255
    return image


def _jpeg(image: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    # Through Pillow, as torchvision's own codec for tensors is deprecated.
    return F.pil_to_tensor(F.jpeg(F.to_pil_image(image), int(rng.integers(2, 8, endpoint=True))))


def _rotate(image: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    return F.rotate(image, float(rng.uniform(45, 315)), InterpolationMode.BILINEAR)


_TRANSFORMS: dict[str, Callable[[torch.Tensor, np.random.Generator], torch.Tensor]] = {
    "blur": _blur,
    "invert": _invert,
    "occlude": _occlude,
    "jpeg": _jpeg,
    "rotate": _rotate,
}
