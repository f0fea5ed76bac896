"""Every member of the family against what makes it one, and against a slow twin where it has one."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.decomposition import PCA
from torch import nn
from torch.autograd.functional import jacobian
from torch.distributions import Normal, kl_divergence

from data.recipes import load
from rvqvae.config import PriorConfig
from rvqvae.errors import InputError
from rvqvae.family import (
    ALI,
    VAE,
    Autoencoder,
    AutoRec,
    BiGAN,
    ContractiveAE,
    DeepFeatureVAE,
    DenoisingAE,
    HardVQVAE,
    PixelCNNVAE,
    SparseAE,
)
from rvqvae.family.adversarial import BatchNorm, Bidirectional
from rvqvae.family.autoregressive import ConditionalPixelCNN
from rvqvae.family.perceptual import perceptual_distance
from rvqvae.family.regularised import (
    add_gaussian,
    hutchinson_jacobian_norm,
    kl_penalty,
    l1_penalty,
    mask,
    sigmoid_jacobian_norm,
)
from rvqvae.family.variational import gaussian_kl, normal_log_density
from rvqvae.optimization import generator_of

SMALL = {"latent_dim": 4, "hidden": (32,), "epochs": 1, "batch_size": 32, "random_state": 0}
MEMBERS = [
    Autoencoder(),
    SparseAE(),
    SparseAE(penalty="kl"),
    DenoisingAE(),
    DenoisingAE(corruption="gaussian"),
    ContractiveAE(),
    ContractiveAE(hidden=()),
    VAE(),
    VAE(likelihood="bernoulli"),
    BiGAN(critic=(16,)),
    ALI(critic=(16,)),
    DeepFeatureVAE(),
    PixelCNNVAE(pixel_channels=8, pixel_layers=1),
    HardVQVAE(n_codes=8),
    HardVQVAE(n_codes=8, channels=8),
]
GENERATIVE = (VAE, BiGAN, DeepFeatureVAE, PixelCNNVAE)


def small(member, **changes):
    kept = {"hidden": ()} if isinstance(member, ContractiveAE) and member.hidden == () else {}
    return clone(member).set_params(**SMALL | kept | changes)


@pytest.fixture(scope="module")
def digits():
    """33 of 14 x 14 pixels: a batch and one sample."""
    return load("mnist")[0][:33, ::2, ::2].copy()


# All members -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("member", MEMBERS, ids=str)
def test_every_member_trains_scores_and_survives_saving(member, digits, tmp_path):
    model = small(member).fit(digits)
    scores = model.score_samples(digits)
    assert scores.shape == (33,) and scores.dtype == np.float64
    assert np.isfinite(scores).all() and scores.std() > 1e-9
    codes = model.encode(digits)
    assert codes.dtype == np.float32 and codes.shape[1] == len(model.get_feature_names_out())
    made = model.reconstruct(digits[:1])
    assert made.shape == (1, 14, 14) and made.dtype == np.uint8
    assert all(math.isfinite(value) for value in model.history_[0].values())
    model.save(tmp_path)
    loaded = type(member).load(tmp_path)
    np.testing.assert_array_equal(loaded.score_samples(digits), scores)
    np.testing.assert_allclose(model.score_samples(digits[::-1][:5])[::-1], scores[-5:], rtol=1e-4)
    again = small(member).fit(digits)
    np.testing.assert_array_equal(again.encode(digits), codes)


@pytest.mark.parametrize("member", [m for m in MEMBERS if isinstance(m, GENERATIVE)], ids=str)
def test_samples_follow_the_seed(member, digits):
    model = small(member).fit(digits)
    one, same, other = (model.sample(3, seed) for seed in (0, 0, 1))
    assert one.shape == (3, 14, 14) and one.dtype == np.uint8
    assert np.array_equal(one, same) and not np.array_equal(one, other)


@pytest.mark.parametrize(
    "member, change",
    [(SparseAE(), {"weight": 30.0}), (SparseAE(penalty="kl"), {"density": 0.5}),
     (SparseAE(), {"penalty": "kl"}),
     (DenoisingAE(), {"amount": 0.8}), (DenoisingAE(), {"corruption": "gaussian"}),
     (ContractiveAE(), {"weight": 50.0}), (VAE(), {"likelihood": "bernoulli"}), (BiGAN(), {"critic": (5,)}),
     (BiGAN(), {"momentum": 0.9}), (DeepFeatureVAE(), {"weight": 0.1}), (HardVQVAE(), {"n_codes": 3}),
     (HardVQVAE(), {"commitment": 20.0}), (PixelCNNVAE(pixel_channels=8), {"levels": 3}),
     (PixelCNNVAE(pixel_channels=8), {"pixel_channels": 12}),
     (PixelCNNVAE(pixel_channels=8), {"pixel_layers": 1}), (PixelCNNVAE(pixel_channels=8), {"free_nats": 0})],
    ids=str,
)  # fmt: skip
def test_every_argument_counts(member, change, digits):
    models = [small(member, **c).fit(digits) for c in ({}, change)]
    assert not np.array_equal(*(model.score_samples(digits) for model in models))


@pytest.mark.parametrize(
    "member, change, message",
    [(SparseAE(), {"weight": -1}, "weight=-1"), (SparseAE(), {"density": 1.0}, "density=1.0"),
     (SparseAE(), {"penalty": "l2"}, "'l2'"), (DenoisingAE(), {"amount": 1.0}, "amount=1.0"),
     (DenoisingAE(), {"corruption": "salt"}, "'salt'"), (ContractiveAE(), {"weight": math.nan}, "nan"),
     (VAE(), {"likelihood": "poisson"}, "'poisson'"), (BiGAN(), {"momentum": 1}, "momentum=1"),
     (BiGAN(), {"critic": (0,)}, "critic=0"), (DeepFeatureVAE(), {"weight": math.inf}, "inf"),
     (HardVQVAE(), {"n_codes": 1}, "n_codes=1"), (HardVQVAE(), {"commitment": -0.1}, "-0.1"),
     (PixelCNNVAE(), {"levels": 1}, "levels=1"), (PixelCNNVAE(), {"pixel_layers": 0}, "pixel_layers=0"),
     (PixelCNNVAE(), {"free_nats": -1}, "free_nats=-1"),
     (AutoRec(), {"hidden_share": 1}, "hidden_share=1"), (AutoRec(), {}, "needs a matrix")],
    ids=str,
)  # fmt: skip
def test_bad_parameters_are_named(member, change, message, digits):
    with pytest.raises(InputError, match=message):
        small(member, **change).fit(digits)


@pytest.mark.parametrize("member", [DeepFeatureVAE(), PixelCNNVAE(), VAE(likelihood="bernoulli")], ids=str)
def test_members_refuse_what_they_cannot_model(member):
    with pytest.raises(InputError, match=r"pixels|grey images|no probabilities"):
        small(member).fit(np.random.default_rng(0).normal(size=(9, 5)))
    if isinstance(member, PixelCNNVAE):
        with pytest.raises(InputError, match="grey images"):
            small(member).fit(np.zeros((9, 3, 14, 14), np.uint8))


# Plain -------------------------------------------------------------------------------------------------


def test_a_linear_autoencoder_finds_the_principal_subspace():
    x = np.random.default_rng(0).normal(size=(400, 6)) * [3, 2, 1, 0.3, 0.2, 0.1]
    model = Autoencoder(latent_dim=2, hidden=(), epochs=150, learning_rate=0.03, random_state=0).fit(x)
    pca = PCA(2).fit(x)
    error = np.square(x - model.reconstruct(x)).sum(1).mean()
    best = np.square(x - pca.inverse_transform(pca.transform(x))).sum(1).mean()
    assert best <= error < 1.02 * best
    decoder = model.network_.decoder[0].weight.detach().double().numpy()  # (6, 2)
    cosines = np.linalg.svd(np.linalg.qr(decoder)[0].T @ pca.components_.T)[1]
    assert cosines.min() > 0.995


# Sparse ------------------------------------------------------------------------------------------------


def test_penalties_equal_their_slow_twins():
    h = torch.rand(7, 5, dtype=torch.float64)
    assert float(l1_penalty(h)) == pytest.approx(np.mean([sum(abs(v) for v in row) for row in h.tolist()]))
    slow = 0.0
    for unit in h.T.tolist():
        p = sum(unit) / len(unit)
        slow += 0.1 * math.log(0.1 / p) + 0.9 * math.log(0.9 / (1 - p))
    assert float(kl_penalty(h, 0.1)) == pytest.approx(slow)


def test_the_kl_penalty_is_least_at_its_density_and_has_the_right_gradient():
    h = torch.full((4, 3), 0.2, dtype=torch.float64)
    assert float(kl_penalty(h, 0.2)) == pytest.approx(0, abs=1e-12)
    assert float(kl_penalty(h + 0.01, 0.2)) > 0 < float(kl_penalty(h - 0.01, 0.2))
    x = torch.rand(4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: kl_penalty(x, 0.2), x)
    assert math.isfinite(float(kl_penalty(torch.zeros(2, 2), 0.2)))


def test_codes_become_sparse(digits):
    share = {}
    for weight in (0.0, 3.0):
        codes = small(SparseAE(), epochs=30, weight=weight, latent_dim=32).fit(digits).encode(digits)
        share[weight] = (codes > 0).mean()
    assert share[3.0] < share[0.0] / 2
    dense = small(SparseAE(penalty="kl", weight=5.0), epochs=60, latent_dim=32, learning_rate=0.01)
    assert dense.set_params(density=0.1).fit(digits).encode(digits).mean() == pytest.approx(0.1, abs=0.05)


# Denoising ---------------------------------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(amount=st.floats(0, 0.9), seed=st.integers(0, 10**6))
def test_corruptions_do_what_they_say(amount, seed):
    x = torch.ones(40, 100)
    hidden = mask(x, amount, generator_of(seed))
    assert set(hidden.unique().tolist()) <= {0.0, 1.0}
    assert float((hidden == 0).float().mean()) == pytest.approx(amount, abs=0.05)
    noise = add_gaussian(x, amount, generator_of(seed)) - x
    assert float(noise.std()) == pytest.approx(amount, abs=0.05) and abs(float(noise.mean())) < 0.06
    assert torch.equal(mask(x, amount, generator_of(seed)), hidden)


def test_a_denoising_autoencoder_denoises_better_than_a_plain_one():
    digits, held_out = (load("mnist", train=t)[0][:600, ::2, ::2].copy() for t in (True, False))
    x = torch.tensor(held_out)[:, None].float() / 255
    noisy = mask(x, 0.5, generator_of(0))
    error = {}
    for member in (Autoencoder(), DenoisingAE(amount=0.5)):
        model = small(member, epochs=15, latent_dim=32, hidden=(128,), learning_rate=1e-2).fit(digits)
        with torch.inference_mode():
            error[type(member)] = float((model.network_.reconstruct(noisy) - x).square().mean())
    assert error[DenoisingAE] < 0.9 * error[Autoencoder]


# Contractive -------------------------------------------------------------------------------------------


def test_jacobian_norms_equal_autograds():
    torch.manual_seed(0)
    layer, x = nn.Linear(6, 4), torch.randn(3, 6, requires_grad=True)
    h = layer(x).sigmoid()
    slow = [float(jacobian(lambda row: layer(row).sigmoid(), row).square().sum()) for row in x.detach()]
    np.testing.assert_allclose(sigmoid_jacobian_norm(h, layer.weight).detach(), slow, rtol=1e-5)
    draws = [hutchinson_jacobian_norm(h, x, generator_of(seed)).detach() for seed in range(3000)]
    np.testing.assert_allclose(torch.stack(draws).mean(0), slow, rtol=0.05)


def test_both_penalties_can_be_minimised_and_contract(digits):
    for hidden in ((), (32,)):
        norms = []
        for weight in (0.0, 200.0):
            model = small(ContractiveAE(), hidden=hidden, weight=weight, epochs=20).fit(digits)
            x = torch.tensor(digits)[:, None].float() / 255
            encode = model.network_.encode
            norms.append(float(sum(jacobian(encode, row[None]).square().sum() for row in x[:5])))
        assert norms[1] < norms[0] / 2


# Variational -------------------------------------------------------------------------------------------


def test_the_divergence_and_the_density_equal_torchs():
    mean, log_variance = torch.randn(5, 3), torch.randn(5, 3)
    posterior = Normal(mean, (0.5 * log_variance).exp())
    prior = Normal(torch.zeros_like(mean), 1.0)
    np.testing.assert_allclose(
        gaussian_kl(mean, log_variance), kl_divergence(posterior, prior).sum(1), rtol=1e-4
    )
    z = posterior.sample()
    np.testing.assert_allclose(
        normal_log_density(z, mean, log_variance), posterior.log_prob(z).sum(1), rtol=1e-4
    )
    draws = posterior.sample((20000,))
    slow = (posterior.log_prob(draws) - prior.log_prob(draws)).sum(2).mean(0)
    np.testing.assert_allclose(gaussian_kl(mean, log_variance), slow, rtol=0.1, atol=0.05)


@pytest.fixture(scope="module")
def vae():
    digits = load("mnist")[0][:600]
    return VAE(
        latent_dim=8, hidden=(128,), epochs=12, learning_rate=3e-3, likelihood="bernoulli", random_state=0
    ).fit(255 * (digits > 127).astype(np.uint8))


def test_more_draws_bound_the_likelihood_tighter(vae):
    held_out = 255 * (load("mnist", train=False)[0][:100] > 127).astype(np.uint8)
    bounds = [vae.log_likelihood(held_out, k).mean() for k in (1, 5, 50)]
    assert bounds[0] < bounds[1] < bounds[2] < -60
    elbo = np.mean([vae.log_likelihood(held_out, 1, seed) for seed in range(30)])
    network, x = vae.network_, torch.tensor(held_out)[:, None].float() / 255
    with torch.inference_mode():
        terms = np.mean([float(network.losses(x, generator_of(seed))["loss"]) for seed in range(30)])
    assert elbo == pytest.approx(-terms, abs=1)
    assert not np.array_equal(vae.log_likelihood(held_out, 5, 0), vae.log_likelihood(held_out, 5, 1))
    with pytest.raises(InputError, match="n_samples=0"):
        vae.log_likelihood(held_out, 0)


def test_the_likelihood_of_a_linear_gaussian_model_is_exact():
    """x = W z + b + noise: p(x) is a normal density, which the bound must reach."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 2)) @ rng.normal(size=(2, 4)) + 0.5 * rng.normal(size=(300, 4))
    model = VAE(latent_dim=2, hidden=(), epochs=100, learning_rate=0.02, random_state=0).fit(x)
    layer, variance = model.network_.decoder[0], model.network_.log_variance.detach().double().exp()
    w = layer.weight.detach().double()
    truth = torch.distributions.MultivariateNormal(
        layer.bias.detach().double(), w @ w.T + variance * torch.eye(4, dtype=torch.float64)
    ).log_prob(torch.tensor(x[:20]))
    np.testing.assert_allclose(model.log_likelihood(x[:20], 2000), truth, atol=0.05)


