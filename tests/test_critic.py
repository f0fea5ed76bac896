"""The critic of a prior: what it chooses, that it mends a prior, and that a model keeps it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from rvqvae import RobustVQVAE
from rvqvae.config import PriorConfig
from rvqvae.errors import InputError
from rvqvae.priors import GatedPixelCNN
from rvqvae.priors.critic import POWER, Critic, fit_critic

CONFIG = PriorConfig(channels=8, layers=1, choices=4)
WORDS = torch.eye(3)


def untrained(n_classes=0):
    """Draws the codes 0, 1 and 2 nearly at random."""
    torch.manual_seed(0)
    prior = GatedPixelCNN(3, CONFIG, n_classes).eval()
    prior.grid_shape = (4, 4)
    return prior


def few_twos(grids):
    """Which of the grids (n, 4, 4) hold the code 2 at most four times."""
    return (grids == 2).sum((1, 2)) <= 4


def wanted(n):
    """What a prior should draw, and draws one time in six."""
    drawn = untrained().sample(8 * n, (4, 4), seed=9)
    return drawn[few_twos(drawn)][:n]


@pytest.fixture(scope="module")
def mended():
    prior = untrained()
    prior.critic = fit_critic(prior, wanted(1200), WORDS, seed=0)
    return prior


def test_choices_follow_the_power_of_the_density_ratio():
    """The twin: a critic whose logit is known, of grids that are all of one code."""
    logits = torch.tensor([0.0, 0.5, -1.0])

    class Known(Critic):
        def forward(self, codes):
            return logits[codes[:, 0, 0]]

    grids = torch.arange(3).repeat(20_000)[:, None, None]
    chosen = Known(WORDS).choose(grids, 3, seed=0)
    found = np.bincount(chosen.flatten(), minlength=3) / 20_000
    np.testing.assert_allclose(found, torch.softmax(POWER * logits, 0), atol=0.02)


def test_a_critic_mends_what_a_prior_draws(mended):
    free, chosen = (few_twos(prior.sample(500, (4, 4), seed=1)) for prior in (untrained(), mended))
    assert chosen.double().mean() > 2.5 * free.double().mean()  # 1 - (1 - p)^4 at best: here 3.1


@pytest.mark.parametrize("n", [1, 8, 9])
def test_a_grid_depends_on_the_seed_and_its_index_only(mended, n):
    first = mended.sample(20, (4, 4), seed=3)
    assert mended.sample(n, (4, 4), seed=3, batch_size=8).equal(first[:n])
    assert not mended.sample(20, (4, 4), seed=4).equal(first)


def test_labels_hold_for_all_choices(mended):
    prior = untrained(2)
    prior.critic = mended.critic
    with torch.no_grad():
        for layer in prior.layers:
            layer.condition.weight.mul_(20)
    labels = torch.arange(12) % 2
    drawn = prior.sample(12, (4, 4), seed=0, labels=labels)
    prior.critic = None
    # Each is one of the four that the prior draws of its label.
    of_label = prior.sample(48, (4, 4), seed=0, labels=labels.repeat_interleave(4)).view(12, 4, 4, 4)
    assert bool((of_label == drawn[:, None]).flatten(2).all(2).any(1).all())


def test_training_leaves_the_global_random_state_alone():
    prior, grids = untrained(), wanted(70)
    state = torch.random.get_rng_state()
    fit_critic(prior, grids, WORDS, seed=0, weights=np.ones(70))
    assert torch.random.get_rng_state().equal(state)


def test_a_saved_model_keeps_its_critic(tmp_path):
    x = np.random.default_rng(0).normal(size=(100, 4))
    model = RobustVQVAE(0.05, epochs=1, prior_epochs=1, random_state=0, inlier_codes=16).fit(x)
    model.fit_prior()
    plain = model.sample(20)
    prior, codes = model._prior, model._codes.grids
    prior.config = replace(prior.config, choices=4)
    prior.critic = fit_critic(prior, codes, model._model.inlier_codebook.codewords, seed=0)
    samples = model.sample(20)
    assert not np.array_equal(samples, plain)
    model.save(tmp_path / "model")
    np.testing.assert_allclose(RobustVQVAE.load(tmp_path / "model").sample(20), samples, atol=1e-5)


def test_choices_are_at_least_one():
    with pytest.raises(InputError, match="choices=0"):
        PriorConfig(choices=0)
