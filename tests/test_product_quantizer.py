"""The product quantiser against an exhaustive search of its K**M codewords, and what its steps must keep."""

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rvqvae.config import ModelConfig
from rvqvae.errors import InputError
from rvqvae.vqvae.codebook import Codebook, straight_through
from rvqvae.vqvae.product_codebook import ProductQuantizer


def made(m=3, k=4, dim=6, seed=0, **options) -> ProductQuantizer:
    quantizer = ProductQuantizer(m, k, dim, **options)
    for i, book in enumerate(quantizer.books):
        book.codewords.copy_(torch.randn(k, dim // m, generator=torch.Generator().manual_seed(seed + i)))
        book.mass.fill_(1.0)
        book.total.copy_(book.codewords)
    return quantizer


def points(n, dim=6, seed=0) -> torch.Tensor:
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(1000 + seed))


@settings(max_examples=20, deadline=None)
@given(n=st.integers(1, 20), m=st.integers(1, 3), k=st.integers(2, 4), seed=st.integers(0, 10**6))
def test_nearest_parts_make_the_nearest_of_all_products(n, m, k, seed):
    quantizer, z = made(m, k, 2 * m, seed), points(n, 2 * m, seed)
    found = quantizer(z)
    every = torch.tensor(list(product(range(k), repeat=m)))
    words = quantizer.decode(every)
    assert len(words) == k**m
    distances = (z[:, None] - words).square().sum(2)
    assert torch.equal(found.codes, every[distances.argmin(1)])
    torch.testing.assert_close(found.distance, distances.amin(1), rtol=1e-4, atol=1e-5)
    assert torch.equal(found.vectors, quantizer.decode(found.codes))
    assert torch.equal(quantizer.codewords[0], quantizer.books[0].codewords)


def test_one_codebook_is_plain_vector_quantisation():
    quantizer, z = made(1), points(50)
    plain = Codebook(4, ModelConfig(code_dim=6))
    plain.codewords.copy_(quantizer.codewords[0])
    found, expected = quantizer(z), plain(z)
    assert torch.equal(found.codes[:, 0], expected.codes) and torch.equal(found.vectors, expected.vectors)
    assert torch.equal(found.distance, expected.distance)


@settings(max_examples=20, deadline=None)
@given(n=st.integers(1, 60), decay=st.sampled_from([0.0, 0.5, 0.97]), seed=st.integers(0, 10**6))
def test_the_batch_mean_never_raises_the_error_of_its_batch(n, decay, seed):
    quantizer, z = made(seed=seed, decay=decay), points(n, seed=seed)
    codes = quantizer(z).codes
    before = (z - quantizer.decode(codes)).square().mean()
    quantizer.ema_update(z, codes)
    after = (z - quantizer.decode(codes)).square().mean()
    assert float(after) <= float(before) * (1 + 1e-5) + 1e-9


def test_without_decay_a_word_moves_to_the_mean_and_an_idle_one_stays():
    quantizer, z = made(decay=0.0), points(5)
    before, codes = quantizer.codewords, quantizer(z).codes
    quantizer.ema_update(z, codes)
    for m in range(3):
        part = z[:, 2 * m : 2 * m + 2]
        for word in range(4):
            own = part[codes[:, m] == word]
            expected = own.mean(0) if len(own) else before[m, word]
            torch.testing.assert_close(quantizer.codewords[m, word], expected)


def test_k_means_start_beats_a_random_choice_and_revival_uses_idle_words():
    z = torch.cat([points(200, 6) * 0.1 + i for i in range(4)])
    quantizer = made()
    before = float(quantizer(z).distance.mean())
    quantizer.kmeans_init(z, torch.Generator().manual_seed(0))
    assert float(quantizer(z).distance.mean()) < before / 4
    assert quantizer.usage()["dead_share"] == 0
    quantizer.books[1].mass[2] = 0
    assert quantizer.replace_dead_codes(z, torch.Generator().manual_seed(0)) == 1


def test_gradient_passes_straight_through_and_none_reaches_the_words():
    quantizer, z = made(), points(3).requires_grad_()
    straight_through(z, quantizer(z).vectors).sum().backward()
    assert torch.equal(z.grad, torch.ones(3, 6))
    assert not list(quantizer.parameters())


def test_state_makes_an_equal_quantiser():
    one, other, z = made(seed=1), ProductQuantizer(3, 4, 6), points(9)
    other.load_state_dict(one.state_dict())
    assert torch.equal(one(z).codes, other(z).codes)


def test_rows_do_not_depend_on_each_other():
    quantizer, z = made(), points(65)
    whole = quantizer(z)
    for n in (1, 32, 64):
        np.testing.assert_array_equal(quantizer(z[:n]).codes, whole.codes[:n])


@pytest.mark.parametrize(
    "arguments, match",
    [
        ((3, 4, 64), "64 dimensions cannot be cut into 3 equal parts: use 1, 2, 4"),
        ((0, 4, 8), "n_codebooks=0"),
        ((2, 1, 8), "n_codes=1"),
        ((2, 4, 8, 1.0), r"decay=1\.0.*>= 0 and < 1"),
    ],
)
def test_bad_values_name_the_limit(arguments, match):
    with pytest.raises(InputError, match=match):
        ProductQuantizer(*arguments)
