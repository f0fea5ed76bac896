"""What a pass costs: both precisions are what they are called."""

import numpy as np
import torch

from pipelines import benchmark_passes
from rvqvae.clustering import training


def test_each_side_trains_in_its_own_precision(monkeypatch):
    images, seen = np.zeros((300, 4, 4), np.uint8), []

    def fit(part):
        seen.append((len(part), torch.is_autocast_enabled("cpu"), training.bfloat16_pays("cpu")))

    assert benchmark_passes.seconds(fit, images, False) >= 0
    assert benchmark_passes.seconds(fit, images, True) >= 0
    assert seen == [(256, False, False), (300, False, False), (256, True, True), (300, True, True)]
    seen.clear()
    monkeypatch.setattr(benchmark_passes, "_imsat", fit)
    benchmark_passes.seconds(fit, images, True)
    assert seen == [(256, False, True), (300, False, True)], "IMSAT rounds by itself"
