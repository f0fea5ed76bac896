"""Soft quantisation against the formulas that it must reduce to, and as the Robust VQ-VAE's bottleneck."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import ConvexHull, Delaunay
from torch.distributions import Independent, Normal

from data.recipes import load
from rvqvae import RobustVQVAE
from rvqvae.config import ModelConfig, TrainConfig
from rvqvae.errors import InputError
from rvqvae.membership import Membership
from rvqvae.vqvae.codebook import Codebook, straight_through
from rvqvae.vqvae.inference import inlier_codes, reconstruction_errors
from rvqvae.vqvae.model import TwoCodebookVQVAE
from rvqvae.vqvae.soft_codebook import SoftCodebook, nearest_weights, posterior, released_weights
from rvqvae.vqvae.training import fit

WEIGHTINGS = [posterior, released_weights, nearest_weights]


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def slow_posterior(z, centroids, log_sigma) -> torch.Tensor:
    """Bayes' rule, one density at a time."""
    rows = []
    for point, logs in zip(z, log_sigma, strict=True):
        density = torch.stack(
            [Independent(Normal(c, s.exp()), 1).log_prob(point) for c, s in zip(centroids, logs, strict=True)]
        )
        rows.append((density - density.logsumexp(0)).exp())
    return torch.stack(rows)


sizes = {
    "n": st.integers(1, 6),
    "k": st.integers(2, 7),
    "d": st.integers(1, 5),
    "seed": st.integers(0, 10**6),
}


@settings(max_examples=25, deadline=None)
@given(**sizes)
def test_the_posterior_is_bayes_rule(n, k, d, seed):
    z, centroids, log_sigma = draw(n, d, seed=seed), draw(k, d, seed=seed + 1), draw(n, k, seed=seed + 2)
    torch.testing.assert_close(posterior(z, centroids, log_sigma), slow_posterior(z, centroids, log_sigma))


@settings(max_examples=25, deadline=None)
@given(**sizes, scale=st.sampled_from([1e-3, 1.0, 1e3]), log=st.sampled_from([-60.0, -3.0, 0.0, 3.0, 60.0]))
@pytest.mark.parametrize("weights_of", WEIGHTINGS)
def test_weights_are_a_distribution_at_any_scale(weights_of, n, k, d, seed, scale, log):
    z, centroids = scale * draw(n, d, seed=seed).float(), scale * draw(k, d, seed=seed + 1).float()
    weights = weights_of(z, centroids, draw(n, k, seed=seed + 2).float() + log)
    assert weights.shape == (n, k) and weights.dtype == torch.float32 and bool((weights >= 0).all())
    torch.testing.assert_close(weights.sum(1), torch.ones(n))


@pytest.mark.parametrize("weights_of", WEIGHTINGS)
def test_estimates_lie_in_the_convex_hull(weights_of):
    z, centroids = 3 * draw(200, 2), draw(12, 2, seed=1)
    estimates = weights_of(z, centroids, draw(200, 12, seed=2)) @ centroids
    hull = ConvexHull(centroids.numpy())
    inside = hull.equations[:, :2] @ estimates.numpy().T + hull.equations[:, 2:]
    assert inside.max() < 1e-9
    outside = Delaunay(centroids.numpy()).find_simplex(z.numpy()) < 0
    assert outside.sum() > 50, "the encodings themselves do not lie in it"


def test_little_noise_is_hard_quantisation_and_much_is_the_mean():
    z, centroids = draw(50, 3), draw(9, 3, seed=1)
    nearest = torch.cdist(z, centroids).argmin(1)
    for weights_of in (posterior, released_weights):
        little = weights_of(z, centroids, torch.full((1, 1), -7.0)) @ centroids
        torch.testing.assert_close(little, centroids[nearest])
        much = weights_of(z, centroids, torch.full((1, 1), 15.0)) @ centroids
        torch.testing.assert_close(much, centroids.mean(0).expand(50, 3))
    torch.testing.assert_close(nearest_weights(z, centroids, draw(50, 9)) @ centroids, centroids[nearest])