def test_a_variational_autoencoder_knows_digits_from_clothes(vae):
    digits, clothes = (255 * (load(n, train=False)[0][:100] > 127) for n in ("mnist", "fashion_mnist"))
    scores = [vae.score_samples(x.astype(np.uint8)) for x in (digits, clothes)]
    assert np.median(scores[0]) > np.percentile(scores[1], 80)


# Perceptual --------------------------------------------------------------------------------------------


def test_the_perceptual_distance_is_zero_for_equals_and_grows_with_noise():
    x = torch.tensor(load("mnist")[0][:4])[:, None].float() / 255
    noisy = [add_gaussian(x, amount, generator_of(0)) for amount in (0.05, 0.2)]
    zero, near, far = (perceptual_distance(x, y) for y in (x, *noisy))
    assert torch.equal(zero, torch.zeros(4)) and (zero < near).all() and (near < far).all()
    np.testing.assert_allclose(perceptual_distance(x[:1], noisy[0][:1]), near[:1], rtol=1e-3)
    y = noisy[0].clone().requires_grad_()
    perceptual_distance(x, y).sum().backward()
    assert float(y.grad.abs().sum()) > 0


# PixelCNN ----------------------------------------------------------------------------------------------


def conditional(height=3, width=4):
    torch.manual_seed(0)
    return ConditionalPixelCNN(3, PriorConfig(channels=8, layers=2, dropout=0.0), 5).eval().double()


