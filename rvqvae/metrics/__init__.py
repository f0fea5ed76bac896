"""Metrics of generated images, from feature matrices (N, d) or, for purity, by an independent classifier; of
clusters against classes; and of rankings.

The reference set must be clean held-out inliers. Distances depend on the feature network: call them
"FD (features)" and "KD (features)"; FID and KID are only what InceptionV3 gives.
"""

from rvqvae.metrics.clustering import clustering_accuracy, clustering_nmi
from rvqvae.metrics.distances import frechet_distance, kernel_distance
from rvqvae.metrics.manifold import PRDC, precision_recall_density_coverage
from rvqvae.metrics.purity import Classifier, InlierClassifier, purity
from rvqvae.metrics.retrieval import (
    average_precision,
    mean_average_precision,
    neighbor_recall,
    precision_at_k,
    recall_at_k,
)
from rvqvae.metrics.summary import GenerationMetrics, generation_metrics

__all__ = [
    "PRDC",
    "Classifier",
    "GenerationMetrics",
    "InlierClassifier",
    "average_precision",
    "clustering_accuracy",
    "clustering_nmi",
    "frechet_distance",
    "generation_metrics",
    "kernel_distance",
    "mean_average_precision",
    "neighbor_recall",
    "precision_at_k",
    "precision_recall_density_coverage",
    "purity",
    "recall_at_k",
]
