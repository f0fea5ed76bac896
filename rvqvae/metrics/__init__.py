"""How good generated images are, from feature matrices (N, d) and, for purity, from an independent judge;
and how well clusters match classes.

The reference set must be clean held-out inliers. Distances depend on the feature network: call them
"FD (features)" and "KD (features)"; FID and KID are only what InceptionV3 gives.
"""

from rvqvae.metrics.bootstrap import bootstrap_interval, mean_interval
from rvqvae.metrics.clustering import clustering_accuracy, clustering_nmi
from rvqvae.metrics.distances import (
    frechet_contributions,
    frechet_distance,
    kernel_contributions,
    kernel_distance,
)
from rvqvae.metrics.manifold import PRDC, PRDCIndicators, prdc_indicators, precision_recall_density_coverage
from rvqvae.metrics.purity import Judge, purity
from rvqvae.metrics.retrieval import (
    average_precision,
    mean_average_precision,
    neighbor_recall,
    precision_at_k,
    recall_at_k,
)
from rvqvae.metrics.summary import (
    Estimate,
    GenerationEstimates,
    GenerationMetrics,
    generation_estimates,
    generation_metrics,
)

__all__ = [
    "PRDC",
    "Estimate",
    "GenerationEstimates",
    "GenerationMetrics",
    "Judge",
    "PRDCIndicators",
    "average_precision",
    "bootstrap_interval",
    "clustering_accuracy",
    "clustering_nmi",
    "frechet_contributions",
    "frechet_distance",
    "generation_estimates",
    "generation_metrics",
    "kernel_contributions",
    "kernel_distance",
    "mean_average_precision",
    "mean_interval",
    "neighbor_recall",
    "prdc_indicators",
    "precision_at_k",
    "precision_recall_density_coverage",
    "purity",
    "recall_at_k",
]