def test_two_centroids_on_a_line_give_a_hyperbolic_tangent():
    middle, half, sigma = 0.7, 1.3, 0.9
    z = torch.linspace(-4, 5, 40, dtype=torch.float64)[:, None]
    centroids = torch.tensor([[middle - half], [middle + half]], dtype=torch.float64)
    estimate = posterior(z, centroids, torch.full((1, 1), np.log(sigma), dtype=torch.float64)) @ centroids
    torch.testing.assert_close(estimate, middle + half * torch.tanh(half * (z - middle) / sigma**2))


def test_a_shared_sigma_makes_the_released_weights_the_posterior():
    z, centroids, shared = draw(20, 3), draw(5, 3, seed=1), draw(20, 1, seed=2)
    torch.testing.assert_close(released_weights(z, centroids, shared), posterior(z, centroids, shared))
    own = draw(20, 5, seed=2)
    assert not torch.allclose(released_weights(z, centroids, own), posterior(z, centroids, own), atol=0.05)


@pytest.mark.parametrize("sigma", [0.4, 0.9, 2.0])
def test_no_estimate_of_the_noisy_centroid_is_better(sigma):
    """Bayes' estimate has the least mean squared error of all: less than the nearest's, and than none."""
    centroids = draw(16, 8)
    truth = centroids[torch.arange(4000) % 16]
    z = truth + sigma * draw(4000, 8, seed=1)

    def error(estimate):
        return float((estimate - truth).square().sum(1).mean())

    log_sigma = torch.full((1, 1), np.log(sigma), dtype=torch.float64)
    best = error(posterior(z, centroids, log_sigma) @ centroids)
    assert best <= error(nearest_weights(z, centroids, log_sigma) @ centroids) < error(z)
    for wrong in (-1, 1):
        assert best < error(posterior(z, centroids, log_sigma + wrong) @ centroids)


def test_noise_of_its_own_for_each_centroid_counts():
    """Where the simulated noise differs by centroid, the right sigmas beat one for all, and the release's."""
    centroids, log_sigma = draw(16, 8), 0.5 * draw(16, seed=3)[None]
    which = torch.arange(4000) % 16
    truth = centroids[which]
    z = truth + log_sigma[0, which, None].exp() * draw(4000, 8, seed=1)

    def error(weights):
        return float((weights @ centroids - truth).square().sum(1).mean())

    best = error(posterior(z, centroids, log_sigma))
    assert best < error(posterior(z, centroids, log_sigma.mean(1, keepdim=True)))
    assert best < error(released_weights(z, centroids, log_sigma))


@pytest.mark.parametrize("weights_of", [posterior, released_weights])
def test_gradients_agree_with_finite_differences(weights_of):
    z, centroids, log_sigma = (
        t.requires_grad_() for t in (draw(3, 2), draw(4, 2, seed=1), 0.5 * draw(3, 4, seed=2))
    )
    assert torch.autograd.gradcheck(weights_of, (z, centroids, log_sigma))
    target = draw(3, 2, seed=5)
    loss = (weights_of(z, centroids, log_sigma) @ centroids - target).square().mean()
    (gradient,) = torch.autograd.grad(loss, log_sigma)
    step = 1e-6
    for i, k in ((0, 0), (1, 3), (2, 2)):
        ends: list[float] = []
        for sign in (-1, 1):
            moved = log_sigma.detach().clone()
            moved[i, k] += sign * step
            estimate = (weights_of(z, centroids, moved) @ centroids).detach()
            ends.append(float((estimate - target).square().mean()))
        assert float(gradient[i, k]) == pytest.approx((ends[1] - ends[0]) / (2 * step), rel=1e-5)


def config(**changes) -> ModelConfig:
    return ModelConfig(**{"code_dim": 4, "bottleneck": "soft"} | changes)


