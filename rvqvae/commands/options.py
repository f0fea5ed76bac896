"""What can be set when images are read and a model is fitted to them (standard library only)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from rvqvae.config import Quality
from rvqvae.devices import usable_device
from rvqvae.errors import InputError, check_choice, check_whole
from rvqvae.progress import Progress

if TYPE_CHECKING:
    from rvqvae.estimator import RobustVQVAE


@dataclass(frozen=True)
class FitOptions:
    """How the images are read and the model is fitted; a command that takes one has a flag for each field."""

    size: int | None = None
    """Height and width in pixels to read the images at, 8 to 256; by default their own if all have one of
    up to 64 pixels, else 64."""
    contamination: float | Literal["auto"] = "auto"
    """Share of the images that do not belong, from 0 to 0.5, or auto to estimate it."""
    caution: float = 2.0
    """What a thrown-out inlier costs beside an outlier left in; not with a given contamination."""
    features: str = "efficientnet_lite0"
    """What images are compared by: the embedded network, learned (from the images themselves), the name of
    any timm model, whose weights are then downloaded, or a .safetensors file of one."""
    epochs: int | None = None
    """Passes over the images; by default as many as show 5,000 images of 64 x 64, from 2 to 20; 0 trains no
    network."""
    prior_epochs: int | None = None
    """Passes over what the kept images are made of, when they are first sampled; 0 leaves sampling out; by
    default 16, fewer above 6,250 images, down to 4."""
    quality: Quality = "usual"
    """Of new images: usual, or best, which trains four times as long, sharpens, and takes one of eight."""
    batch_size: int | None = None
    """Images per training step; by default 64, fewer of more than 32 x 32 pixels, down to 16."""
    seed: int = 0
    """Equal seeds give equal results."""
    device: str | None = None
    """cpu or cuda; by default the GPU if there is one."""
    workers: int | None = None
    """Threads that decode images; by default one per core."""

    def __post_init__(self) -> None:
        rate = self.contamination
        if rate != "auto" and not 0 <= rate <= 0.5:
            raise InputError(f"contamination={rate!r} is out of range: it must be 'auto' or from 0 to 0.5")
        check_choice("quality", self.quality, get_args(Quality))
        lowest = {"seed": 0, "epochs": 0, "prior_epochs": 0, "batch_size": 1, "workers": 1}
        for name, limit in lowest.items():
            if (value := getattr(self, name)) is not None:
                check_whole(name, value, limit)

    @property
    def identity(self) -> dict[str, Any]:
        """What decides the results."""
        return {name: value for name, value in asdict(self).items() if name not in ("device", "workers")}

    def check_features(self) -> None:
        """InputError for a network that cannot be had: before the images are read, which may take long."""
        if self.features not in (type(self).features, "learned"):
            from rvqvae.features.pretrained import named_backbone

            named_backbone(self.features)

    def estimator(self, directory: Path, progress: Progress) -> RobustVQVAE:
        """An estimator that keeps its training state in `directory`."""
        from rvqvae.estimator import RobustVQVAE

        usable_device(self.device)
        return RobustVQVAE(
            self.contamination,
            caution=self.caution,
            features=self.features,
            epochs=self.epochs,
            prior_epochs=self.prior_epochs,
            quality=self.quality,
            batch_size=self.batch_size,
            random_state=self.seed,
            device=self.device,
            directory=directory,
            progress=progress,
        )


DEFAULTS = FitOptions()
