"""What IMSAT optimises, against slow twins and exact cases, and the steps that it moves samples by."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors
from torch import nn

from rvqvae.clustering.augmentation import (
    adversarial_direction,
    affine,
    nearest_distances,
    neighbour_distances,
    unit_steps,
)
from rvqvae.clustering.network import Perceptron, untouched_statistics
from rvqvae.clustering.objective import Bits, Clusters, pairwise_information

CODES = [Clusters(), Bits()]
shapes = {"n": st.integers(1, 30), "m": st.integers(2, 6), "seed": st.integers(0, 10**6)}


def mutual_information(logits):
    """I(X; Y): balance 1."""
    return Clusters(balance=1.0).terms(logits)["information"]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def random_logits(n, m, seed, spread=3.0):
    return spread * torch.randn(n, m, generator=generator(seed))


def sure(choice, m):
    """Logits of predictions without doubt."""
    return 60.0 * (nn.functional.one_hot(torch.as_tensor(choice), m) - 0.5)


def bits_logits(bits):
    return 60.0 * (torch.as_tensor(bits).float() - 0.5)


def network(inputs=5, outputs=4, hidden=(16,), seed=0):
    """Away from its start, where nothing is decided."""
    made = Perceptron(inputs, hidden, outputs, generator(seed))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.5 * torch.randn(parameter.shape, generator=generator(seed + 1)))
    return made


# Information


def slow_information(p):
    """H(Y) - H(Y | X) from the joint table of sample and cluster."""
    joint = p.double().numpy() / len(p)
    total = 0.0
    for i in range(joint.shape[0]):
        for k in range(joint.shape[1]):
            if joint[i, k] > 0:
                total += joint[i, k] * math.log(joint[i, k] / (joint[i].sum() * joint[:, k].sum()))
    return total


@settings(max_examples=40, deadline=None)
@given(**shapes)
def test_information_lies_between_0_and_log_k(n, m, seed):
    logits = random_logits(n, m, seed)
    found = float(mutual_information(logits))
    assert -1e-5 <= found <= math.log(min(n, m)) + 1e-5
    assert found == pytest.approx(slow_information(logits.softmax(1)), abs=1e-5)


@pytest.mark.parametrize("k", [2, 3, 10])
def test_information_of_constant_predictions_is_0_and_of_balanced_sure_ones_log_k(k):
    assert float(mutual_information(random_logits(1, k, 0).expand(12, k))) == pytest.approx(0, abs=1e-6)
    assert float(mutual_information(sure(list(range(k)) * 4, k))) == pytest.approx(math.log(k), abs=1e-6)


@settings(max_examples=20, deadline=None)
@given(**shapes)
def test_information_does_not_depend_on_the_order_or_names_of_anything(n, m, seed):
    logits = random_logits(n, m, seed)
    moved = logits[torch.randperm(n, generator=generator(seed))][:, torch.randperm(m, generator=generator(1))]
    for code in CODES:
        for name, value in code.terms(logits).items():
            assert float(code.terms(moved)[name]) == pytest.approx(float(value), abs=1e-4), name


def test_balance_weighs_the_marginal_entropy():
    logits = random_logits(20, 4, 0)
    terms = Clusters(2.5).terms(logits)
    expected = 2.5 * terms["marginal_entropy"] - terms["conditional_entropy"]
    assert float(terms["information"]) == pytest.approx(float(expected))
    uneven, even = sure([0] * 9 + [1], 2), sure([0, 1] * 5, 2)
    assert Clusters().terms(even)["information"] > Clusters().terms(uneven)["information"]


def slow_pair(p, i, j):
    total = 0.0
    for a in (0, 1):
        for b in (0, 1):
            of = [p[:, i] if a else 1 - p[:, i], p[:, j] if b else 1 - p[:, j]]
            joint, apart = (of[0] * of[1]).mean(), of[0].mean() * of[1].mean()
            total += joint * math.log(joint / apart) if joint > 0 else 0
    return total


@settings(max_examples=30, deadline=None)
@given(**shapes)
def test_pairwise_information_equals_its_slow_twin(n, m, seed):
    p = random_logits(n, m, seed).sigmoid()
    found = pairwise_information(p)
    for i in range(m):
        for j in range(m):
            expected = 0 if i == j else slow_pair(p.double().numpy(), i, j)
            assert float(found[i, j]) == pytest.approx(expected, abs=2e-5)


def test_pairwise_information_is_0_for_independent_bits_and_log_2_for_copies():
    bits = torch.tensor([[a, b, a, 1 - a] for a in (0.0, 1.0) for b in (0.0, 1.0)])
    found = pairwise_information(bits)
    assert float(found[0, 1]) == pytest.approx(0, abs=1e-6)
    assert float(found[0, 2]) == pytest.approx(math.log(2), abs=1e-6)
    assert float(found[0, 3]) == pytest.approx(math.log(2), abs=1e-6)


def test_bits_are_best_when_informative_and_different():
    every = [[a, b] for a in (0, 1) for b in (0, 1)]
    best = Bits().terms(bits_logits(every))
    assert float(best["information"]) == pytest.approx(2 * math.log(2), abs=1e-5)
    copies = Bits().terms(bits_logits([[a, a] for a, _ in every]))
    # log 2 for each bit, less log 2 for each order of the pair.
    assert float(copies["information"]) == pytest.approx(0, abs=1e-5)
    constant = Bits().terms(bits_logits([[1, 0]] * 4))
    assert float(constant["information"]) == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("code", CODES)
def test_gradients_stay_finite_where_predictions_are_sure(code):
    for logits in (sure([0, 1, 2, 0], 3), torch.full((4, 3), 200.0), torch.zeros(4, 3)):
        logits = logits.clone().requires_grad_()
        loss = code.divergence(logits.detach(), logits.flip(0)).mean() - code.terms(logits)["information"]
        loss.backward()
        assert bool(torch.isfinite(logits.grad).all())


# Divergence


@settings(max_examples=30, deadline=None)
@given(**shapes)
def test_divergence_is_that_of_the_distributions(n, m, seed):
    a, b = random_logits(n, m, seed), random_logits(n, m, seed + 1)
    p, q = a.double().softmax(1), b.double().softmax(1)
    torch.testing.assert_close(
        Clusters().divergence(a, b), (p * (p / q).log()).sum(1).float(), atol=1e-4, rtol=1e-4
    )
    p, q = a.double().sigmoid(), b.double().sigmoid()
    expected = p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()
    torch.testing.assert_close(Bits().divergence(a, b), expected.sum(1).float(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("code", CODES)
def test_divergence_is_0_without_a_step_and_never_negative(code):
    made, x = network(), torch.randn(40, 5, generator=generator(3))
    with torch.no_grad():
        logits = made(x)
        assert float(code.divergence(logits, made(x)).abs().max()) == pytest.approx(0, abs=1e-5)
        assert float(code.divergence(logits, made(x + 0.3)).min()) > -1e-5


# Steps


@pytest.mark.parametrize("code", CODES)
def test_the_adversarial_step_changes_more_than_a_random_one_of_equal_length(code):
    made, x = network().train(), torch.randn(200, 5, generator=generator(3))
    with torch.no_grad():
        logits = made(x)
    random = unit_steps(x, generator(4))
    worst = adversarial_direction(made, code.divergence, x, logits, generator(4), reach=1.0)
    torch.testing.assert_close(worst.norm(dim=1), torch.ones(200))
    torch.testing.assert_close(random.norm(dim=1), torch.ones(200))
    with torch.no_grad():
        by_worst, by_random = (
            code.divergence(logits, made(x + 0.3 * step)).mean() for step in (worst, random)
        )
    assert by_worst > 1.5 * by_random


def test_the_adversarial_step_is_the_gradient_of_the_divergence_by_finite_differences(monkeypatch):
    made, code = network().eval().double(), Clusters()
    x = torch.randn(3, 5, generator=generator(3)).double()
    logits = made(x).detach()
    step = 2 * nn.functional.normalize(torch.randn(3, 5, generator=generator(7), dtype=torch.float64), dim=1)
    slope = torch.zeros_like(x)
    for i in range(5):
        nudge = 1e-6 * torch.eye(5, dtype=torch.float64)[i]
        up, down = (code.divergence(logits, made(x + step + s * nudge)).detach() for s in (1, -1))
        slope[:, i] = (up - down) / 2e-6

    monkeypatch.setattr("rvqvae.clustering.augmentation.unit_steps", lambda *_: step / 2)
    found = adversarial_direction(made, code.divergence, x, logits, generator(), reach=2.0)
    torch.testing.assert_close(found, nn.functional.normalize(slope, dim=1), atol=1e-5, rtol=1e-4)


def test_where_nothing_changes_the_step_is_random_but_of_length_1():
    x = torch.randn(6, 5, generator=generator())
    flat = adversarial_direction(lambda z: 0 * z, Clusters().divergence, x, 0 * x, generator())
    torch.testing.assert_close(flat.norm(dim=1), torch.ones(6))


@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(2, 40),
    d=st.integers(1, 5),
    t=st.integers(1, 12),
    block=st.integers(1, 50),
    seed=st.integers(0, 99),
)
def test_neighbour_distances_equal_those_of_scikit_learn(n, d, t, block, seed):
    x = np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)
    count = min(t, n - 1)
    every = NearestNeighbors(n_neighbors=count).fit(x).kneighbors()[0]
    expected = every[:, -1]
    nearest = nearest_distances(torch.from_numpy(x), t, block=block)
    np.testing.assert_allclose(nearest, every, rtol=1e-3, atol=2e-3)
    found = neighbour_distances(torch.from_numpy(x), t, block=block)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=2e-3)
    shifted = neighbour_distances(torch.from_numpy(x), t, shift=torch.from_numpy(x.mean(0)))
    np.testing.assert_allclose(shifted, expected, rtol=1e-3, atol=2e-3)


def test_affine_moves_each_image_differently_and_a_little():
    image = torch.zeros(1, 3, 28, 28)
    image[..., 10:18, 8:20] = torch.tensor([50.0, 100.0, 200.0]).view(1, 3, 1, 1)
    moved = affine(image.expand(40, 3, 28, 28), generator())
    assert moved.shape == (40, 3, 28, 28)
    apart = (moved[:, None] - moved[None]).abs().amax((2, 3, 4))
    assert float((apart + 1e9 * torch.eye(40)).min()) > 1
    torch.testing.assert_close(moved[:, 1], 2 * moved[:, 0])
    mass = moved.sum((2, 3)) / image.sum((2, 3))
    assert 0.7 < float(mass.min()) < 0.9 < 1.1 < float(mass.max()) < 1.5
    white = affine(torch.full((4, 1, 28, 28), 255.0), generator())
    torch.testing.assert_close(white, torch.full((4, 1, 28, 28), 255.0))


# Network


def test_steps_leave_the_running_statistics_alone():
    made = network().train()
    before = {name: value.clone() for name, value in made.state_dict().items()}
    with untouched_statistics(made):
        inside = made(torch.randn(30, 5, generator=generator()))
    assert all(torch.equal(value, before[name]) for name, value in made.state_dict().items())
    outside = made(torch.randn(30, 5, generator=generator()))
    assert torch.equal(inside, outside)
    assert not torch.equal(made[1].running_mean, before["1.running_mean"])


def test_the_statistics_are_followed_again_after_an_error():
    made = network().train()
    with pytest.raises(RuntimeError), untouched_statistics(made):
        made(torch.randn(30, 6))
    assert made[1].track_running_stats


def test_at_the_start_nothing_is_decided():
    made = Perceptron(784, (1200, 1200), 10, generator()).train()
    p = made(torch.randn(50, 784, generator=generator())).softmax(1).detach()
    assert float((p - 0.1).abs().max()) < 5e-3


def test_a_network_depends_on_its_generator_alone():
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    one, same, other = (Perceptron(5, (8,), 3, generator(seed)) for seed in (0, 0, 1))
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(one[0].weight, same[0].weight) and not torch.equal(one[0].weight, other[0].weight)
    assert [type(layer).__name__ for layer in Perceptron(5, (), 3, generator())] == ["Linear"]
