"""The end of training on images: the decoder alone learns to look real."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from data.recipes import load
from rvqvae.config import ModelConfig, TrainConfig
from rvqvae.vqvae.inference import decode_codes, inlier_codes
from rvqvae.vqvae.sharpening import patch_discriminator, sharpen
from rvqvae.vqvae.training import fit

MODEL = ModelConfig(channels=16, residual_blocks=1, code_dim=8, inlier_codes=32, outlier_codes=16)
TRAIN = TrainConfig(epochs=4, batch_size=16, membership="all")


@pytest.fixture(scope="module")
def digits():
    return load("mnist")[0][:500, None]


@pytest.fixture(scope="module")
def pair(digits):
    """The same training without and with it."""
    return [fit(digits[:300], MODEL, replace(TRAIN, sharpen=n), seed=0) for n in (0, 8)]


def edges(images):
    """How much neighbouring pixels differ, squared: blur takes it away."""
    return float(np.square(np.diff(images.astype(float), axis=3)).mean())


def test_reconstructions_of_new_images_become_sharper(digits, pair):
    real = edges(digits[300:])
    blurred, sharp = (
        edges(decode_codes(done.model, inlier_codes(done.model, digits[300:])).numpy()) for done in pair
    )
    assert 1.2 * blurred < sharp < real


def test_codes_and_all_but_the_decoder_stay(digits, pair):
    plain, sharp = (done.model for done in pair)
    assert inlier_codes(plain, digits).equal(inlier_codes(sharp, digits))
    before, after = plain.state_dict(), sharp.state_dict()
    changed = {name.partition(".")[0] for name in before if not before[name].equal(after[name])}
    assert changed == {"decoder"}
    assert [len(done.history) for done in pair] == [TRAIN.epochs] * 2


def test_equal_seeds_give_equal_decoders_and_the_global_random_state_stays(digits, pair):
    state = torch.random.get_rng_state()
    models = []
    for seed in (0, 0, 1):
        model = fit(digits[:60], MODEL, replace(TRAIN, epochs=1), seed=0).model
        torch.random.set_rng_state(state)
        sharpen(model, torch.as_tensor(digits[:60]), epochs=2, batch_size=16, perceptual=0.0, seed=seed)
        assert torch.random.get_rng_state().equal(state)
        models.append(decode_codes(model, inlier_codes(model, digits[:9])))
    assert models[0].equal(models[1]) and not models[0].equal(models[2])


@pytest.mark.parametrize("n", [1, 2, 17])
def test_any_number_of_images_and_every_pass_is_reported(digits, n):
    told = []
    config = replace(TRAIN, epochs=1, sharpen=2)
    fit(digits[:n], MODEL, config, seed=0, on_epoch=lambda epoch, terms: told.append((epoch, sorted(terms))))
    assert [epoch for epoch, _ in told] == [1, 2, 3]
    assert "discriminator" in told[1][1] and "discriminator" not in told[0][1]


def test_vectors_have_no_patches():
    x = np.random.default_rng(0).normal(size=(64, 5)).astype(np.float32)
    plain, same = (
        fit(x, MODEL, replace(TRAIN, epochs=1, sharpen=n), seed=0).model.state_dict() for n in (0, 3)
    )
    assert all(plain[name].equal(same[name]) for name in plain)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 33, 20)])
def test_the_discriminator_sees_patches_of_18_pixels(shape):
    torch.manual_seed(0)
    network = patch_discriminator(shape[0]).eval()
    images = torch.rand(1, *shape)
    assert network(images).shape[:2] == (1, 1)
    if shape[1] > 18:
        images.requires_grad_()
        network(images)[0, 0, 4, 2].backward()
        rows = images.grad.abs().sum((0, 1, 3)).nonzero().squeeze(1)
        assert int(rows.max() - rows.min()) + 1 == 18
