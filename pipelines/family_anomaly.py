"""One digit is normal, the other nine are not: AUROC on the held-out digits, by reconstruction error."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from sklearn.metrics import roc_auc_score

from pipelines.family_bench import Bench, Method, Row
from rvqvae.family import VAE, Autoencoder

PUBLISHED = (0.976, 0.983, 0.854, 0.867, 0.865, 0.782, 0.946, 0.923, 0.865, 0.904)
"""A convolutional autoencoder with a code of 32 and 150 epochs, digits 0 to 9 (Ruff et al. 2018, table 1)."""
WITHIN = 0.02


def one_class(make: Callable[[], Autoencoder], targets: bool) -> Method:
    def method(bench: Bench) -> Iterator[Row]:
        (images, labels), (new, truth) = bench.train, bench.test
        found = []
        for digit, published in enumerate(PUBLISHED):
            model = bench.fit(make(), images[labels == digit])
            found.append(float(roc_auc_score(truth == digit, model.score_samples(new))))
            row = Row(f"AUROC, digit {digit}", found[-1])
            if targets:
                row = row._replace(
                    published=f"{published:.3f}", low=published - WITHIN, high=published + WITHIN
                )
            yield row
        yield Row("AUROC, mean", float(np.mean(found)), f"{np.mean(PUBLISHED):.3f}" if targets else "")

    return method


METHODS: dict[str, Method] = {
    "convolutional AE": one_class(lambda: Autoencoder(channels=8, latent_dim=32, epochs=10), True),
    "VAE": one_class(lambda: VAE(hidden=(400,), latent_dim=10, epochs=10), False),
}
