"""The inner loops, one by one, for pytest-benchmark: has a change made one of them slower?

    uv run --group bench pytest pipelines/benchmark_kernels.py -o addopts= -p no:xdist --benchmark-autosave
    uv run --group bench pytest pipelines/benchmark_kernels.py -o addopts= -p no:xdist \
        --benchmark-compare --benchmark-compare-fail=median:20%

On one thread. Times are of the machine: compare only what was measured on the same one, and where others use
it too, with ``--benchmark-timer=time.process_time``. The suite of tests does not run these.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from rvqvae.config import ModelConfig, PriorConfig
from rvqvae.features.pretrained import extract_views
from rvqvae.features.statistics import picture_statistics
from rvqvae.io.duplicates import near_duplicates
from rvqvae.membership import gather
from rvqvae.membership.ellipsoid import find_core
from rvqvae.priors import GatedPixelCNN
from rvqvae.vqvae.codebook import Codebook, quantize_by_set

IMAGES = np.random.default_rng(0).integers(0, 256, (512, 1, 28, 28), dtype=np.uint8)
VECTORS = np.random.default_rng(1).normal(size=(1000, 128)).astype(np.float32)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_views(benchmark: BenchmarkFixture) -> None:
    benchmark(extract_views, IMAGES)


def test_statistics(benchmark: BenchmarkFixture) -> None:
    benchmark(picture_statistics, IMAGES)


def test_near_duplicates(benchmark: BenchmarkFixture) -> None:
    benchmark(near_duplicates, IMAGES)


def test_core(benchmark: BenchmarkFixture) -> None:
    benchmark(find_core, VECTORS, [slice(0, 64), slice(64, 128)], 0)


def test_evidence(benchmark: BenchmarkFixture) -> None:
    benchmark(gather, [VECTORS])


def test_scoring(benchmark: BenchmarkFixture) -> None:
    benchmark(gather([VECTORS]).evidence, [VECTORS])


def test_both_codebooks(benchmark: BenchmarkFixture) -> None:
    config, generator = ModelConfig(), torch.Generator().manual_seed(0)
    data = torch.randn(64 * 49, config.code_dim, generator=generator)
    books = Codebook(config.inlier_codes, config), Codebook(config.outlier_codes, config)
    for book in books:
        book.kmeans_init(data, generator)
    benchmark(quantize_by_set, *books, data, torch.arange(len(data)) % 10 < 3)


def test_prior(benchmark: BenchmarkFixture) -> None:
    prior = GatedPixelCNN(ModelConfig().inlier_codes, PriorConfig()).eval()
    benchmark(prior.sample, 64, (7, 7), seed=0)