def started(n_codes: int = 6, n: int = 200, **changes) -> SoftCodebook:
    book = SoftCodebook(n_codes, config(**changes))
    book.kmeans_init(draw(n, 4).float(), torch.Generator().manual_seed(0))
    return book


def test_the_codebook_gives_the_decoder_a_straight_through_gradient():
    book, z = started(), draw(5, 4, seed=1).float().requires_grad_()
    straight_through(z, book(z).vectors).sum().backward()
    torch.testing.assert_close(z.grad, torch.ones(5, 4))
    assert book.log_sigma.weight.grad is None, "sigma learns from the codebook loss alone"


def test_the_codebook_loss_reaches_sigma():
    book, z = started(), draw(5, 4, seed=1).float().requires_grad_()
    (book(z).vectors - z.detach()).square().mean().backward()
    for gradient in (book.log_sigma.weight.grad, book.log_sigma.bias.grad, z.grad):
        assert float(gradient.abs().sum()) > 0


@pytest.mark.parametrize("distance", ["euclidean", "inverse_std"])
def test_the_codebook_is_its_slow_twin(distance):
    book = started(distance=distance)
    book.refresh_metric()
    torch.nn.init.normal_(book.log_sigma.weight, std=0.2, generator=torch.Generator().manual_seed(0))
    z = draw(30, 4, seed=1).float()
    found = book(z)
    metric = book.metric if distance == "inverse_std" else torch.eye(4)
    weights = slow_posterior(z @ metric, book.codewords @ metric, book.log_sigma(z))
    torch.testing.assert_close(found.vectors, weights @ book.codewords, rtol=1e-3, atol=1e-4)
    assert torch.equal(found.codes, weights.argmax(1))
    distance_ = ((z - found.vectors) @ metric).square().sum(1)
    torch.testing.assert_close(found.distance, distance_, rtol=1e-3, atol=1e-4)
    assert not found.distance.requires_grad


@pytest.mark.parametrize("n", [1, 5, 6, 7, 200])
def test_any_number_of_encodings_starts_it(n):
    book = started(n=n)
    assert bool(book.started) and bool(torch.isfinite(book(draw(9, 4, seed=1).float()).vectors).all())


def test_sigma_starts_at_what_the_codewords_leave_over():
    book = started()
    z = draw(200, 4).float()
    left = torch.cdist(z, book.codewords).min(1).values.square().mean() / 4
    sigma = book.log_sigma(z).exp()
    torch.testing.assert_close(sigma, left.sqrt().expand_as(sigma).detach(), rtol=1e-4, atol=1e-5)


def test_an_empty_set_leaves_it_unstarted_and_finite():
    book = SoftCodebook(6, config())
    book.kmeans_init(torch.empty(0, 4), torch.Generator())
    assert not bool(book.started) and bool(torch.isfinite(book(draw(3, 4).float()).vectors).all())
    assert book(torch.empty(0, 4)).vectors.shape == (0, 4)


def test_half_precision_does_not_reach_it():
    book, z = started(), draw(50, 4, seed=1).float()
    with torch.autocast("cpu", torch.bfloat16):
        found = book(z)
    assert found.vectors.dtype == torch.float32
    torch.testing.assert_close(found.vectors, book(z).vectors)


# In the Robust VQ-VAE


TINY = ModelConfig(
    channels=16, residual_blocks=1, code_dim=8, inlier_codes=32, outlier_codes=16, bottleneck="soft"
)
TRAIN = TrainConfig(epochs=4, batch_size=16, warmup_epochs=1, learning_rate=4e-3, perceptual=0.0)


@pytest.fixture(scope="module")
def data():
    """300 digits, then 75 clothes, and a start that is wrong on some."""
    images = np.concatenate([load("mnist")[0][:300], load("fashion_mnist")[0][:75]])[:, None]
    odds = np.where(np.arange(375) >= 300, 4.0, -4.0)
    odds[::25] *= -0.1
    return images, Membership(odds)


@pytest.fixture(scope="module")
def fitted(data):
    return {
        b: fit(data[0], replace(TINY, bottleneck=b), TRAIN, seed=0, start=data[1]) for b in ("hard", "soft")
    }


