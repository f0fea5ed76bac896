"""Sets of our own beside a folder's: what a user's folder also looks like, and no list of domains covers.

corrupted: some of the images are blurred, noisy, compressed to ruins or inverted. duplicates: a third of the
images are near copies of others. two: inliers of two domains. tiny: 100 images. unbalanced: each kind of the
inliers is half as frequent as the one before.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from pipelines.common.domains import Folder, Images, Scenario, family_of, fitted
from pipelines.judging.tabular import Tables

Drawn = tuple[Images, NDArray[np.bool_]]
"""Images (N, H, W[, 3]), and which of them are outliers (N,)."""
EACH = 6
"""Sets of each kind."""
COPIES = 1 / 3
N, TINY = 800, 100


def own_scenarios(folder: Folder) -> list[Scenario]:
    """Up to EACH of each kind, over all domains in turn; none where a folder has too few families."""
    names = [name for name in folder.names() if name != "surface_defect"]
    made: list[Scenario] = []
    for k, kind in enumerate(DRAWS):
        for i in range(EACH if len(names) > 1 else 0):
            inliers = names[(5 * i + k) % len(names)]
            others = [name for name in names if family_of(name) != family_of(inliers)]
            if not others:
                continue
            outliers = others[(7 * i + 3 * k) % len(others)]
            third = [name for name in others if family_of(name) != family_of(outliers)]
            if kind == "two" and not third:
                continue
            made.append(
                Scenario(
                    f"{kind}-{i}",
                    kind,
                    {"domain": inliers},
                    [] if kind == "corrupted" else [{"domain": outliers}],
                    (0.05, 0.1, 0.2, 0.3)[i % 4] if kind == "corrupted" else (0.1, 0.2, 0.0)[i % 3],
                    TINY if kind == "tiny" else N,
                    1000 + len(made),
                    third[i % len(third)] if kind == "two" else "",
                )
            )
    return made


def draw(source: Folder | Tables, scenario: Scenario) -> tuple[NDArray, NDArray[np.bool_]]:
    """Any scenario: as its kind is drawn here, or else as its source does."""
    if isinstance(source, Folder) and scenario.kind in DRAWS:
        return DRAWS[scenario.kind](source, scenario)
    return source.draw(scenario)


def _corrupted(folder: Folder, scenario: Scenario) -> Drawn:
    images, _ = folder.draw(scenario._replace(rate=0.0))
    truth = np.arange(len(images)) < round(scenario.rate * len(images))
    rng = np.random.default_rng([scenario.seed, 1])
    rng.shuffle(truth)
    change = list(CORRUPTIONS.values())[scenario.seed % len(CORRUPTIONS)]
    images[truth] = [change(image, rng) for image in images[truth]]
    return images, truth


def _duplicates(folder: Folder, scenario: Scenario) -> Drawn:
    images, truth = _mixed(folder, scenario)
    rng = np.random.default_rng([scenario.seed, 1])
    for side in (False, True):
        rows = rng.permutation(np.flatnonzero(truth == side))
        copies, kept = np.split(rows, [int(COPIES * len(rows))])
        for row in copies:
            image = np.roll(images[rng.choice(kept)], rng.integers(-1, 2, 2), axis=(0, 1))
            brighter = image * rng.uniform(0.95, 1.05) + rng.normal(0, 2, image.shape)
            images[row] = np.clip(brighter, 0, 255).astype(np.uint8)
    return images, truth


def _two(folder: Folder, scenario: Scenario) -> Drawn:
    first, truth = _mixed(folder, scenario._replace(n=scenario.n // 2))
    second, _ = folder.draw(
        scenario._replace(inliers={"domain": scenario.beside}, outliers=[], rate=0.0, n=len(first))
    )
    # The outliers are a share of all: as many of the second domain's images are exchanged for them.
    more = round(scenario.rate * len(second))
    parts = [first, fitted(second[more:], first.shape[1:])]
    labels = [truth, np.zeros(len(second) - more, bool)]
    if more:
        other = scenario.outliers[0]["domain"]
        rows = np.random.default_rng([scenario.seed, 1]).permutation(len(folder.domain(other).images))
        parts.append(fitted(folder.domain(other).images[rows[:more]], first.shape[1:]))
        labels.append(np.ones(len(parts[-1]), bool))
    return _shuffled(np.concatenate(parts), np.concatenate(labels), scenario.seed)


def _unbalanced(folder: Folder, scenario: Scenario) -> Drawn:
    """The commonest kind first, and all others fewer and fewer."""
    rng = np.random.default_rng([scenario.seed, 1])
    kinds = folder.domain(scenario.inliers["domain"]).kinds
    frequent = np.unique(kinds)[np.argsort(-np.unique(kinds, return_counts=True)[1])]
    most = int((kinds == frequent[0]).sum())
    rows = np.concatenate(
        [rng.permutation(np.flatnonzero(kinds == k))[: max(2, most >> i)] for i, k in enumerate(frequent)]
    )
    rows = rng.permutation(rows)[: round(scenario.n * (1 - scenario.rate))]
    images = folder.domain(scenario.inliers["domain"]).images[rows]
    count = round(len(rows) * scenario.rate / (1 - scenario.rate))
    others = folder.domain(scenario.outliers[0]["domain"]).images
    foreign = fitted(others[rng.permutation(len(others))[:count]], images.shape[1:])
    truth = np.arange(len(images) + len(foreign)) >= len(images)
    return _shuffled(np.concatenate([images, foreign]), truth, scenario.seed)


def _mixed(folder: Folder, scenario: Scenario) -> Drawn:
    """As a folder's; at rate 0 there are no outliers to draw."""
    return folder.draw(scenario if scenario.rate else scenario._replace(outliers=[]))


def _shuffled(images: Images, truth: NDArray[np.bool_], seed: int) -> Drawn:
    order = np.random.default_rng([seed, 2]).permutation(len(images))
    return images[order], truth[order]


def _blur(image: Images, rng: np.random.Generator) -> Images:
    return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(len(image) / 20)))


def _noise(image: Images, rng: np.random.Generator) -> Images:
    return np.clip(image + rng.normal(0, 40, image.shape), 0, 255).astype(np.uint8)


def _jpeg(image: Images, rng: np.random.Generator) -> Images:
    file = io.BytesIO()
    Image.fromarray(image).save(file, format="JPEG", quality=5)
    return np.asarray(Image.open(file))


def _invert(image: Images, rng: np.random.Generator) -> Images:
    return 255 - image


CORRUPTIONS: dict[str, Callable[[Images, np.random.Generator], Images]] = {
    "blur": _blur,
    "noise": _noise,
    "jpeg": _jpeg,
    "invert": _invert,
}
DRAWS: dict[str, Callable[[Folder, Scenario], Drawn]] = {
    "corrupted": _corrupted,
    "duplicates": _duplicates,
    "two": _two,
    "tiny": _mixed,
    "unbalanced": _unbalanced,
}
