"""What can be set in an experiment, on the command line and in YAML."""

from __future__ import annotations

import json
from argparse import RawDescriptionHelpFormatter
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from jsonargparse import ArgumentError, ArgumentParser, set_parsing_settings

from rvqvae.config import ModelConfig, PriorConfig, TrainConfig
from rvqvae.errors import InputError, check_whole

Method = Literal["oracle", "robust", "literal", "plain", "judge", "iforest", "knn"]

FREE = ("out", "tracking")
"""Settings that decide nothing of the results."""


@dataclass(frozen=True)
class Settings:
    """One experiment."""

    inliers: str = "mnist"
    """What the inliers come from: mnist, fashion_mnist, flower or china (tiles of a photograph each),
    or a .npz with x uint8 (N, H, W) or (N, H, W, 3) and their kinds y (N,), one image in three held out."""
    outliers: str = "fashion_mnist"
    """What the outliers come from; they are brought to the inliers' size and colours."""
    side: int | None = None
    """Height and width that all images are brought to, 8 to 256; null takes the inliers' own."""
    rate: float = 0.3
    """Outliers / total."""
    total: int | None = 3000
    """Images to train on; null takes all inliers that there are."""
    root: str | None = None
    """Folder with the full sets as torchvision stores them; null takes the committed samples."""
    seed: int | list[int] = 0
    """One seed, or several as [0,1,2] for mean and spread."""
    samples: int = 1000
    """Images to generate."""
    methods: tuple[Method, ...] = ("oracle", "robust", "literal", "plain")
    """Models to train: on the clean part alone, our rule, the abstract's rule, on everything; plain ones on
    what `clean` keeps (judge), and on what an isolation forest or the nearest neighbours keep when they are
    told the true rate (iforest, knn)."""
    out: str = "runs/robust_generation"
    """Folder of the results."""
    tracking: bool = True
    """Report to MLflow: MLFLOW_TRACKING_URI, or else a database beside the folder of the results."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """The network and its codebooks, the same for every method."""
    train: TrainConfig = field(default_factory=lambda: TrainConfig(epochs=8))
    """Its training; each method sets the membership."""
    prior: PriorConfig = field(default_factory=lambda: PriorConfig(epochs=12))
    """The prior over code grids, the same for every method."""

    def __post_init__(self) -> None:
        if not 0 <= self.rate < 1:
            raise InputError(f"rate={self.rate} is out of range: it must be at least 0 and below 1")
        if self.side is not None:
            check_whole("side", self.side, 8, 256)
        if self.total is not None and self.total < 10:
            raise InputError(f"total={self.total} is out of range: it must be >= 10, or null")
        if self.samples < 10:
            raise InputError(f"samples={self.samples} is out of range: it must be >= 10")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds) or min(self.seeds) < 0:
            raise InputError(f"seed={self.seed} is out of range: give different integers >= 0")
        if self.inliers == self.outliers:
            raise InputError(f"inliers and outliers are both {self.inliers!r}: name two data sets")
        if not self.methods or len(set(self.methods)) < len(self.methods):
            raise InputError(f"methods={list(self.methods)} must name each method once, and at least one")
        if self.train.membership != TrainConfig.membership:
            raise InputError("train.membership is set by each method: choose among the methods instead")

    @property
    def seeds(self) -> list[int]:
        return [self.seed] if isinstance(self.seed, int) else self.seed

    @property
    def passes(self) -> int:
        """Of one method, over its data."""
        return self.train.passes + self.prior.epochs

    @property
    def rows(self) -> tuple[str, ...]:
        """Rows of the table: real images first."""
        return ("real", *self.methods)

    @property
    def identity(self) -> dict[str, Any]:
        """What decides the results."""
        fields = json.loads(json.dumps(asdict(self)))
        return {key: value for key, value in fields.items() if key not in FREE}


def parse(arguments: list[str] | None, description: str) -> Settings:
    """Settings from flags and YAML; InputError for whatever is wrong with them."""
    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    parser = ArgumentParser(
        prog="python -m pipelines.robust_generation",
        description=description,
        formatter_class=RawDescriptionHelpFormatter,
        exit_on_error=False,
    )
    parser.add_argument("--config", action="config", help="YAML file with some of the values below")
    parser.add_class_arguments(Settings)
    try:
        values = parser.instantiate(parser.parse_args(arguments)).as_dict()
    except ArgumentError as error:
        raise InputError(str(error)) from error
    values.pop("config")
    return Settings(**values)
