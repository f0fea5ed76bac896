"""An image as few numbers: autoencoders beside principal components (Hinton and Salakhutdinov 2006)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.manifold import trustworthiness

from pipelines.autoencoders.bench import Bench, Images, Method, Row
from rvqvae.family import Autoencoder

WIDTHS = (1000, 500, 250)
EPOCHS = {2: 4, 30: 20}
NEIGHBOURS, SHOWN = 12, 2000
"""Trustworthiness looks at that many neighbours among that many held-out images; so does the picture."""


def flat(images: Images) -> NDArray[np.float32]:
    return images.reshape(len(images), -1) / np.float32(255)


def squared_error(images: Images, reconstructions: NDArray) -> float:
    """Sum over an image's pixels in [0, 1], mean over images, as in the published figures."""
    return float(np.square(flat(images) - reconstructions).sum(1).mean())


def trust(bench: Bench, name: str, codes: NDArray) -> Row:
    """How far neighbours among the codes are neighbours among the images."""
    images, labels = (part[:SHOWN] for part in bench.test)
    bench.keep(name, codes=codes[:SHOWN], labels=labels)
    found = trustworthiness(flat(images), codes[:SHOWN], n_neighbors=NEIGHBOURS)
    return Row("trustworthiness", float(found))


def components_error(bench: Bench, dimensions: int) -> tuple[float, NDArray]:
    """Error and codes of the held-out images under principal components."""
    pca = PCA(dimensions, random_state=bench.seed).fit(flat(bench.train[0]))
    codes = pca.transform(flat(bench.test[0]))
    return squared_error(bench.test[0], pca.inverse_transform(codes)), codes


def components(bench: Bench, dimensions: int) -> Iterator[Row]:
    error, codes = components_error(bench, dimensions)
    row = Row("squared error", error)
    yield row._replace(published="13.87", low=13.37, high=14.37) if dimensions == 30 else row
    yield trust(bench, f"PCA-{dimensions}", codes)


def autoencoder(bench: Bench, dimensions: int) -> Iterator[Row]:
    model = Autoencoder(latent_dim=dimensions, hidden=WIDTHS, epochs=EPOCHS[dimensions])
    bench.fit(model.set_params(learning_rate=2e-3), bench.train[0])
    error = squared_error(bench.test[0], flat(model.reconstruct(bench.test[0])))
    row = Row("squared error", error)
    if dimensions == 30:
        yield row._replace(published="3.00")
        yield Row("error / that of PCA", error / components_error(bench, dimensions)[0], "0.22", high=0.5)
    else:
        yield row
    yield trust(bench, f"AE-{dimensions}", model.encode(bench.test[0]))


METHODS: dict[str, Method] = {
    f"{name}-{dimensions}": partial(method, dimensions=dimensions)
    for dimensions in (2, 30)
    for name, method in (("PCA", components), ("AE", autoencoder))
}
