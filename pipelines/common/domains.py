"""A folder of image domains, and the sets drawn from them, with known outliers.

A domain is a file NAME.npz with ``x`` uint8 (N, H, W) or (N, H, W, 3) and, where it has kinds, ``y`` (N,);
``mnist`` and ``fashion`` are read as torchvision stores them. scenarios.json lists sets: which domain (and
which of its kinds) the inliers come from, and which the outliers, how many, and the seed of the draw.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rvqvae.errors import InputError

Images = NDArray[np.uint8]
IDX = {"mnist": "MNIST", "fashion": "FashionMNIST"}
RELATIVES = {
    "icons_faenza": "icons", "icons_oxygen": "icons", "icons_papirus": "icons",
    "textures": "materials", "surface": "materials", "surface_defect": "materials",
    "units": "wesnoth", "portraits": "wesnoth", "hexterrain": "wesnoth",
    "glyph_latin": "glyphs", "glyph_digits": "glyphs", "glyph_scripts": "glyphs",
    "photos3": "photos2", "landscapes": "photos2", "portraits2": "wesnoth",
    "asteroids": "space", "outfits": "space", "planets": "space", "ships": "space", "commodities": "space",
}  # fmt: skip
"""Families of domains that share a source: whoever is tested on one may have learned from none of them."""


def family_of(domain: str) -> str:
    return RELATIVES.get(domain, domain)


class Domain(NamedTuple):
    images: Images
    """(N, H, W) or (N, H, W, 3)."""
    kinds: NDArray[np.int64]
    """(N,), -1 where a domain has none."""


class Scenario(NamedTuple):
    """A set to draw. ``inliers``, and each of ``outliers``: {"domain": name}, or "classes": [kinds] too."""

    id: str
    kind: str
    inliers: Mapping[str, Any]
    outliers: Sequence[Mapping[str, Any]]
    rate: float
    """Outliers / total."""
    n: int
    """Images at most."""
    seed: int
    beside: str = ""
    """A second domain of inliers."""

    @property
    def domains(self) -> list[str]:
        """Those of the inliers, then those of the outliers."""
        parts = [self.inliers, *self.outliers]
        return [*filter(None, [parts[0]["domain"], self.beside]), *(part["domain"] for part in parts[1:])]

    @property
    def families(self) -> frozenset[str]:
        """What must be left out of learning. Of several outlier domains each is rare, so they stay."""
        several = len(self.outliers) if len(self.outliers) > 1 else 0
        return frozenset(map(family_of, self.domains[: len(self.domains) - several]))


@dataclass(frozen=True)
class Folder:
    """Domains in ``root``; the full MNIST and Fashion-MNIST in ``datasets``."""

    root: Path
    datasets: Path | None = None
    _opened: dict[str, Domain] = field(default_factory=dict, compare=False, repr=False)

    def scenarios(self) -> list[Scenario]:
        """Those of scenarios.json whose domains are all there."""
        path = self.root / "scenarios.json"
        try:
            listed = [Scenario(**entry) for entry in json.loads(path.read_text(encoding="utf-8"))]
        except (OSError, TypeError, ValueError) as error:
            raise InputError(
                f"root={str(self.root)!r} has no scenarios.json that can be read: {error}"
            ) from error
        here = {*self.names(), *(IDX if self.datasets else ())}
        return [scenario for scenario in listed if here.issuperset(scenario.domains)]

    def names(self) -> list[str]:
        return sorted(path.stem for path in self.root.glob("*.npz"))

    def domain(self, name: str) -> Domain:
        if name not in self._opened:
            self._opened[name] = self._read(name)
        return self._opened[name]

    def _read(self, name: str) -> Domain:
        if name in IDX and self.datasets:
            raw = self.datasets / IDX[name] / "raw"
            images = np.frombuffer((raw / "train-images-idx3-ubyte").read_bytes(), np.uint8, offset=16)
            kinds = np.frombuffer((raw / "train-labels-idx1-ubyte").read_bytes(), np.uint8, offset=8)
            return Domain(images.reshape(-1, 28, 28), kinds.astype(np.int64))
        with np.load(self.root / f"{name}.npz") as file:
            images = file["x"]
            return Domain(images, file["y"].astype(np.int64) if "y" in file else np.full(len(images), -1))

    def rows(self, part: Mapping[str, Any]) -> NDArray[np.int64]:
        """The images of a domain that a part of a scenario names."""
        kinds = self.domain(part["domain"]).kinds
        return np.flatnonzero(np.isin(kinds, part["classes"])) if "classes" in part else np.arange(len(kinds))

    def draw(self, scenario: Scenario) -> tuple[Images, NDArray[np.bool_]]:
        """Images in the form of the inliers' domain, shuffled, and which of them are outliers (N,)."""
        rng = np.random.default_rng(scenario.seed)
        images, rate = self.domain(scenario.inliers["domain"]).images, scenario.rate
        inliers = rng.permutation(self.rows(scenario.inliers))
        pools = [rng.permutation(self.rows(part)) for part in scenario.outliers]
        n = min(scenario.n, int(len(inliers) / (1 - rate)))
        if pools:
            n = min(n, int(min(map(len, pools)) * len(pools) / rate))
        count = round(n * rate)
        parts = [images[inliers[: n - count]]]
        for i, (part, pool) in enumerate(zip(scenario.outliers, pools, strict=True)):
            share = count // len(pools) + (i < count % len(pools))
            parts.append(fitted(self.domain(part["domain"]).images[pool[:share]], images.shape[1:]))
        order = rng.permutation(n)
        return np.concatenate(parts)[order], (np.arange(n) >= n - count)[order]


def fitted(images: Images, shape: tuple[int, ...]) -> Images:
    """``images`` in the size and colour mode of ``shape``, as a cleaning job would read them."""
    if images.shape[1:] == shape or not len(images):
        return images.reshape(-1, *shape)
    mode = "L" if len(shape) == 2 else "RGB"
    size = shape[1], shape[0]
    return np.stack(
        [np.asarray(Image.fromarray(i).convert(mode).resize(size, Image.Resampling.BILINEAR)) for i in images]
    )
