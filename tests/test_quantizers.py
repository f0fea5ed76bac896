"""The codebook against a slow obvious twin, and what its averages, revival and distance must keep."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rvqvae.config import ModelConfig
from rvqvae.errors import InputError
from rvqvae.vqvae.codebook import Codebook, straight_through


def config(**changes) -> ModelConfig:
    return ModelConfig(**{"code_dim": 4, "distance": "euclidean"} | changes)


def book(n_codes: int = 6, seed: int = 0, **changes) -> Codebook:
    made = Codebook(n_codes, config(**changes))
    with torch.no_grad():
        made.codewords.copy_(torch.randn(n_codes, 4, generator=torch.Generator().manual_seed(seed)))
    made.mass.fill_(1.0)
    made.total.copy_(made.codewords.detach())
    made.started.fill_(True)
    return made


def slow_nearest(z: np.ndarray, codewords: np.ndarray, metric: np.ndarray) -> tuple[list[int], list[float]]:
    codes, distances = [], []
    for point in z:
        d = [float((((point - e) @ metric) ** 2).sum()) for e in codewords]
        codes.append(int(np.argmin(d)))
        distances.append(min(d))
    return codes, distances


@settings(max_examples=25, deadline=None)
@given(n=st.integers(1, 40), k=st.integers(2, 9), seed=st.integers(0, 10**6), weighted=st.booleans())
def test_lookup_equals_its_slow_twin(n, k, seed, weighted):
    made = book(k, seed, distance="inverse_std" if weighted else "euclidean")
    made.refresh_metric()
    z = torch.randn(n, 4, generator=torch.Generator().manual_seed(seed + 1))
    found = made(z)
    codes, distances = slow_nearest(
        z.double().numpy(), made.codewords.double().numpy(), made.metric.double().numpy()
    )
    assert found.codes.tolist() == codes
    np.testing.assert_allclose(found.distance, distances, rtol=1e-3, atol=1e-4)
    assert torch.equal(found.vectors, made.codewords[found.codes])


def test_codewords_are_their_own_codes():
    made = book(distance="inverse_std")
    made.refresh_metric()
    assert made(made.codewords).codes.tolist() == list(range(6))


def test_weights_sum_to_the_dimension_and_favour_what_the_codebook_does_not_span():
    made = book(64, distance="inverse_std")
    made.codewords[:, 0] *= 10
    made.refresh_metric()
    weights = torch.linalg.eigvalsh(made.metric @ made.metric.T)
    assert float(weights.sum()) == pytest.approx(4, rel=1e-4)
    step = torch.eye(4)
    along = [float((s @ made.metric).square().sum()) for s in step]
    assert along[0] < min(along[1:]) / 3


def test_moving_averages_reach_the_mean_of_what_a_codeword_codes():
    made = book(2, decay=0.5)
    made.codewords.copy_(torch.tensor([[0.0] * 4, [10.0] * 4]))
    made.total.copy_(made.codewords)
    z = torch.full((8, 4), 1.0)
    for _ in range(30):
        made.ema_update(z, made(z).codes)
    assert torch.allclose(made.codewords[0], torch.ones(4), atol=1e-3)
    assert torch.allclose(made.codewords[1], torch.full((4,), 10.0))


def test_no_encodings_move_nothing():
    made = book()
    before = made.codewords.clone(), made.mass.clone()
    made.ema_update(torch.empty(0, 4), torch.empty(0, dtype=torch.int64))
    assert torch.equal(made.codewords, before[0]) and torch.equal(made.mass, before[1])


def test_revival_moves_only_dead_codewords_and_they_stay():
    made = book(6)
    made.mass.copy_(torch.tensor([1.0, 1, 1, 1, 1, 0]))
    made.total.copy_(made.codewords * made.mass[:, None])
    before = made.codewords.clone()
    z = torch.full((3, 4), 7.0)
    assert made.replace_dead_codes(z, torch.Generator().manual_seed(0)) == 1
    assert torch.equal(made.codewords[:5], before[:5])
    made.ema_update(z, made(z).codes)
    assert torch.allclose(made.codewords[5], torch.full((4,), 7.0), atol=1e-4)


@pytest.mark.parametrize("n", [1, 5, 6, 7, 200])
def test_k_means_start_with_any_number_of_points(n):
    made = book(6)
    made.started.fill_(False)
    z = torch.randn(n, 4, generator=torch.Generator().manual_seed(1))
    made.kmeans_init(z, torch.Generator().manual_seed(0))
    assert bool(made.started) and bool(torch.isfinite(made.codewords).all())
    assert len(torch.unique(made.codewords, dim=0)) == 6


def test_k_means_start_beats_a_random_choice():
    z = torch.cat([torch.randn(100, 4) * 0.1 + i for i in range(6)])
    made = book(6)
    before = float(made(z).distance.mean())
    made.kmeans_init(z, torch.Generator().manual_seed(0))
    assert float(made(z).distance.mean()) < before / 4


def test_an_empty_set_leaves_the_codebook_unstarted():
    made = Codebook(6, config())
    made.kmeans_init(torch.empty(0, 4), torch.Generator())
    assert not bool(made.started) and made.replace_dead_codes(torch.empty(0, 4), torch.Generator()) == 0


def test_half_precision_does_not_reach_the_lookup():
    made = book()
    z = torch.randn(50, 4)
    with torch.autocast("cpu", torch.bfloat16):
        found = made(z)
    assert found.vectors.dtype == torch.float32
    assert torch.equal(found.codes, made(z).codes)


def test_straight_through_passes_the_gradient():
    z = torch.randn(3, 4, requires_grad=True)
    out = straight_through(z, torch.zeros(3, 4))
    assert torch.equal(out, torch.zeros(3, 4))
    out.sum().backward()
    assert torch.equal(z.grad, torch.ones(3, 4))


def test_usage_counts_perplexity_and_the_dead():
    made = book(4)
    assert made.usage() == {"perplexity": pytest.approx(4), "dead_share": 0}
    made.mass.copy_(torch.tensor([1.0, 0, 0, 0]))
    assert made.usage() == {"perplexity": pytest.approx(1), "dead_share": 0.75}


@pytest.mark.parametrize(
    "name, value", [("inlier_codes", 1), ("decay", 1.0), ("distance", "cosine"), ("code_dim", 0)]
)
def test_values_out_of_range_name_the_limit(name, value):
    with pytest.raises(InputError, match=name):
        ModelConfig(**{name: value})
