"""Other people's detectors, and our autoencoder family, each with its defaults, none told the rate.

Others' libraries are in the dependency group ``peers``; scikit-learn's are always there.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.covariance import EllipticEnvelope
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import LocalOutlierFactor

from rvqvae import family
from rvqvae.errors import InputError
from rvqvae.features.pretrained import extract_features

Images = NDArray[np.uint8]
Matrix = NDArray[np.floating]
View = Literal["pixels", "features", "components"]
COMPONENTS = 48
"""Principal components of the features: a covariance of all 1280 has no inverse on small sets."""


class Peer(NamedTuple):
    """A detector: what it sees, its score of (N, d) with a seed (higher = more normal), its library."""

    view: View
    score: Callable[[Matrix, int], NDArray]
    library: str = "sklearn"


def _isolation_forest(x: Matrix, seed: int) -> NDArray:
    return IsolationForest(random_state=seed).fit(x).score_samples(x)


def _elliptic_envelope(x: Matrix, seed: int) -> NDArray:
    return EllipticEnvelope(random_state=seed).fit(x).score_samples(x)


def _lof(x: Matrix, seed: int) -> NDArray:
    return LocalOutlierFactor().fit(x).negative_outlier_factor_


def _autoencoder(x: Matrix, seed: int) -> NDArray:
    from pyod.models.auto_encoder import AutoEncoder

    return -AutoEncoder(random_state=seed, verbose=0).fit(x).decision_scores_


def _deep_svdd(x: Matrix, seed: int) -> NDArray:
    from pyod.models.deep_svdd import DeepSVDD

    np.random.seed(seed)  # it shuffles with NumPy's global generator, whatever its random_state
    return -DeepSVDD(n_features=x.shape[1], random_state=seed, verbose=0).fit(x).decision_scores_


def _member(x: Matrix, seed: int, name: str) -> NDArray:
    return member(name, x, seed).score_samples(x)


def _ecod(x: Matrix, seed: int) -> NDArray:
    from pyod.models.ecod import ECOD

    return -ECOD().fit(x).decision_scores_


def _cleanlab(x: Matrix, seed: int) -> NDArray:
    from cleanlab.outlier import OutOfDistribution

    return OutOfDistribution().fit_score(features=x, verbose=False)


PEERS: dict[str, Peer] = {
    "IForest-features": Peer("components", _isolation_forest),
    "IForest-pixels": Peer("pixels", _isolation_forest),
    "MCD": Peer("components", _elliptic_envelope),
    "LOF": Peer("components", _lof),
    "AutoEncoder": Peer("pixels", _autoencoder, "pyod"),
    "DeepSVDD": Peer("pixels", _deep_svdd, "pyod"),
    "ECOD": Peer("pixels", _ecod, "pyod"),
    "cleanlab": Peer("features", _cleanlab, "cleanlab"),
}
OUTSIDE = tuple(PEERS)
FAMILY: dict[str, Callable[..., family.Autoencoder]] = {
    "AE": family.Autoencoder,
    "SparseAE": family.SparseAE,
    "DenoisingAE": family.DenoisingAE,
    "ContractiveAE": family.ContractiveAE,
    "VAE": family.VAE,
    # A quarter of the published widths: a sixteenth of the time.
    "BiGAN": partial(family.BiGAN, hidden=(256, 256), critic=(256, 256)),
    "ALI": partial(family.ALI, hidden=(256, 256), critic=(256, 256)),
    "HardVQVAE": family.HardVQVAE,
    "SoftVQVAE": partial(family.SoftVQVAE, hidden=(512, 256), epochs=20, batch_size=128),
    "PQVAE": family.PQVAE,
}
"""The members that take a matrix."""
PEERS |= {name: Peer("pixels", partial(_member, name=name), "rvqvae") for name in FAMILY}


def require(names: Collection[str]) -> None:
    """Fail before anything is measured if a peer is unknown or its library is not there."""
    for name in names:
        if name not in PEERS:
            raise InputError(f"peers: {name!r} is not one of {', '.join(PEERS)}")
        if find_spec(PEERS[name].library) is None:
            raise InputError(
                f"peers: {name} needs the package {PEERS[name].library}, which is not installed: run "
                "`uv sync --group peers`, or leave it out of --peers (`--peers []` leaves out all)"
            )


def view_of(images: Images, view: View, seed: int = 0) -> Matrix:
    """What a peer sees of the images (N, C, H, W): a row for each."""
    if view == "pixels":
        return images.reshape(len(images), -1) / np.float32(255)
    features = extract_features(images)
    features = features / np.linalg.norm(features, axis=1, keepdims=True)
    if view == "features":
        return features
    return PCA(min(COMPONENTS, len(features) - 1), random_state=seed).fit_transform(features)


def member(name: str, x: Matrix, seed: int) -> family.Autoencoder:
    """One of the family, fitted; on one thread."""
    with _one_thread():
        return FAMILY[name](random_state=seed).fit(x)


def score(name: str, x: Matrix, seed: int) -> NDArray[np.float64]:
    """(N,) what a peer thinks of its view, higher = more normal; on one thread, and quietly."""
    with _one_thread(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # advice about settings that stay at their defaults here
        return np.asarray(PEERS[name].score(x, seed), np.float64)


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
