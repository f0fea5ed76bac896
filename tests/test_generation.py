"""The mixture prior of a trained model, and the perceptual loss that trains it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from data.recipes import load
from rvqvae.config import ModelConfig, PriorConfig, TrainConfig
from rvqvae.features.perceptual import perceptual_loss
from rvqvae.io.arrays import as_nchw
from rvqvae.priors import fit_prior
from rvqvae.priors.groups import GROUP, code_groups, fit_code_prior
from rvqvae.vqvae.inference import inlier_codes
from rvqvae.vqvae.training import Fitted, fit

PRIOR = PriorConfig(channels=16, layers=1, dropout=0.2, epochs=24, batch_size=32)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return as_nchw(load("mnist")[0])[:400]


@pytest.fixture(scope="module")
def fitted(images: np.ndarray) -> Fitted:
    config = ModelConfig(channels=16, code_dim=8, inlier_codes=32, outlier_codes=8)
    return fit(images, config, TrainConfig(epochs=4, membership="all"), seed=0)


def test_the_group_says_which_whole_is_meant(images, fitted):
    model = fitted.model
    codes = inlier_codes(model, torch.as_tensor(images))
    mixture = fit_code_prior(model, codes, PRIOR, seed=0)
    assert mixture.n_classes == len(images) // GROUP
    assert fit_code_prior(model, codes[:70], replace(PRIOR, groups=0, epochs=1), seed=0).n_classes == 0
    labels = code_groups(model, codes, mixture.n_classes, 0)
    torch.testing.assert_close(
        mixture.class_share, torch.bincount(labels, minlength=mixture.n_classes) / len(labels)
    )
    with torch.no_grad():
        assert mixture.log_prob(codes, labels).mean() > mixture.log_prob(codes, labels.roll(1)).mean() + 1
    drawn = mixture.sample(len(codes), model.grid, seed=0)
    drawn = [mixture.sample(50, model.grid, seed=0, labels=torch.full((50,), k)) for k in range(2)]
    assert not drawn[0].equal(drawn[1])


def test_what_a_prior_learns_of_a_code_holds_for_codes_nearby(images, fitted):
    """Held-out grids are likelier to a prior that starts from the codewords."""
    codes, words = inlier_codes(fitted.model, torch.as_tensor(images)), fitted.model.inlier_codebook.codewords
    config = replace(PRIOR, epochs=8)
    found = [fit_prior(codes[:300], len(words), config, seed=0, codewords=w) for w in (None, words)]
    with torch.no_grad():
        without, started = (float(prior.log_prob(codes[300:]).mean()) for prior in found)
    assert started > without + 1


def test_groups_hold_alike_grids(images, fitted):
    codes = inlier_codes(fitted.model, torch.as_tensor(images))
    labels = code_groups(fitted.model, codes, 8, 0)
    assert labels.unique().tolist() == list(range(8))
    vectors = fitted.model.inlier_codebook.codewords[codes].flatten(1)
    within = sum(float((v - v.mean(0)).square().sum()) for v in (vectors[labels == k] for k in range(8)))
    assert within < 0.85 * float((vectors - vectors.mean(0)).square().sum())
    assert code_groups(fitted.model, codes, 8, 0).equal(labels)


@pytest.mark.parametrize("n", [2, GROUP, 2 * GROUP])
def test_few_inliers_have_few_groups(images, fitted, n):
    codes = inlier_codes(fitted.model, torch.as_tensor(images[:n]))
    prior = fit_code_prior(fitted.model, codes, replace(PRIOR, epochs=1), seed=0)
    assert prior.n_classes == (2 if n == 2 * GROUP else 0)
    assert prior.sample(3, fitted.model.grid, seed=0).shape == (3, *fitted.model.grid)


def test_the_perceptual_loss_is_zero_for_equals_and_grows_with_blur():
    x = torch.as_tensor(as_nchw(load("fashion_mnist")[0])[:8]).float() / 255
    smooth = [torch.nn.functional.avg_pool2d(x, k, 1, k // 2) for k in (3, 5)]
    equal, little, much = (float(perceptual_loss(x, y)) for y in (x, *smooth))
    assert equal == 0 < little < much
    rgb = x.expand(-1, 3, -1, -1)
    assert float(perceptual_loss(rgb, smooth[0].expand(-1, 3, -1, -1))) == pytest.approx(little, rel=1e-4)
    weight = torch.tensor([2.0] * 4 + [0.0] * 4)
    assert float(perceptual_loss(x, smooth[0], weight)) != pytest.approx(little, rel=1e-3)
    untouched = torch.cat([smooth[0][:4], smooth[1][4:]])
    assert float(perceptual_loss(x, untouched, weight)) == float(perceptual_loss(x, smooth[0], weight))
    y = smooth[0].clone().requires_grad_()
    perceptual_loss(x, y).backward()
    assert y.grad is not None and y.grad.abs().sum() > 0


def test_training_with_it_brings_it_down_and_vectors_have_none(images):
    config = ModelConfig(channels=16, code_dim=8, inlier_codes=32, outlier_codes=8)
    ends = []
    for weight in (0.0, 2.0):
        train = TrainConfig(epochs=3, membership="all", perceptual=weight)
        model = fit(images, config, train, seed=0).model
        with torch.no_grad():
            x = torch.as_tensor(images[:64]).float() / 255
            ends.append(float(perceptual_loss(x, model.decoder(model.quantize(x).vectors))))
    assert ends[1] < 0.95 * ends[0]
    vectors = np.random.default_rng(0).normal(size=(64, 5)).astype(np.float32)
    history = fit(vectors, config, TrainConfig(epochs=1, membership="all"), seed=0).history
    assert history[0]["perceptual"] == 0