@pytest.mark.parametrize("shape", [(1, 9, 14), (3, 8, 8), (5,)])
def test_the_model_has_a_gradient_for_every_parameter(shape):
    torch.manual_seed(0)
    model = TwoCodebookVQVAE(shape, TINY).train()
    for book in (model.inlier_codebook, model.outlier_codebook):
        assert isinstance(book, SoftCodebook)
        book.kmeans_init(torch.randn(100, 8), torch.Generator().manual_seed(0))
    model.loss(model(torch.rand(4, *shape), torch.arange(4) % 2 == 1)).backward()
    for parameter in model.parameters():
        assert parameter.grad is not None and bool(torch.isfinite(parameter.grad).all())
    for book in (model.inlier_codebook, model.outlier_codebook):
        assert float(book.log_sigma.bias.grad.abs().sum()) > 0


def test_hard_codebooks_stay_as_they_were():
    model = TwoCodebookVQVAE((5,), ModelConfig())
    assert type(model.inlier_codebook) is Codebook
    assert not [name for name, _ in model.named_parameters() if "codebook" in name]


def test_it_trains_stably_and_the_sets_are_as_good_as_with_hard_codebooks(data, fitted):
    truth = np.arange(375) >= 300
    soft, hard = fitted["soft"], fitted["hard"]
    losses = [epoch["reconstruction"] for epoch in soft.history]
    assert losses[-1] < 0.6 * losses[0] and all(np.isfinite(list(soft.history[-1].values())))
    right = {name: float((f.membership.is_outlier == truth).mean()) for name, f in fitted.items()}
    assert right["soft"] >= right["hard"] - 0.01 and right["soft"] > 0.95
    errors = [reconstruction_errors(f.model, data[0][:300]).mean() for f in (soft, hard)]
    assert errors[0] < 1.1 * errors[1]
    assert soft.history[-1]["inlier_perplexity"] > 0.5 * hard.history[-1]["inlier_perplexity"]


def test_codes_alone_reconstruct_nearly_as_well(data, fitted):
    model, x = fitted["soft"].model, torch.as_tensor(data[0][:300])
    with torch.no_grad():
        from_codes = model.decode(inlier_codes(model, x))
    error = float((from_codes - x / 255).square().mean())
    assert error < 1.3 * reconstruction_errors(model, x).mean()


def test_sigma_is_learned(fitted):
    head = fitted["soft"].model.inlier_codebook.log_sigma
    assert float(head.weight.detach().abs().max()) > 1e-3


def test_the_estimator_keeps_the_bottleneck_with_a_saved_model(data, tmp_path):
    quick = {"features": "learned", "epochs": 1, "prior_epochs": 1, "channels": 8, "code_dim": 4,
             "inlier_codes": 8, "outlier_codes": 4, "random_state": 0}  # fmt: skip
    images = data[0][:, 0]
    model = RobustVQVAE(bottleneck="soft", **quick).fit(images)
    model.save(tmp_path / "model")
    loaded = RobustVQVAE.load(tmp_path / "model")
    assert loaded.bottleneck == "soft"
    np.testing.assert_array_equal(loaded.reconstruct(images[:20]), model.reconstruct(images[:20]))
    np.testing.assert_allclose(loaded.score_samples(images[:20]), model.score_samples(images[:20]))
    assert loaded.sample(3, random_state=0).shape == (3, 28, 28)
    hard = RobustVQVAE(**quick).fit(images)
    assert not np.array_equal(hard.reconstruct(images[:20]), model.reconstruct(images[:20]))


def test_an_unknown_bottleneck_names_both():
    with pytest.raises(InputError, match="'hard' or 'soft'"):
        ModelConfig(bottleneck="tight")
    with pytest.raises(InputError, match="'hard' or 'soft'"):
        RobustVQVAE(bottleneck="tight").fit(np.random.default_rng(0).normal(size=(50, 4)))
