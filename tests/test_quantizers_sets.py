"""Quantisation by sets against its slow twin: both codebooks for everybody, then a choice."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rvqvae.config import ModelConfig
from rvqvae.vqvae.codebook import Codebook, quantize_by_set
from rvqvae.vqvae.soft_codebook import SoftCodebook


def books(kind=Codebook, seed=0, **changes):
    config = ModelConfig(**{"code_dim": 4, "decay": 0.5} | changes)
    generator = torch.Generator().manual_seed(seed)
    made = kind(6, config), kind(3, config)
    for book in made:
        book.kmeans_init(torch.randn(50, 4, generator=generator), generator)
        book.refresh_metric()
    return made


def slow(inliers, outliers, z, is_outlier):
    """As the model's forward pass reads in the papers."""
    found = inliers(z), outliers(z)
    for book, own, member in zip((inliers, outliers), found, (~is_outlier, is_outlier), strict=True):
        if book.training:
            book.ema_update(z.detach()[member], own.codes[member])
    return [
        torch.where(is_outlier if a.ndim == 1 else is_outlier[:, None], b, a)
        for a, b in zip(*found, strict=True)
    ]


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(1, 40),
    share=st.sampled_from([0.0, 0.3, 1.0]),
    seed=st.integers(0, 10**6),
    training=st.booleans(),
    kind=st.sampled_from([Codebook, SoftCodebook]),
    changes=st.sampled_from([{}, {"distance": "inverse_std"}]),
)
def test_by_set_equals_both_codebooks_and_a_choice(n, share, seed, training, kind, changes):
    one = [book.train(training) for book in books(kind, seed, **changes)]
    two = copy.deepcopy(one)
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(n, 4, generator=generator)
    is_outlier = torch.rand(n, generator=generator) < share
    inputs = z.clone().requires_grad_(), z.clone().requires_grad_()
    fast, expected = quantize_by_set(*one, inputs[0], is_outlier), slow(*two, inputs[1], is_outlier)
    for ours, theirs in zip(fast, expected, strict=True):
        torch.testing.assert_close(ours, theirs)
    for a, b in zip(one, two, strict=True):
        for name, value in a.state_dict().items():
            torch.testing.assert_close(value, b.state_dict()[name], msg=name)
    if fast.vectors.requires_grad:
        for x, found in ((inputs[0], fast.vectors), (inputs[1], expected[1])):
            (found.square().sum() + 0 * x.sum()).backward()
        torch.testing.assert_close(inputs[0].grad, inputs[1].grad)
        for a, b in zip(one, two, strict=True):
            for p, q in zip(a.parameters(), b.parameters(), strict=True):
                torch.testing.assert_close(p.grad, q.grad)


@pytest.mark.parametrize("everybody", [False, True])
def test_a_set_without_members_leaves_its_codebook_alone(everybody):
    made = books()
    idle, busy = made if everybody else made[::-1]
    before = [copy.deepcopy(book.state_dict()) for book in (idle, busy)]
    quantize_by_set(*made, torch.randn(9, 4), torch.full((9,), everybody))
    assert all(torch.equal(value, before[0][name]) for name, value in idle.state_dict().items())
    assert not torch.equal(busy.mass, before[1]["mass"])


def test_half_precision_comes_out_single():
    z = torch.randn(9, 4).bfloat16()
    found = quantize_by_set(*books(), z, torch.arange(9) > 4)
    assert found.vectors.dtype == found.distance.dtype == torch.float32
