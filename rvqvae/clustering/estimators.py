"""IMSAT as scikit-learn estimators: clusters, and bits to search by."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import ClassNamePrefixFeaturesOutMixin, ClusterMixin, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from rvqvae.clustering.network import Perceptron
from rvqvae.clustering.objective import Bits, Clusters, Code
from rvqvae.clustering.training import (
    AUGMENTATIONS,
    Scale,
    Settings,
    neighbourhood,
    probabilities,
    train,
)
from rvqvae.devices import usable_device
from rvqvae.errors import InputError, check_number, check_whole
from rvqvae.estimator_base import SampleEstimator
from rvqvae.io.samples import draw_seed
from rvqvae.model_folder import Stored, under
from rvqvae.optimization import generator_of
from rvqvae.progress import Progress, silent

STEPS, MIN_EPOCHS, MAX_EPOCHS = 6000, 10, 200
"""Steps that the default number of epochs makes, and its limits."""


@dataclass(repr=False, eq=False, kw_only=True)
class SelfAugmented(SampleEstimator):
    """What `IMSAT` and `IMSATHash` share.

    Samples are uint8 images (N,H,W), (N,H,W,3) or (N,1|3,H,W), each flattened to one vector, or a float
    matrix (N, d). The mean of the training samples is subtracted, and all columns are divided by one number,
    so that the mean distance to the t-th neighbour is 10: shifting all samples, or multiplying them by one
    number, changes nothing. Columns in different units must be brought to one before, as for k-means.

    A trained network is evaluated in float64, so that batch, order and processor move no probability by more
    than 1e-6.
    """

    hidden: tuple[int, ...] = (1200, 1200)
    augmentations: tuple[str, ...] = ("vat",)
    information: float = 0.1
    radius: float = 0.25
    neighbour: int = 10
    epochs: int | None = None
    batch_size: int = 250
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    random_state: int | np.random.RandomState | None = None
    device: str | None = None
    directory: str | os.PathLike[str] | None = None
    progress: Progress | None = None

    def _code(self) -> Code:
        raise NotImplementedError

    def _outputs(self) -> int:
        raise NotImplementedError

    def _fit(self, X: ArrayLike, distances: ArrayLike | None) -> NDArray[np.float32]:
        """Train; the probabilities (N, outputs) of the training samples."""
        self._check_parameters()
        device, seed = usable_device(self.device), draw_seed(self.random_state)
        samples = self._samples(X, reset=True)
        self._check_samples(samples)
        settings = self._settings(len(samples))
        tell = self.progress or silent
        data = torch.as_tensor(samples).to(device)
        near = neighbourhood(
            data,
            settings.neighbour,
            None if distances is None else _checked(distances, len(data)).to(device),
            lambda done: tell("distances", done, len(data)),
        )
        network = Perceptron(self.n_features_in_, self.hidden, self._outputs(), generator_of(seed, 0)).to(
            device
        )
        self.history_ = train(
            data, near, network, self._code(), settings, seed=seed, directory=self.directory,
            on_epoch=lambda done, _: tell("train", done, settings.epochs),
        )  # fmt: skip
        self.scale_, self.network_ = near.scale, network
        return self._probabilities(samples)

    def _settings(self, n: int) -> Settings:
        epochs = self.epochs
        if epochs is None:
            epochs = min(MAX_EPOCHS, max(MIN_EPOCHS, math.ceil(STEPS / (n // min(self.batch_size, n)))))
        return Settings(
            augmentations=tuple(self.augmentations), information=self.information, radius=self.radius,
            neighbour=self.neighbour, epochs=epochs, batch_size=self.batch_size,
            learning_rate=self.learning_rate, weight_decay=self.weight_decay,
        )  # fmt: skip

    def _probabilities(self, samples: NDArray[Any]) -> NDArray[np.float32]:
        data = torch.as_tensor(np.require(samples, requirements="W"))
        return probabilities(data, self.scale_, self.network_, self._code()).numpy()

    def _stored(self) -> Stored:
        arrays = {f"network.{name}": value for name, value in self.network_.state_dict().items()}
        return Stored(arrays | {"mean": self.scale_.mean}, {"factor": self.scale_.factor})

    def _restore(self, stored: Stored, device: str) -> None:
        mean, factor = stored.arrays["mean"], float(stored.facts["factor"])
        if mean.shape != (self.n_features_in_,) or not 0 < factor < math.inf:
            raise ValueError(f"mean of shape {tuple(mean.shape)}, factor {factor}")
        with torch.device("meta"):
            network = Perceptron(self.n_features_in_, self.hidden, self._outputs())
        network.load_state_dict(under(stored.arrays, "network"), assign=True)
        self.scale_, self.network_ = Scale(mean.to(device), factor), network.to(device).eval()

    def _check_samples(self, samples: NDArray[Any]) -> None:
        """InputError for training samples that the parameters do not fit."""
        if "affine" in self.augmentations and samples.ndim != 4:
            raise InputError("augmentations: 'affine' moves pixels; for a matrix use 'vat' or 'rpt'")

    def _check_parameters(self) -> None:
        fewest = {"neighbour": 1, "batch_size": 2} | ({} if self.epochs is None else {"epochs": 1})
        for name, least in fewest.items():
            check_whole(name, getattr(self, name), least)
        for width in self.hidden:
            check_whole("a width in hidden", width)
        for name in ("information", "radius", "weight_decay"):
            check_number(name, getattr(self, name), 0)
        check_number("learning_rate", self.learning_rate, 0, 1, above=True, below=True)
        given = self.augmentations
        if isinstance(given, str) or len(set(given)) < len(given) or not set(given) <= set(AUGMENTATIONS):
            raise InputError(
                f"augmentations={given!r}: give a tuple of {', '.join(map(repr, AUGMENTATIONS))}, each once"
            )


@dataclass(repr=False, eq=False, kw_only=True)
class IMSAT(ClusterMixin, SelfAugmented):
    """Clusters by information maximising self-augmented training (Hu et al. 2017).

    A perceptron learns to assign samples to clusters so that the assignment says as much as possible of the
    sample, is sure, and does not change when the sample is moved a little, in the worst direction. Clusters
    come out about equally large unless ``balance`` is lowered. Input: see `SelfAugmented`.

    Parameters
    ----------
    n_clusters : number of clusters, at most one for each sample.
    balance : weight of the marginal entropy, mu in the paper; 1 maximises the mutual information, more makes
        the clusters more equal in size.
    hidden : widths of the layers; () is the paper's linear model.
    augmentations : of "vat", "rpt" (random directions in place of adversarial ones) and "affine" (images);
        () is regularised information maximisation without self-augmentation (RIM).
    information : weight of the information against the augmentation, lambda in the paper.
    radius, neighbour : a sample is moved by ``radius`` times its distance to its ``neighbour``-th neighbour.
    epochs : passes; by default as many as make 6,000 steps, from 10 to 200.
    batch_size, learning_rate, weight_decay : of the training, see `Loop`.
    random_state : int, RandomState instance or None.
    device : where the network runs; by default "cuda" if there is one, else "cpu".
    directory : where the training is kept after every epoch; the same fit goes on from there.
    progress : called with stage ("distances", "train"), steps done and steps in all.

    Attributes
    ----------
    labels_ : (N,) int64, cluster of each training sample, from 0.
    network_, scale_ : the perceptron and what it sees; history_ : list of dict, the terms of every epoch.
    """

    n_clusters: int = 10
    balance: float = 4.0

    def fit(self, X: ArrayLike, y: object = None, *, distances: ArrayLike | None = None) -> Self:
        """Learn from images or a float matrix; no labels.

        ``distances`` (N,): to each sample's ``neighbour``-th neighbour, where they are known from an earlier
        fit, as `neighbour_distances` measures them, which takes time that grows with the square of N.
        """
        self.labels_ = self._fit(X, distances).argmax(1).astype(np.int64)
        return self

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float32]:
        """(N, n_clusters) probability of each cluster."""
        check_is_fitted(self)
        return self._probabilities(self._samples(X))

    def predict(self, X: ArrayLike) -> NDArray[np.int64]:
        """(N,) the most probable cluster."""
        return self.predict_proba(X).argmax(1).astype(np.int64)

    def _code(self) -> Clusters:
        return Clusters(self.balance)

    def _outputs(self) -> int:
        return self.n_clusters

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_whole("n_clusters", self.n_clusters)
        check_number("balance", self.balance, 1)

    def _check_samples(self, samples: NDArray[Any]) -> None:
        super()._check_samples(samples)
        if self.n_clusters > len(samples):
            raise InputError(
                f"n_clusters={self.n_clusters} is more than the {len(samples)} samples: ask for fewer"
            )


@dataclass(repr=False, eq=False, kw_only=True)
class IMSATHash(ClassNamePrefixFeaturesOutMixin, TransformerMixin, SelfAugmented):
    """Hash codes by information maximising self-augmented training (Hu et al. 2017).

    Similar samples get bits of small Hamming distance. Input: see `SelfAugmented`; parameters: see `IMSAT`.

    Parameters
    ----------
    n_bits : length of the codes.
    """

    n_bits: int = 16
    hidden: tuple[int, ...] = (400, 400)

    def fit(self, X: ArrayLike, y: object = None, *, distances: ArrayLike | None = None) -> Self:
        """Learn from images or a float matrix; no labels. ``distances`` as in `IMSAT.fit`."""
        self._fit(X, distances)
        return self

    def transform(self, X: ArrayLike) -> NDArray[np.uint8]:
        """(N, n_bits) uint8 of 0 and 1."""
        return (self.predict_proba(X) > 0.5).astype(np.uint8)

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float32]:
        """(N, n_bits) probability that each bit is 1."""
        check_is_fitted(self)
        return self._probabilities(self._samples(X))

    def pack(self, X: ArrayLike) -> NDArray[np.uint8]:
        """(N, ceil(n_bits / 8)) the bits of `transform`, eight in a byte, the first one highest."""
        return np.packbits(self.transform(X), axis=1)

    @property
    def _n_features_out(self) -> int:
        return self.n_bits

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        if tags.transformer_tags is not None:
            tags.transformer_tags.preserves_dtype = []
        return tags

    def _code(self) -> Bits:
        return Bits()

    def _outputs(self) -> int:
        return self.n_bits

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_whole("n_bits", self.n_bits)


def hamming_distances(queries: NDArray[np.uint8], codes: NDArray[np.uint8]) -> NDArray[np.int64]:
    """(Q, N) number of bits in which packed codes (Q, B) and (N, B) differ."""
    if queries.ndim != 2 or codes.ndim != 2 or queries.shape[1] != codes.shape[1]:
        raise InputError(
            f"codes of shape {queries.shape} and {codes.shape} do not fit: give packed codes of one length"
        )
    return np.stack([np.bitwise_count(codes ^ query).sum(1, dtype=np.int64) for query in queries])


def _checked(distances: ArrayLike, n: int) -> torch.Tensor:
    values = torch.as_tensor(np.array(distances, np.float32))
    if values.shape != (n,) or not bool((values.isfinite() & (values >= 0)).all()):
        raise InputError(
            f"distances of shape {tuple(values.shape)} do not fit {n} samples: give one for each, "
            "finite and >= 0"
        )
    return values
