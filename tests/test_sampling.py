"""Sampling of images like one that is shown, and of what the model takes for inliers."""

import numpy as np
import pytest
import torch

from rvqvae import RobustVQVAE
from rvqvae.config import PriorConfig
from rvqvae.errors import InputError
from rvqvae.priors import GatedPixelCNN
from rvqvae.priors.sampling import BATCH, MAX_DRAWN, accepted, groups_of

CENTRES = np.array([[6, 0, 0, 0], [0, 6, 0, 0], [0, 0, 6, 0]])


def blobs(n=400, seed=0):
    """Rows (n, 4) around three centres, of which the last 20 lie far off, and the centre of each."""
    rng = np.random.default_rng(seed)
    of_row = rng.integers(3, size=n)
    x = CENTRES[of_row] + rng.normal(size=(n, 4))
    x[n - 20 :] += 40
    return x, of_row


def nearest(samples):
    return np.linalg.norm(samples[:, None] - CENTRES, axis=2).argmin(1)


@pytest.fixture(scope="module")
def data():
    return blobs()


@pytest.fixture(scope="module")
def plain(data):
    """Never changed by a test."""
    return RobustVQVAE(0.05, epochs=15, prior_epochs=12, random_state=0, inlier_codes=32).fit(data[0])


# Images like one that is shown


def test_samples_are_like_the_one_that_was_shown(plain):
    for i, centre in enumerate(CENTRES):
        samples = plain.sample(100, like=centre.astype(float))
        assert samples.shape == (100, 4)
        assert (nearest(samples) == i).mean() > 0.9


@pytest.mark.parametrize("n", [1, 8, 9])
def test_samples_depend_on_seed_and_place_alone(plain, n):
    left, middle = CENTRES[:2].astype(float)
    first = plain.sample(9, 3, like=left)
    np.testing.assert_allclose(plain.sample(n, 3, like=left), first[:n], atol=1e-5)
    assert not np.array_equal(plain.sample(9, 4, like=left), first)
    assert not np.array_equal(plain.sample(9, 3, like=middle), first)


@torch.no_grad()
def test_groups_are_drawn_by_their_posterior():
    """The twin: the joint probability of group and grid, one group at a time, over its sum."""
    torch.manual_seed(0)
    prior = GatedPixelCNN(4, PriorConfig(channels=4, layers=1), 3).eval()
    prior.class_share.copy_(torch.tensor([0.6, 0.0, 0.4]))
    codes = torch.tensor([[0, 1], [2, 3]])
    joint = [
        float(prior.class_share[k] * prior.log_prob(codes[None], torch.tensor([k])).exp()) for k in range(3)
    ]
    drawn = np.bincount(groups_of(prior, codes, 20_000, 0).numpy(), minlength=3) / 20_000
    np.testing.assert_allclose(drawn, np.array(joint) / sum(joint), atol=0.02)


def test_weights_count_in_the_prior_of_a_fit(data, monkeypatch):
    seen = {}

    def spy(*arguments, weights, **options):
        seen["weights"] = weights
        return fit(*arguments, weights=weights, **options)

    from rvqvae import estimator

    fit = estimator.fit_code_prior
    monkeypatch.setattr(estimator, "fit_code_prior", spy)
    model = RobustVQVAE(0.05, epochs=1, prior_epochs=1, random_state=0).fit(data[0][:100])
    assert model.fit_prior() and not model.fit_prior()
    kept = model.outlier_probability_[model.inlier_mask_]
    assert np.array_equal(seen["weights"], 1 - kept)


# Rejection


def numbers(n, seed):
    """Stands for a model: numbers in [0, 1), each its own probability of being an outlier."""
    return np.random.default_rng(seed).random((n, 1))


def own(samples):
    return samples[:, 0]


@pytest.mark.parametrize("limit", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("n", [1, BATCH, BATCH + 1, 700])
def test_all_that_pass_are_kept_in_order(n, limit):
    found = accepted(numbers, own, n, limit, 0)
    assert found.shape == (n, 1) and found.max() <= limit
    assert np.array_equal(found[:20], accepted(numbers, own, 20, limit, 0)[:n])
    assert not np.array_equal(found, accepted(numbers, own, n, limit, 1))
    assert len(np.unique(found)) == n


def test_rejection_gives_up_with_a_clear_error():
    drawn = []

    def drawing(n, seed):
        drawn.append(n)
        return numbers(n, seed)

    with pytest.raises(InputError, match=r"of 5,120 samples .* at most 1e-05.*raise max_outlier_probability"):
        accepted(drawing, own, 10, 1e-5, 0)
    assert sum(drawn) == MAX_DRAWN * BATCH


def test_an_estimator_rejects_its_own_doubts(plain):
    free = plain.outlier_probability(plain.sample(300, 1))
    limit = float(np.quantile(free, 0.5))
    kept = plain.sample(300, 1, max_outlier_probability=limit)
    # Of what comes back in double precision the last digits differ.
    assert plain.outlier_probability(kept).max() <= limit * (1 + 1e-4) < free.max()
    np.testing.assert_allclose(kept[:5], plain.sample(5, 1, max_outlier_probability=limit), atol=1e-5)


def test_rejection_and_likeness_go_together(plain):
    left = CENTRES[0].astype(float)
    free = plain.outlier_probability(plain.sample(100, like=left))
    kept = plain.sample(50, like=left, max_outlier_probability=float(np.quantile(free, 0.7)))
    assert (nearest(kept) == 0).mean() > 0.9


# Bad input


def test_what_cannot_be_sampled(plain):
    with pytest.raises(ValueError, match="X has 3 features"):
        plain.sample(1, like=np.zeros(3))
    for limit in (0, -1, 1.5, float("nan")):
        with pytest.raises(InputError, match="max_outlier_probability"):
            plain.sample(1, max_outlier_probability=limit)
    for n in (0, -3):
        with pytest.raises(InputError, match=f"n={n}"):
            plain.sample(n, max_outlier_probability=0.5)


def test_too_few_inliers_for_groups_are_like_none(data):
    model = RobustVQVAE(0.05, epochs=1, prior_epochs=1, random_state=0).fit(data[0][:60])
    assert model.sample(2).shape == (2, 4)
    with pytest.raises(InputError, match="no groups"):
        model.sample(2, like=data[0][0])
