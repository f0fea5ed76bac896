"""New digits from every member that can draw them: distance of their features from those of held-out ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from pipelines.autoencoders.bench import Bench, Images, Method, Row
from pipelines.autoencoders.features import fit_adversarial
from pipelines.autoencoders.likelihood import binarised, fit_pixelcnn
from rvqvae.family import ALI, VAE, Autoencoder, BiGAN, DeepFeatureVAE
from rvqvae.features.pretrained import extract_features
from rvqvae.metrics import frechet_distance

DRAWN, SHOWN = 1000, 32


def distance(bench: Bench, name: str, images: Images, reference: Images) -> Row:
    """FD (features) of as many held-out images; the first few are kept for the picture."""
    bench.keep(f"samples {name}", images=images[:SHOWN, None])
    features = [extract_features(part[:DRAWN, None]) for part in (reference, images)]
    return Row("FD (features)", frechet_distance(*features))


def real(bench: Bench) -> Iterator[Row]:
    """Training images in the place of samples: what no model should beat."""
    yield distance(bench, "real", bench.train[0][:DRAWN], bench.test[0])


def real_binary(bench: Bench) -> Iterator[Row]:
    yield distance(bench, "real, binary", binarised(bench.train[0][:DRAWN]), binarised(bench.test[0], 1))


def drawn(
    bench: Bench, name: str, fit: Callable[[Bench], Autoencoder], binary: bool = False
) -> Iterator[Row]:
    model = bench.once(name, lambda: fit(bench))
    reference = binarised(bench.test[0], 1) if binary else bench.test[0]
    yield distance(bench, name, model.sample(DRAWN, bench.seed), reference)


def vae(bench: Bench) -> VAE:
    return bench.fit(VAE(channels=16, latent_dim=20, likelihood="bernoulli", epochs=3), bench.train[0])


def deep(bench: Bench) -> DeepFeatureVAE:
    return bench.fit(DeepFeatureVAE(channels=16, latent_dim=20, epochs=2), bench.train[0])


METHODS: dict[str, Method] = {"real": real, "real, binary": real_binary}
METHODS |= {
    "VAE": partial(drawn, name="convolutional VAE", fit=vae),
    "DeepFeatureVAE": partial(drawn, name="DeepFeatureVAE", fit=deep),
    "BiGAN": partial(drawn, name="BiGAN", fit=partial(fit_adversarial, member=BiGAN)),
    "ALI": partial(drawn, name="ALI", fit=partial(fit_adversarial, member=ALI)),
    "PixelCNNVAE": partial(drawn, name="PixelCNNVAE", fit=fit_pixelcnn, binary=True),
}
