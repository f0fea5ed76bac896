"""What frozen codes are good for: a linear classifier with few and all labels, one neighbour, k-means."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pipelines.autoencoders.bench import Bench, Images, Method, Row
from rvqvae.clustering import IMSAT
from rvqvae.family import ALI, VAE, Autoencoder, BiGAN, ContractiveAE, DenoisingAE, SparseAE
from rvqvae.metrics.clustering import clustering_accuracy, clustering_nmi

Embed = Callable[[Images], NDArray]
LABELS = (100, 1000)


def pixels(images: Images) -> NDArray[np.float32]:
    return images.reshape(len(images), -1) / np.float32(255)


# Classification ----------------------------------------------------------------------------------------


def labelled(labels: NDArray, n: int, seed: int) -> NDArray[np.int64]:
    """Rows of ``n`` samples, as many of each class."""
    rng = np.random.default_rng(seed)
    return np.concatenate(
        [rng.choice(np.flatnonzero(labels == c), n // 10, replace=False) for c in range(10)]
    )


def probe(bench: Bench, embed: Embed) -> Iterator[Row]:
    """Held-out accuracy of logistic regression on standardised codes."""
    (images, labels), (new, truth) = bench.train, bench.test
    codes, held_out = embed(images), embed(new)
    for n in (*LABELS, None):
        rows = np.arange(len(labels)) if n is None else labelled(labels, n, bench.seed)
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=200, tol=1e-3))
        accuracy = model.fit(codes[rows], labels[rows]).score(held_out, truth)
        yield Row(f"accuracy, {'all' if n is None else f'{n:,}'} labels", float(accuracy))


def member(name: str, make: Callable[[], Autoencoder]) -> Method:
    def method(bench: Bench) -> Iterator[Row]:
        model = bench.once(f"codes of {name}", lambda: bench.fit(make(), bench.train[0]))
        yield from probe(bench, model.encode)

    return method


WIDE = {"hidden": (1000,), "latent_dim": 500, "epochs": 6}
CODERS: dict[str, Callable[[], Autoencoder]] = {
    "AE": lambda: Autoencoder(**WIDE),
    "SparseAE": lambda: SparseAE(latent_dim=500, epochs=10),
    "DenoisingAE": lambda: DenoisingAE(**WIDE),
    "ContractiveAE": lambda: ContractiveAE(latent_dim=500, epochs=10),
    "VAE": lambda: VAE(hidden=(400,), latent_dim=40, likelihood="bernoulli", epochs=10),
}


def denoising(bench: Bench) -> Iterator[Row]:
    """Beside its own numbers, by how much it beats the plain one with all labels."""
    found = {name: list(member(name, CODERS[name])(bench)) for name in ("AE", "DenoisingAE")}
    yield from found["DenoisingAE"]
    gain = found["DenoisingAE"][-1].value - found["AE"][-1].value
    yield Row("accuracy less the plain AE's", gain, "", low=0)


CLASSIFICATION: dict[str, Method] = {"pixels": partial(probe, embed=pixels)}
CLASSIFICATION |= {name: member(name, make) for name, make in CODERS.items()}
CLASSIFICATION["DenoisingAE"] = denoising


# Bidirectional adversarial members ---------------------------------------------------------------------

EPOCHS: dict[type[BiGAN], int] = {BiGAN: 12, ALI: 12}


def neighbour(bench: Bench, embed: Embed) -> float:
    (images, labels), (new, truth) = bench.train, bench.test
    return float(KNeighborsClassifier(1).fit(embed(images), labels).score(embed(new), truth))


def fit_adversarial(bench: Bench, member: type[BiGAN]) -> BiGAN:
    """The published widths, for a small share of the published 400 epochs."""
    return bench.fit_rounded(member(epochs=EPOCHS[member]), bench.train[0])


def untrained(bench: Bench) -> Iterator[Row]:
    """What the encoder's random start is worth: as much of the figure is no merit of the training."""
    model = BiGAN(epochs=1, learning_rate=1e-12, random_state=bench.seed).fit(bench.train[0][:2000])
    yield Row("1-NN accuracy, codes", neighbour(bench, model.encode))
    yield Row("1-NN accuracy, features", neighbour(bench, model.features))


def adversarial(bench: Bench, member: type[BiGAN]) -> Iterator[Row]:
    model = bench.once(member.__name__, lambda: fit_adversarial(bench, member))
    published = "0.974" if member is BiGAN else ""
    yield Row("1-NN accuracy, codes", neighbour(bench, model.encode))
    yield Row("1-NN accuracy, features", neighbour(bench, model.features), published, low=0.95)


NEIGHBOUR: dict[str, Method] = {
    "pixels": lambda bench: [Row("1-NN accuracy", neighbour(bench, pixels))],
    "untrained BiGAN": untrained,
    "BiGAN": partial(adversarial, member=BiGAN),
    "ALI": partial(adversarial, member=ALI),
}


# Clustering --------------------------------------------------------------------------------------------


def agreement(bench: Bench, clusters: NDArray, accuracy: str = "", nmi: str = "") -> list[Row]:
    labels = bench.train[1]
    return [
        Row("clustering accuracy", clustering_accuracy(labels, clusters), accuracy),
        Row("NMI", clustering_nmi(labels, clusters), nmi),
    ]


def k_means(bench: Bench, codes: NDArray) -> NDArray:
    return KMeans(10, n_init=10, random_state=bench.seed).fit_predict(codes)


def clustered_pixels(bench: Bench) -> list[Row]:
    return agreement(bench, k_means(bench, pixels(bench.train[0])), "0.53", "0.50")


def clustered_codes(bench: Bench) -> list[Row]:
    model = Autoencoder(hidden=(500, 500, 2000), latent_dim=10, epochs=6)
    return agreement(
        bench, k_means(bench, bench.fit(model, bench.train[0]).encode(bench.train[0])), "0.88", "0.81"
    )


def imsat(bench: Bench) -> list[Row]:
    model = IMSAT(random_state=bench.seed, epochs=bench.epochs or 4)
    return agreement(bench, model.fit_predict(bench.train[0]), "0.984")


CLUSTERING: dict[str, Method] = {
    "k-means on pixels": clustered_pixels,
    "k-means on AE codes": clustered_codes,
    "IMSAT": imsat,
}
