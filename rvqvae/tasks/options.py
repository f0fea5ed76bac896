"""What can be set when images are read and a model is fitted to them (standard library only)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rvqvae.errors import InputError

if TYPE_CHECKING:
    from rvqvae.estimator import RobustVQVAE

Progress = Callable[[str, int, int], None]
"""Called with the stage, the number of steps done, and their total."""
Copy = Literal["copy", "link"]


@dataclass(frozen=True)
class FitOptions:
    """How the images are read and the model is fitted."""

    size: int | None = None
    """Height and width in pixels to read the images at, 8 to 256; by default their own if all have one of
    up to 64 pixels, else 64."""
    contamination: float | Literal["auto"] = "auto"
    """Share of the images that do not belong, above 0 and at most 0.5, or auto to estimate it."""
    features: str = "efficientnet_lite0"
    """Network whose features tell images apart; any timm model, whose weights are then downloaded."""
    epochs: int | None = None
    """Passes over the images; by default the estimator's own."""
    prior_epochs: int | None = None
    """Passes over the kept images' codes, for sampling; by default the estimator's own."""
    batch_size: int | None = None
    """Images per training step; by default the estimator's own."""
    seed: int = 0
    """Equal seeds give equal results."""
    device: str | None = None
    """cpu or cuda; by default the GPU if there is one."""
    workers: int | None = None
    """Threads that decode images; by default one per core."""

    def __post_init__(self) -> None:
        rate = self.contamination
        if rate != "auto" and not (isinstance(rate, float) and 0 < rate <= 0.5):
            raise InputError(
                f"contamination={rate!r} is out of range: outliers / total must be above 0 and at most 0.5, "
                "or 'auto'"
            )
        if self.seed < 0:
            raise InputError(f"seed={self.seed} is out of range: it must be >= 0")
        for name in ("epochs", "prior_epochs", "batch_size", "workers"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise InputError(f"{name}={value} is out of range: it must be >= 1")

    @property
    def identity(self) -> dict[str, Any]:
        """What decides the results."""
        return {name: value for name, value in asdict(self).items() if name not in ("device", "workers")}

    def estimator(self, directory: Path, progress: Progress | None) -> RobustVQVAE:
        """An estimator that keeps its training state in `directory`."""
        from rvqvae.estimator import RobustVQVAE

        given = {name: getattr(self, name) for name in ("epochs", "prior_epochs", "batch_size")}
        return RobustVQVAE(
            self.contamination,
            features=self.features,
            random_state=self.seed,
            device=self.device,
            directory=directory,
            progress=progress,
            **{name: value for name, value in given.items() if value is not None},
        )
