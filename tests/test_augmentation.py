"""Moved copies that a prior learns from: how they are moved, and that it is told so."""

import numpy as np
import pytest
import torch

from data.recipes import load
from rvqvae import RobustVQVAE
from rvqvae.config import ModelConfig, PriorConfig, TrainConfig
from rvqvae.errors import InputError
from rvqvae.priors import fit_prior
from rvqvae.priors.augmentation import LIMITS, SHARE, Amounts, moved, moved_grids
from rvqvae.priors.groups import fit_code_prior
from rvqvae.vqvae.inference import decode_codes, inlier_codes
from rvqvae.vqvae.training import fit

CONFIG = PriorConfig(channels=8, layers=1, dropout=0.0, epochs=20, batch_size=16, groups=0)


@pytest.fixture(scope="module")
def model():
    config = ModelConfig(channels=16, residual_blocks=1, code_dim=8, inlier_codes=32, outlier_codes=8)
    return fit(load("mnist")[0][:200, None], config, TrainConfig(epochs=2, membership="all"), seed=0).model


def test_nothing_moves_without_amounts():
    images = torch.rand(3, 3, 9, 12)
    torch.testing.assert_close(moved(images, torch.zeros(3, len(LIMITS))), images, atol=1e-5, rtol=0)


@pytest.mark.parametrize("axis", [0, 1])
def test_a_whole_shift_is_a_roll_but_at_the_border(axis):
    images = torch.rand(2, 1, 20, 20)
    amounts = torch.zeros(2, len(LIMITS))
    amounts[:, axis] = 2 / 10 / LIMITS[axis]  # two pixels of a half side of ten
    rolled = images.roll(-2, 3 - axis).narrow(3 - axis, 0, 18)
    torch.testing.assert_close(moved(images, amounts).narrow(3 - axis, 0, 18), rolled, atol=1e-4, rtol=0)


def test_copies_are_the_grids_of_moved_images(model):
    codes = inlier_codes(model, load("mnist")[0][:600, None])
    grids, amounts = moved_grids(model, codes, 0)
    assert grids.shape == codes.shape and grids.dtype == codes.dtype and amounts.shape == (600, len(LIMITS))
    assert amounts.min() < -0.9 and amounts.max() > 0.9
    again, other = moved_grids(model, codes, 0), moved_grids(model, codes, 1)
    assert grids.equal(again[0]) and amounts.equal(again[1]) and not amounts.equal(other[1])
    for i in (0, 511, 512, 599):  # the twin: one at a time
        image = moved(decode_codes(model, codes[i : i + 1]).float(), amounts[i : i + 1]).round().byte()
        assert (inlier_codes(model, image)[0] == grids[i]).double().mean() > 0.95
    assert (grids == codes).double().mean() < 0.9


def test_layers_are_told_nothing_of_what_was_not_moved():
    torch.manual_seed(0)
    tell = Amounts(2, 6)
    told = tell(torch.stack([torch.zeros(5), torch.full((5,), 0.3)]))
    assert [biases.shape for biases in told] == [(2, 6)] * 2
    assert all(bool((biases[0] == 0).all()) and bool((biases[1] != 0).any()) for biases in told)
    grids, copies = torch.zeros(4000, 2, 2).long(), torch.ones(4000, 2, 2).long()
    mixed, told = tell.mixed(grids, copies, torch.ones(4000, 5))
    replaced = mixed[:, 0, 0] == 1
    assert replaced.double().mean() == pytest.approx(SHARE, abs=0.03)
    assert ((told[0] != 0).any(1) == replaced).all()


def test_a_prior_draws_what_was_not_moved_and_needs_to_be_told():
    """Grids hold the code 0, and copies the code 1."""
    grids = torch.zeros(64, 3, 3).long()
    ones = []
    for amount in (1.0, 0.0):
        amounts = torch.full((64, len(LIMITS)), amount)
        prior = fit_prior(grids, 2, CONFIG, seed=0, copies=lambda _, by=amounts: (grids + 1, by))
        ones.append(float(prior.sample(200, (3, 3), seed=0).double().mean()))
    assert ones[0] < 0.02 and 0.3 < ones[1] < 0.7


def test_grids_of_no_weight_have_no_copies():
    grids, weights = torch.zeros(64, 3, 3).long(), np.arange(64) >= 32

    def copies(_):
        moved_ones = torch.ones(64, 3, 3).long()
        moved_ones[:32] = 2  # of grids that do not count
        return moved_ones, torch.zeros(64, len(LIMITS))

    drawn = fit_prior(grids, 3, CONFIG, seed=0, weights=weights, copies=copies).sample(200, (3, 3), seed=0)
    assert (drawn == 2).sum() < 0.5 * (drawn == 1).sum()


def test_the_setting_reaches_the_prior_and_leaves_vectors_alone(model):
    codes = inlier_codes(model, load("mnist")[0][:100, None])
    drawn = [
        fit_code_prior(model, codes, PriorConfig(epochs=3, copies=n), seed=0).sample(9, model.grid, seed=0)
        for n in (0, 2)
    ]
    assert not drawn[0].equal(drawn[1])
    x = np.random.default_rng(0).normal(size=(120, 4))
    best = RobustVQVAE(0.05, epochs=1, prior_epochs=1, quality="best", random_state=0, inlier_codes=16)
    assert best.fit(x).sample(5).shape == (5, 4)


def test_the_best_quality_sharpens_tells_and_chooses(tmp_path):
    images = load("mnist")[0][:150]
    model = RobustVQVAE(0.0, epochs=1, prior_epochs=2, quality="best", random_state=0, channels=8).fit(images)
    plain = RobustVQVAE(0.0, epochs=1, prior_epochs=2, random_state=0, channels=8).fit(images)
    np.testing.assert_array_equal(model.scores_, plain.scores_)
    assert not np.array_equal(model.reconstruct(images[:5]), plain.reconstruct(images[:5]))
    samples = model.sample(4)
    assert model._prior.critic is not None and model._prior.config.copies
    model.save(tmp_path / "model")
    assert np.abs(RobustVQVAE.load(tmp_path / "model").sample(4).astype(int) - samples).max() <= 1


def test_bad_settings():
    with pytest.raises(InputError, match="quality='better' is out of range: it must be 'usual' or 'best'"):
        RobustVQVAE(quality="better").fit(load("mnist")[0][:100])
    for name in ("copies", "sharpen"):
        with pytest.raises(InputError, match=f"{name}=-1"):
            (PriorConfig if name == "copies" else TrainConfig)(**{name: -1})
