"""What generated images are measured by: held-out images, and classifiers that learned from them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import pairwise_distances_argmin_min

from rvqvae.features.pretrained import extract_features
from rvqvae.metrics import Classifier, InlierClassifier, frechet_distance, generation_metrics, purity
from rvqvae.vqvae.inference import decode_codes, inlier_codes, reconstruction_errors
from rvqvae.vqvae.model import TwoCodebookVQVAE

Images = NDArray[np.uint8]
Labelled = tuple[Images, NDArray[np.int64]]
SURE = 0.9
"""Probability of one kind, from which on an image is legible."""
STEPS = 400
"""Of the classifiers' training."""


class Reference(NamedTuple):
    """No model sees any of it."""

    images: Images
    """Clean held-out inliers."""
    features: NDArray[np.float32]
    judge: InlierClassifier
    reader: Classifier
    """Of the inliers' kinds."""

    def measure(self, samples: Images, training: Images) -> dict[str, Any]:
        """Of ``samples``, beside the clean inliers among the ``training`` images."""
        kinds, usual = (self.reader.probabilities(images) for images in (samples, training))
        shares = [np.bincount(p.argmax(1), minlength=p.shape[1]) / len(p) for p in (kinds, usual)]
        return {
            "purity": purity(self.judge, samples),
            "judge_error": self.judge.error,
            "legibility": legibility(kinds),
            # Total variation: what share of the samples would have to be of another kind.
            "kinds_shift": float(np.abs(shares[0] - shares[1]).sum() / 2),
            "nearest": nearest(samples, training) / nearest(self.images, training),
            **generation_metrics(self.features, extract_features(samples))._asdict(),
        }

    def measure_reconstructions(self, model: TwoCodebookVQVAE) -> dict[str, float]:
        """Of the held-out inliers through the inlier codebook: what a perfect prior would reach."""
        reconstructions = decode_codes(model, inlier_codes(model, self.images)).numpy()
        return {
            "reconstruction_error": float(reconstruction_errors(model, self.images).mean()),
            # The reader has not learned from these.
            "reconstruction_legibility": legibility(self.reader.probabilities(reconstructions[1::2])),
            "reconstruction_frechet": frechet_distance(self.features, extract_features(reconstructions)),
        }


def load_reference(inliers: Labelled, outliers: Labelled, samples: int) -> Reference:
    """Every other image of both sets trains judge and reader; the rest shows the judge's error."""
    rng = np.random.default_rng(0)
    order = rng.permutation(len(inliers[0]))
    images, kinds = (part[order] for part in inliers)
    others = outliers[0][rng.permutation(len(outliers[0]))]
    judge = InlierClassifier.fit(images[::2], others[::2], steps=STEPS)
    judge.test(images[1::2], others[1::2])
    reader = Classifier.fit([images[::2][kinds[::2] == kind] for kind in np.unique(kinds[::2])], steps=STEPS)
    shown = images[:samples]
    return Reference(shown, extract_features(shown), judge, reader)


def legibility(probabilities: NDArray[np.float32]) -> float:
    """Share of images whose kind a classifier is sure of, from its probabilities (N, K)."""
    return float((probabilities.max(1) >= SURE).mean())


def nearest(images: Images, training: Images) -> float:
    """Median over ``images`` of the distance of pixels to the nearest of the ``training`` images."""
    one, other = (np.asarray(x, np.float32).reshape(len(x), -1) for x in (images, training))
    return float(np.median(pairwise_distances_argmin_min(one, other)[1]))