def test_the_condition_reaches_every_pixel_and_no_pixel_sees_the_later_ones():
    model, h = conditional(), torch.randn(1, 5, dtype=torch.float64)
    codes = torch.randint(0, 3, (1, 3, 4), generator=generator_of(0))
    logits = model(codes, h)
    assert ((model(codes, h + 1) - logits).abs().sum(1) > 1e-9).all()
    for i in range(12):
        other = codes.clone()
        other.view(-1)[i] = (other.view(-1)[i] + 1) % 3
        moved = (model(other, h) - logits).abs().sum((0, 1)).view(-1) > 1e-12
        assert not moved[: i + 1].any()
        assert i == 11 or moved[i + 1 :].any()


def test_probabilities_of_all_small_images_sum_to_one():
    model = conditional()
    grids = torch.cartesian_prod(*[torch.arange(3)] * 4).view(-1, 2, 2)
    h = torch.randn(1, 5, dtype=torch.float64).expand(len(grids), -1)
    assert float(model.log_prob(grids, h).detach().exp().sum()) == pytest.approx(1)


def test_sampling_inverts_the_conditional_distribution():
    model, h = conditional(), torch.randn(2, 5, dtype=torch.float64)
    drawn = model.sample(2, (3, 4), seed=0, labels=h)
    uniform = torch.from_numpy(np.random.default_rng(0).random((2, 3, 4)))
    codes = torch.zeros(2, 3, 4, dtype=torch.int64)
    for i in range(3):
        for j in range(4):
            cumulative = model(codes, h).softmax(1)[:, :, i, j].cumsum(1)
            codes[:, i, j] = (cumulative <= uniform[:, i, j, None]).sum(1).clamp_max(2)
    assert torch.equal(drawn, codes)
    with pytest.raises(InputError, match=r"\(2, 5\)"):
        model(codes, h[:1])
    with pytest.raises(InputError, match="None"):
        model(codes)


