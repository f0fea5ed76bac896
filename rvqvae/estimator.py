"""`RobustVQVAE`: all of it as a scikit-learn estimator, for arrays of images and matrices of features."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from rvqvae.config import ModelConfig, PriorConfig, TrainConfig
from rvqvae.detector import Progress, Scorer, detect
from rvqvae.errors import InputError
from rvqvae.features import Backbone
from rvqvae.images import as_nchw, from_nchw, layout_of
from rvqvae.inference import decode_codes, error_maps, inlier_codes
from rvqvae.priors import GatedPixelCNN, fit_prior
from rvqvae.store import Stored, load_model, save_model

FACTS = ("contamination_", "contamination_interval_", "verdict_", "offset_", "layout_", "n_features_in_")


class RobustVQVAE(OutlierMixin, BaseEstimator):
    """Robust VQ-VAE: learns the majority of contaminated data, flags the rest, samples the inliers.

    Parameters
    ----------
    contamination : "auto" or float in [0, 0.5], default "auto"
        Share of outliers; "auto" decides from the data.
    features : str or callable, default "efficientnet_lite0"
        What images are compared by, beside their pixels: the embedded network, the name of any timm model
        (may be downloaded), "learned" (from the images themselves), or a function as in `extract_features`.
    epochs, batch_size, learning_rate : training of the autoencoder, see `TrainConfig`.
    prior_epochs : int, default 10
        Training of the PixelCNN that `sample` draws from; 0 leaves it out.
    channels, code_dim, inlier_codes, outlier_codes : the networks, see `ModelConfig`.
    random_state : int, RandomState instance or None
        With an int, the same data give the same model and the same samples.
    device : str or None
        Where the networks run, such as "cuda"; by default "cuda" if there is one, else "cpu".
    directory : path or None
        Folder that keeps the state of the training: the same fit, cut short, goes on from there.
    progress : callable or None
        Called with stage, steps done and steps in all.

    Attributes
    ----------
    scores_ : (N,) float64, `score_samples` of the training data.
    outlier_probability_ : (N,) float64, of the training data.
    inlier_mask_ : (N,) bool.
    contamination_ : float, share of outliers; contamination_interval_ : (low, high), 95 %.
    verdict_ : "clean", "contaminated" or "undecided".
    offset_ : float, the score below which a sample is an outlier.
    history_ : list of dict, what happened in each epoch.
    """

    def __init__(
        self,
        contamination: float | Literal["auto"] = "auto",
        *,
        features: Backbone = "efficientnet_lite0",
        epochs: int = 20,
        prior_epochs: int = 10,
        batch_size: int = 64,
        learning_rate: float = 3e-3,
        channels: int = 32,
        code_dim: int = 32,
        inlier_codes: int = 256,
        outlier_codes: int = 128,
        random_state: int | np.random.RandomState | None = None,
        device: str | None = None,
        directory: str | os.PathLike[str] | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.contamination = contamination
        self.features = features
        self.epochs = epochs
        self.prior_epochs = prior_epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.channels = channels
        self.code_dim = code_dim
        self.inlier_codes = inlier_codes
        self.outlier_codes = outlier_codes
        self.random_state = random_state
        self.device = device
        self.directory = directory
        self.progress = progress

    def fit(self, X: ArrayLike, y: object = None) -> RobustVQVAE:
        """Learn from uint8 images (N,H,W), (N,H,W,3) or (N,1|3,H,W), or a float matrix (N, d); no labels."""
        model, train = self._configs()
        contamination = None if self.contamination == "auto" else self._checked_contamination()
        samples = self._samples(X, reset=True)
        seed = self._seed()
        found = detect(
            samples, model, train, contamination=contamination, backbone=self.features, seed=seed,
            directory=None if self.directory is None else Path(self.directory),
            progress=self.progress, device=self._device(),
        )  # fmt: skip
        self._scorer: Scorer = found.scorer
        self.scores_ = -found.log_odds
        self.offset_ = -found.cut
        self.inlier_mask_ = ~found.is_outlier
        self.outlier_probability_ = expit(found.log_odds - found.cut)
        self.contamination_ = float(found.is_outlier.mean())
        self.contamination_interval_ = found.interval
        self.verdict_ = found.verdict
        self.history_ = found.history
        self.metadata_: dict[str, Any] = {}
        self._seed_ = seed
        self._prior = self._fit_prior(samples[self.inlier_mask_], seed) if self.prior_epochs else None
        return self

    def score_samples(self, X: ArrayLike) -> NDArray[np.float64]:
        """(N,) higher = more normal; minus the log odds of being an outlier."""
        check_is_fitted(self)
        return -self._scorer.log_odds(self._samples(X))

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """(N,) `score_samples` less `offset_`: negative for outliers."""
        return self.score_samples(X) - self.offset_

    def predict(self, X: ArrayLike) -> NDArray[np.int64]:
        """(N,) +1 for inliers, -1 for outliers."""
        return np.where(self.decision_function(X) >= 0, 1, -1)

    def outlier_probability(self, X: ArrayLike) -> NDArray[np.float64]:
        """(N,) probability of being an outlier; above 0.5 where `predict` says -1."""
        return np.asarray(expit(-self.decision_function(X)))

    def set_contamination(self, contamination: float) -> RobustVQVAE:
        """Move the threshold so that this share of the training data are outliers; nothing is retrained."""
        check_is_fitted(self)
        self.contamination = contamination
        share = self._checked_contamination()
        ordered = np.sort(self.scores_)
        k = round(share * len(ordered))
        self.offset_ = float(
            ordered[0] if k == 0 else (ordered[k - 1] + ordered[min(k, len(ordered) - 1)]) / 2
        )
        self.inlier_mask_ = self.scores_ >= self.offset_
        self.outlier_probability_ = expit(self.offset_ - self.scores_)
        self.contamination_ = float((~self.inlier_mask_).mean())
        return self

    def sample(
        self,
        n: int,
        random_state: int | np.random.RandomState | None = None,
        *,
        temperature: float = 1.0,
        top_p: float = 1.0,
    ) -> NDArray[Any]:
        """``n`` new inliers, in the layout and dtype of the training data.

        ``temperature`` and ``top_p`` as in `GatedPixelCNN.sample`: below 1 purer and less varied.
        """
        check_is_fitted(self)
        if self._prior is None:
            raise InputError(
                "prior_epochs=0: this model has no prior to sample from; fit it with prior_epochs=10"
            )
        seed = self._seed_ if random_state is None else _draw_seed(random_state)
        model = self._scorer.model
        codes = self._prior.sample(n, model.grid, seed=seed, temperature=temperature, top_p=top_p)
        return self._like_training(decode_codes(model, codes).numpy())

    def reconstruct(self, X: ArrayLike) -> NDArray[Any]:
        """Each sample as the inliers' codebook can express it, in the layout and dtype of ``X``."""
        check_is_fitted(self)
        model = self._scorer.model
        decoded = decode_codes(model, inlier_codes(model, self._samples(X))).numpy()
        return self._like_training(decoded)

    def anomaly_map(self, X: ArrayLike) -> NDArray[np.float32]:
        """(N, H, W) evidence per pixel >= 0: how badly the inliers' codebook expresses it. Images only."""
        check_is_fitted(self)
        samples = self._samples(X)
        if samples.ndim != 4:
            raise InputError(f"samples of shape {samples.shape} have no pixels: anomaly_map is for images")
        return error_maps(self._scorer.model, samples)

    def save(self, path: str | os.PathLike[str], metadata: dict[str, Any] | None = None) -> None:
        """Write the folder ``path``: safetensors and JSON; ``metadata`` (plain values) comes back with it."""
        check_is_fitted(self)
        plain = {k: v for k, v in self.get_params().items() if isinstance(v, str | int | float | None)}
        facts = {
            "params": plain,
            "fitted": {name: getattr(self, name) for name in FACTS},
            "seed": self._seed_,
            "metadata": self.metadata_ | (metadata or {}),
        }
        save_model(Path(path), Stored(self._scorer, self._prior, self._configs_prior(), facts))

    @classmethod
    def load(cls, path: str | os.PathLike[str], device: str | None = None) -> RobustVQVAE:
        """The model that `save` wrote. Training scores and history are not kept with it."""
        where = device or ("cuda" if torch.cuda.is_available() else "cpu")
        stored = load_model(Path(path), where)
        try:
            model = cls(**stored.facts["params"] | {"device": device})
            for name in FACTS:
                value = stored.facts["fitted"][name]
                setattr(model, name, tuple(value) if isinstance(value, list) else value)
            model._seed_, model.metadata_ = stored.facts["seed"], stored.facts["metadata"]
        except (KeyError, TypeError) as error:
            raise InputError(f"{path} is not a complete model ({error}); train or save it again") from error
        model._scorer, model._prior = stored.scorer, stored.prior
        return model

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_scorer")

    def _samples(self, X: ArrayLike, reset: bool = False) -> NDArray[Any]:
        """As uint8 (N,C,H,W) or float32 (N,d), of the kind that the model was trained on."""
        if getattr(X, "ndim", 2) in (3, 4):
            images = as_nchw(X)
            if reset:
                self.layout_: str = layout_of(X)
                self.n_features_in_ = int(np.prod(images.shape[1:]))
            elif images.shape[1:] != self._scorer.model.shape:
                raise InputError(
                    f"images of shape (C, H, W) = {images.shape[1:]} do not fit this model, "
                    f"which was trained on {self._scorer.model.shape}: resize or convert them"
                )
            return images
        vectors = validate_data(self, X, dtype=np.float32, reset=reset, ensure_min_samples=2 if reset else 1)
        if reset:
            self.layout_ = "vectors"
        elif self.layout_ != "vectors":
            raise InputError(
                f"this model was trained on images of shape {self._scorer.model.shape}: give images"
            )
        return vectors

    def _like_training(self, samples: NDArray[Any]) -> NDArray[Any]:
        return samples if self.layout_ == "vectors" else from_nchw(samples, self.layout_)  # type: ignore[arg-type]

    def _fit_prior(self, inliers: NDArray[Any], seed: int) -> GatedPixelCNN:
        model, epochs = self._scorer.model, self.prior_epochs
        tell = self.progress or (lambda *_: None)
        return fit_prior(
            inlier_codes(model, inliers), model.config.inlier_codes, self._configs_prior(), seed=seed,
            report=lambda epoch, _: tell("prior", epoch + 1, epochs), device=self._device(),
        )  # fmt: skip

    def _configs(self) -> tuple[ModelConfig, TrainConfig]:
        model = ModelConfig(
            channels=self.channels, code_dim=self.code_dim, inlier_codes=self.inlier_codes,
            outlier_codes=self.outlier_codes,
        )  # fmt: skip
        train = TrainConfig(epochs=self.epochs, batch_size=self.batch_size, learning_rate=self.learning_rate)
        return model, train

    def _configs_prior(self) -> PriorConfig:
        return PriorConfig(epochs=max(1, self.prior_epochs))

    def _checked_contamination(self) -> float:
        share = self.contamination
        if isinstance(share, str) or not 0 <= share <= 0.5:
            raise InputError(f"contamination={share!r} is out of range: it must be 'auto' or from 0 to 0.5")
        return float(share)

    def _device(self) -> str:
        return self.device or ("cuda" if torch.cuda.is_available() else "cpu")

    def _seed(self) -> int:
        return _draw_seed(self.random_state)


def _draw_seed(random_state: int | np.random.RandomState | None) -> int:
    if isinstance(random_state, int | np.integer):
        return int(random_state)
    return int(check_random_state(random_state).randint(2**31 - 1))
