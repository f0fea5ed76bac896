"""`RobustVQVAE`: the method as a scikit-learn estimator, for arrays of images and matrices of features."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from numbers import Real
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit
from sklearn.base import OutlierMixin
from sklearn.utils.validation import check_is_fitted

from rvqvae.config import ModelConfig, PriorConfig, Quality, TrainConfig, prior_for, training_for
from rvqvae.detector import Scorer, detect
from rvqvae.devices import usable_device
from rvqvae.errors import InputError, check_number, check_whole
from rvqvae.estimator_base import SampleEstimator
from rvqvae.features.pretrained import Backbone
from rvqvae.io.arrays import release_pages
from rvqvae.io.samples import draw_seed, form_of, in_form
from rvqvae.membership import Membership, cut_at, verdict_of
from rvqvae.model_card import Card
from rvqvae.model_folder import Stored, under
from rvqvae.priors import GatedPixelCNN
from rvqvae.priors.groups import fit_code_prior
from rvqvae.priors.sampling import accepted, draw
from rvqvae.progress import Progress, silent
from rvqvae.questions import Asking, Inquiry
from rvqvae.stored_detector import Codes, restore_detector, store_detector
from rvqvae.vqvae.heat_maps import HeatMaps
from rvqvae.vqvae.inference import decode_codes, inlier_codes
from rvqvae.vqvae.model import TwoCodebookVQVAE
from rvqvae.vqvae.training import fit

FACTS: dict[str, Callable[[Any], Any]] = {
    "contamination_": float,
    "contamination_interval_": lambda ends: tuple(map(float, ends)),
    "verdict_": str,
    "offset_": float,
}
"""What a saved model keeps of the fit, and how each is read back."""
LIMITS = """
- It knows what the majority of its own data looks like: "outlier" means unlike these, not wrong.
- Outliers of the inliers' own kind (another class, small defects) are ranked, rarely called.
- It prefers keeping: without answers many outliers may be called inliers.
- Scores of other sizes, cameras or conversions than those of the data mean little.
"""
FEW = "- It learned from fewer than 100 samples, of which no verdict is given.\n"


class RobustVQVAE(Asking, OutlierMixin, SampleEstimator):
    """Robust VQ-VAE: learns the majority of contaminated data, flags the rest, samples the inliers.

    Parameters
    ----------
    contamination : "auto" or float in [0, 0.5], default "auto"
        Share of outliers; "auto" decides from the data.
    caution : float > 0, default 2.0
        What a thrown-out inlier costs beside an outlier left in: a sample is an outlier where its probability
        is above caution / (1 + caution). Only with "auto".
    features : str or callable, default "efficientnet_lite0"
        What images are compared by, beside their pixels: the embedded network, the name of any timm model
        (may be downloaded), "learned" (from the images themselves), or a function as in `extract_features`.
    epochs : int or None
        Passes over the data; by default as many as show the autoencoder 5,000 images of 64 x 64 (or 25,000 of
        28 x 28, or 100,000 vectors), from 2 to 20. With 0 no network is trained: membership alone, without
        `sample`, `reconstruct` and `anomaly_map`.
    prior_epochs : int or None
        Passes of the PixelCNN that `sample` draws from, which the first `sample` fits; 0 for none; by default
        100,000 grids, 4 to 16.
    quality : "usual" or "best"
        Of new samples. "best" takes more passes, unless they are given, sharpens the decoder of images, lets
        the prior learn from moved copies, and draws eight samples for each, of which a critic takes one.
    batch_size : int or None
        Samples in a step of the autoencoder's training; by default 64, fewer of large images, down to 16.
    learning_rate : of the autoencoder's training, see `TrainConfig`.
    channels, code_dim, inlier_codes, outlier_codes, bottleneck : the networks, see `ModelConfig`.
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
    groups_ : (N,) int64, the group of each training sample.
    embedding_ : (N, d) float32, the training data as they are compared: the joint view.
    contamination_ : float, share of outliers; contamination_interval_ : (low, high), 95 %.
    verdict_ : "clean", "contaminated" or "undecided".
    offset_ : float, the score below which a sample is an outlier; threshold_, the probability above which.
    answers_ : dict, what was answered of them, by id of the question or by row.
    history_ : list of dict, what happened in each epoch.
    """

    def __init__(
        self,
        contamination: float | Literal["auto"] = "auto",
        *,
        caution: float = 2.0,
        features: Backbone = "efficientnet_lite0",
        epochs: int | None = None,
        prior_epochs: int | None = None,
        quality: Quality = "usual",
        batch_size: int | None = None,
        learning_rate: float = 3e-3,
        channels: int = 32,
        code_dim: int = 32,
        inlier_codes: int = 256,
        outlier_codes: int = 128,
        bottleneck: Literal["hard", "soft"] = "hard",
        random_state: int | np.random.RandomState | None = None,
        device: str | None = None,
        directory: str | os.PathLike[str] | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.contamination = contamination
        self.caution = caution
        self.features = features
        self.epochs = epochs
        self.prior_epochs = prior_epochs
        self.quality = quality
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.channels = channels
        self.code_dim = code_dim
        self.inlier_codes = inlier_codes
        self.outlier_codes = outlier_codes
        self.bottleneck = bottleneck
        self.random_state = random_state
        self.device = device
        self.directory = directory
        self.progress = progress

    def fit(self, X: ArrayLike, y: object = None) -> RobustVQVAE:
        """Learn from uint8 images (N,H,W), (N,H,W,3) or (N,1|3,H,W), or a float matrix (N, d); no labels."""
        share, device = _share(self.contamination), usable_device(self.device)
        caution = check_number("caution", self.caution, 0, above=True)
        seed = draw_seed(self.random_state)
        if not (isinstance(self.features, str) or callable(self.features)):
            raise InputError(f"features={self.features!r} is neither a name nor a function: leave it out")
        samples = self._samples(X, reset=True)
        _, train, _ = self._configs(len(samples))
        found = detect(
            samples, contamination=share, caution=caution, backbone=self.features, seed=seed,
            progress=self.progress, device=device,
        )  # fmt: skip
        self._scorer: Scorer = found.scorer
        self.groups_, self.embedding_ = found.judged.groups, found.judged.vectors
        self.scores_ = -found.judged.log_odds
        self.offset_ = -found.cut
        self.inlier_mask_ = self.scores_ >= self.offset_
        self.outlier_probability_ = expit(-self.scores_)
        self.contamination_ = float((~self.inlier_mask_).mean())
        self.contamination_interval_ = found.interval.low, found.interval.high
        self.verdict_ = found.verdict
        self.history_: list[dict[str, float]] = []
        self._seed_, self._learned, self._seen = seed, found.learned, found.seen
        self._model: TwoCodebookVQVAE | None = None
        self._codes: Codes | None = None
        self._prior: GatedPixelCNN | None = None
        self._maps: HeatMaps | None = None
        self._inquire(found.judged)
        return self if train is None else self.train(X)

    def train(self, X: ArrayLike) -> RobustVQVAE:
        """Train the two codebooks on the training data ``X`` of a fit with ``epochs=0``, by its sets.

        With other ``epochs``, `fit` does it. The sets are re-assigned every epoch by what both codebooks say.
        """
        check_is_fitted(self)
        # torch warns of arrays that it may not write to.
        samples = np.require(self._samples(X), requirements="W")
        if len(samples) != len(self.scores_):
            raise InputError(f"{len(samples)} samples, but the fit was of {len(self.scores_)}: give the same")
        model, train, _ = self._configs(len(samples), least=1)
        assert train is not None
        learned, tell = self._learned, self.progress or silent
        few = samples if len(learned) == len(samples) else samples[learned]
        fitted = fit(
            few, model, train, seed=self._seed_, start=Membership(self.offset_ - self.scores_[learned]),
            contamination=_share(self.contamination),
            on_epoch=lambda done, _: tell("train", done, train.passes),
            directory=None if self.directory is None else Path(self.directory),
            device=usable_device(self.device),
        )  # fmt: skip
        self._model, self.history_ = fitted.model, fitted.history
        kept = self.inlier_mask_[learned]
        inliers = few[kept]
        weights = 1 - self.outlier_probability_[learned[kept]]
        self._codes = Codes(inlier_codes(fitted.model, inliers).short(), torch.as_tensor(weights))
        self._prior = None
        if samples.ndim == 4:
            self._maps = HeatMaps.fit(inliers, self._seed_, usable_device(self.device))
        release_pages(samples)
        return self

    def fit_predict(self, X: ArrayLike, y: object = None, **_: object) -> NDArray[np.int64]:
        """Fit; (N,) +1 for inliers and -1 for outliers of the training data, which are scored only once."""
        return np.where(self.fit(X).inlier_mask_, 1, -1)

    def score_samples(self, X: ArrayLike) -> NDArray[np.float64]:
        """(N,) higher = more normal; minus the log odds of being an outlier.

        Batch, order and processor move a score by less than 1e-3 (1e-5 seen), as networks compute in float32.
        """
        check_is_fitted(self)
        return -self._odds(self._samples(X))

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """(N,) `score_samples` less `offset_`: negative for outliers."""
        return self.score_samples(X) - self.offset_

    def predict(self, X: ArrayLike) -> NDArray[np.int64]:
        """(N,) +1 for inliers, -1 for outliers."""
        return np.where(self.decision_function(X) >= 0, 1, -1)

    def outlier_probability(self, X: ArrayLike) -> NDArray[np.float64]:
        """(N,) probability of being an outlier; above `threshold_` where `predict` says -1."""
        return np.asarray(expit(-self.score_samples(X)))

    @property
    def threshold_(self) -> float:
        """The outlier probability above which a sample is an outlier."""
        return float(expit(-self.offset_))

    def set_contamination(self, contamination: float) -> RobustVQVAE:
        """As if fitted with this share of outliers, but nothing is retrained: the threshold moves."""
        check_is_fitted(self)
        share = _share(contamination)
        if share is None:
            raise InputError("contamination='auto' needs the data: fit again, or give a share from 0 to 0.5")
        self.contamination = share
        self.offset_ = -cut_at(-self.scores_, share)
        self.inlier_mask_ = self.scores_ >= self.offset_
        self.contamination_ = float((~self.inlier_mask_).mean())
        self.contamination_interval_ = (share, share)
        self.verdict_ = verdict_of(self.contamination_interval_, len(self.scores_), self._seen)
        if self.answers_:
            self._heed()
        return self

    def sample(
        self,
        n: int,
        random_state: int | np.random.RandomState | None = None,
        *,
        temperature: float = 1.0,
        top_p: float = 1.0,
        like: ArrayLike | None = None,
        max_outlier_probability: float | None = None,
    ) -> NDArray[Any]:
        """``n`` new inliers, in the layout and dtype of the training data.

        ``temperature`` and ``top_p`` as in `GatedPixelCNN.sample`: below 1 purer and less varied. ``like``: a
        sample, in the form of the training data, whose groups all are drawn from (`groups_of`).
        ``max_outlier_probability``: as in `accepted`.
        """
        check_is_fitted(self)
        seed = self._seed_ if random_state is None else draw_seed(random_state)
        shown = None if like is None else self._samples(np.asarray(like)[None])[0]
        drawing = partial(
            draw,
            self._trained("sample"),
            self._fitted_prior(),
            like=shown,
            temperature=temperature,
            top_p=top_p,
        )
        drawn = accepted(drawing, self._probability, n, max_outlier_probability, seed)
        return in_form(drawn, self.layout_, self.dtype_)

    def reconstruct(self, X: ArrayLike) -> NDArray[Any]:
        """Each sample as the inliers' codebook can express it, in the layout and dtype of ``X``."""
        check_is_fitted(self)
        model = self._trained("reconstruct")
        decoded = decode_codes(model, inlier_codes(model, self._samples(X))).numpy()
        return in_form(decoded, *form_of(X))

    def anomaly_map(self, X: ArrayLike) -> NDArray[np.float32]:
        """(N, H, W) evidence per pixel >= 0, above 1 where an inlier rarely is (`HeatMaps`). Images only."""
        check_is_fitted(self)
        samples = self._samples(X)
        if samples.ndim != 4:
            raise InputError(f"samples of shape {samples.shape} have no pixels: anomaly_map is for images")
        self._trained("anomaly_map")
        assert self._maps is not None
        return self._maps(samples)

    def _card(self) -> Card:
        low, high = self.contamination_interval_
        rows = sum(isinstance(key, int) for key in self.answers_)
        rate = f"95 % interval {low:.1%} to {high:.1%}" if low < high else "the rate that was given"
        sections = {
            "Verdict": f"{self.verdict_}: {self.contamination_:.1%} of {len(self.scores_):,} samples do not "
            f"belong ({rate}). A sample is an outlier where its probability is above {self.threshold_:.3f}. "
            f"People answered about {len(self.answers_) - rows:,} groups and {rows:,} samples.",
            "Limits": LIMITS + FEW * (len(self.scores_) < 100),
        }
        card = super()._card()
        does = "scores samples, draws heat maps and makes new inliers" if self._model else "scores samples"
        what = f"{card.what} It {does}. On files: `rvqvae score FOLDER IMAGES --out scores.csv`."
        return card._replace(what=what, sections=sections)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_scorer")

    def _stored(self) -> Stored:
        arrays, facts = store_detector(self._scorer, self._model, self._prior, self._codes, self._maps)
        facts |= {name: getattr(self, name) for name in FACTS} | {"seed": self._seed_}
        asked, answered = self.inquiry_.stored()
        arrays |= {f"asked.{name}": array for name, array in asked.items()}
        return Stored(arrays, facts | {"seen": self._seen, "answered": answered})

    def _restore(self, stored: Stored, device: str) -> None:
        found = restore_detector(stored, self.shape_, device)
        self._scorer, self._model, self._prior, self._codes, self._maps = found
        for name, read in FACTS.items():
            setattr(self, name, read(stored.facts[name]))
        self._seed_, self._seen = int(stored.facts["seed"]), float(stored.facts["seen"])
        asked = Stored(under(stored.arrays, "asked"), stored.facts["answered"])
        self._inquiry = Inquiry.restored(asked, self._scorer.evidence.view.parts[-1].stop)
        self._follow()

    def _probability(self, samples: NDArray[Any]) -> NDArray[np.float64]:
        """(N,) of being an outlier, of samples as the networks take them."""
        return np.asarray(expit(self._odds(samples)))

    def _trained(self, wanted: str) -> TwoCodebookVQVAE:
        if self._model is None:
            raise InputError(
                f"{wanted} needs the networks, which this model was fitted without (epochs=0, --no-train): "
                "call train, or give the same clean without --no-train"
            )
        return self._model

    def fit_prior(self) -> bool:
        """Fit the prior over the inliers' codes, unless it was; returns whether there was something to do.

        `sample` calls it. Save the model afterwards to keep the prior.
        """
        fitted = self._prior is not None
        self._fitted_prior()
        return not fitted

    def _fitted_prior(self) -> GatedPixelCNN:
        if self._prior is None:
            model, codes = self._trained("sample"), self._codes
            config = None if codes is None else self._configs(len(codes.grids))[2]
            if codes is None or config is None:
                raise InputError("sample needs a prior, which prior_epochs=0 leaves out: fit with another")
            tell = self.progress or silent
            self._prior = fit_code_prior(
                model, codes.grids.long(), config, seed=self._seed_, weights=codes.weights,
                on_epoch=lambda done, _: tell("prior", done, config.epochs),
                device=usable_device(self.device),
            )  # fmt: skip
        return self._prior

    def _configs(self, n: int, least: int = 0) -> tuple[ModelConfig, TrainConfig | None, PriorConfig | None]:
        """For ``n`` samples; no training with ``epochs=0``, but where at ``least`` one epoch is wanted."""
        model = ModelConfig(
            channels=check_whole("channels", self.channels), code_dim=check_whole("code_dim", self.code_dim),
            inlier_codes=check_whole("inlier_codes", self.inlier_codes),
            outlier_codes=check_whole("outlier_codes", self.outlier_codes), bottleneck=self.bottleneck,
        )  # fmt: skip
        epochs = None if self.epochs is None else check_whole("epochs", self.epochs, 0)
        passes = None if self.prior_epochs is None else check_whole("prior_epochs", self.prior_epochs, 0)
        train = training_for(self.quality, n, self.shape_, epochs or None)
        rate = check_number("learning_rate", self.learning_rate, 0, 1, above=True)
        batch = train.batch_size if self.batch_size is None else check_whole("batch_size", self.batch_size)
        train = replace(train, batch_size=batch, learning_rate=rate)
        prior = None if passes == 0 else prior_for(self.quality, n, passes)
        return model, None if epochs == 0 and not least else train, prior


def _share(contamination: object) -> float | None:
    """None for "auto"."""
    if isinstance(contamination, str) and contamination == "auto":
        return None
    if isinstance(contamination, Real) and 0 <= float(contamination) <= 0.5:
        return float(contamination)
    raise InputError(f"contamination={contamination!r} is out of range: it must be 'auto' or from 0 to 0.5")