def test_the_condition_is_learned(digits):
    """Two kinds of images that only the code tells apart: black and white ones."""
    x = np.zeros((64, 8, 8), np.uint8)
    x[32:] = 255
    model = small(PixelCNNVAE(pixel_channels=8, pixel_layers=1), epochs=30, learning_rate=0.01).fit(x)
    assert model.history_[-1]["loss"] < 5
    assert np.array_equal(model.reconstruct(x[30:34]), x[30:34])


# Adversarial -------------------------------------------------------------------------------------------


class Undecided(nn.Module):
    """A discriminator that cannot tell."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, pairs):
        return pairs[:, :1] * self.weight


def bidirectional(discriminator):
    encoder, decoder = nn.Linear(6, 2), nn.Linear(2, 6)
    return Bidirectional(encoder, decoder, False, discriminator, 2)


def test_where_nobody_wins_both_players_lose_log_4():
    with torch.no_grad():
        terms = bidirectional(Undecided()).losses(torch.randn(5, 6), generator_of(0))
    assert float(terms["discriminator"]) == pytest.approx(math.log(4))
    assert float(terms["generator"]) == pytest.approx(math.log(4))


def test_each_player_has_a_gradient_of_its_own():
    """The joint loss, against the two losses written apart."""
    torch.manual_seed(0)
    network = bidirectional(nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 1)))
    x = torch.randn(5, 6)
    network.losses(x, generator_of(0))["loss"].backward()
    joint = {name: weight.grad.clone() for name, weight in network.named_parameters()}
    z = network.prior(5, generator_of(0))

    def logits(keep_graph):
        real, made = torch.cat([x, network.encoder(x)], 1), torch.cat([network.decoder(z), z], 1)
        return [network.discriminator(p if keep_graph else p.detach()) for p in (real, made)]

    real, made = logits(False)
    told = -(real.sigmoid().log() + (1 - made.sigmoid()).log()).mean()
    real, made = logits(True)
    fooled = -((1 - real.sigmoid()).log() + made.sigmoid().log()).mean()
    own = list(network.discriminator.named_parameters())
    for (name, _), gradient in zip(own, torch.autograd.grad(told, [w for _, w in own]), strict=True):
        np.testing.assert_allclose(joint[f"discriminator.{name}"], gradient, atol=1e-6)
    others = [(n, w) for n, w in network.named_parameters() if not n.startswith("discriminator")]
    for (name, _), gradient in zip(others, torch.autograd.grad(fooled, [w for _, w in others]), strict=True):
        np.testing.assert_allclose(joint[name], gradient, atol=1e-6)


def test_codes_have_the_moments_of_their_prior_and_features_are_before_them(digits):
    model = small(BiGAN(critic=(16,)), batch_size=33).fit(digits)
    z = model.network_.train().encode(torch.as_tensor(digits)[:, None] / 255)
    torch.testing.assert_close(z.mean(0), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(z.var(0, unbiased=False), torch.full((4,), 1 / 3), atol=1e-3, rtol=0)
    assert model.features(digits).shape == (33, 32)


def test_one_sample_is_normalised_by_what_was_seen_before():
    norm, x = BatchNorm(3).train(), torch.randn(50, 3)
    norm(x)
    seen = norm.running_mean.clone()
    torch.testing.assert_close(norm(x[:1]), norm.eval()(x[:1]))
    assert torch.equal(norm.running_mean, seen)


def test_a_bigan_learns_where_the_data_lie():
    x = np.random.default_rng(0).normal([3, -2], 0.5, (1000, 2))
    off = {}
    for epochs in (1, 40):
        model = BiGAN(latent_dim=2, hidden=(32, 32), critic=(32, 32), epochs=epochs, batch_size=100)
        drawn = model.set_params(random_state=0, learning_rate=1e-3).fit(x).sample(500, 0)
        off[epochs] = np.linalg.norm(drawn.mean(0) - [3, -2])
    assert off[40] < off[1] / 3 and drawn.std(0).min() > 0.2


# Hard quantisation -------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [None, 8])
def test_codes_are_codewords(digits, channels):
    model = small(HardVQVAE(n_codes=8), channels=channels, epochs=3).fit(digits)
    codes, flat = model.codes(digits), model.encode(digits)
    assert codes.shape == (33, 1 if channels is None else 16) and codes.dtype == np.int64
    words = model.network_.codebook.codewords.numpy()
    for sample, row in zip(codes, flat.reshape(33, 4, -1), strict=True):
        np.testing.assert_array_equal(row.T, words[sample])
    assert len(np.unique(codes)) > 2


# Missing values ----------------------------------------------------------------------------------------


def ratings(n=300, d=40, seed=0):
    rng = np.random.default_rng(seed)
    full = rng.normal(size=(n, 3)) @ rng.normal(size=(3, d)) / 3**0.5
    seen = rng.random((n, d)) < 0.5
    return full, np.where(seen, full, np.nan), seen


def test_what_is_missing_is_ignored_and_predicted(tmp_path):
    full, x, seen = ratings()
    model = AutoRec(
        latent_dim=16, hidden=(), epochs=150, learning_rate=0.01, hidden_share=0.3, random_state=0
    ).fit(x)
    error = np.square(model.reconstruct(x) - full)[~seen].mean()
    assert error < 0.5 * np.square(full[~seen]).mean()
    network, rows = model.network_, torch.tensor(x[:8], dtype=torch.float32)
    loss = network.losses(rows, generator_of(0))["loss"]
    loss.backward()
    assert all(torch.isfinite(weight.grad).all() for weight in network.parameters())
    predicted = network.decode(network.encoder(mask(rows.nan_to_num(0), 0.3, generator_of(0))))
    slow = [(p - t) ** 2 for p, t in zip(predicted.flatten().tolist(), rows.flatten().tolist(), strict=True)]
    assert float(loss.detach()) == pytest.approx(np.nanmean(slow), rel=1e-4)
    nothing = np.full((2, 40), np.nan)
    assert np.isfinite(model.reconstruct(nothing)).all() and np.array_equal(
        model.score_samples(nothing), [0, 0]
    )
    model.save(tmp_path)
    np.testing.assert_array_equal(AutoRec.load(tmp_path).encode(x), model.encode(x))
