"""The two-codebook model: shapes for any size, both branches, gradients, batch invariance."""

import pytest
import torch

from rvqvae.config import ModelConfig
from rvqvae.vqvae.model import TwoCodebookVQVAE
from rvqvae.vqvae.networks import grid_shape

TINY = ModelConfig(channels=8, residual_blocks=1, code_dim=4, inlier_codes=8, outlier_codes=4)


def build(shape, config=TINY) -> TwoCodebookVQVAE:
    torch.manual_seed(0)
    model = TwoCodebookVQVAE(shape, config)
    for book in (model.inlier_codebook, model.outlier_codebook):
        book.kmeans_init(torch.randn(100, config.code_dim), torch.Generator().manual_seed(0))
    return model


def halves(n: int) -> torch.Tensor:
    return torch.arange(n) % 2 == 1


@pytest.mark.parametrize(
    "shape", [(1, 8, 8), (3, 8, 31), (1, 28, 28), (3, 33, 20), (1, 256, 256), (5,), (300,)]
)
def test_every_size_comes_back(shape):
    model = build(shape).eval()
    x = torch.rand(3, *shape)
    out = model(x, halves(3))
    assert out.reconstruction.shape == x.shape
    assert out.codes.shape == (3, *grid_shape(shape, TINY))
    assert model.decode(model.quantize(x).codes).shape == x.shape


@pytest.mark.parametrize("downsampling", [1, 2, 3])
def test_downsampling_sets_the_grid(downsampling):
    config = ModelConfig(channels=8, residual_blocks=0, code_dim=4, downsampling=downsampling)
    assert build((1, 28, 28), config).grid == (-(-28 // 2**downsampling),) * 2


def test_samples_do_not_see_their_batch():
    model = build((1, 12, 12)).eval()
    x = torch.rand(7, 1, 12, 12)
    whole = model(x, halves(7))
    for i in range(7):
        alone = model(x[i : i + 1], halves(7)[i : i + 1])
        assert torch.equal(alone.codes[0], whole.codes[i])
        assert torch.allclose(alone.reconstruction[0], whole.reconstruction[i], atol=1e-5)


def test_members_choose_the_codebook():
    model = build((1, 12, 12)).eval()
    x = torch.rand(4, 1, 12, 12)
    inlier, outlier = (model(x, torch.full((4,), m)) for m in (False, True))
    assert int(outlier.codes.max()) < 4
    assert not torch.equal(inlier.reconstruction, outlier.reconstruction)


@pytest.mark.parametrize("members", [torch.zeros(4, dtype=torch.bool), torch.ones(4, dtype=torch.bool)])
def test_a_batch_of_one_set_is_no_special_case(members):
    model = build((1, 12, 12)).train()
    idle = model.inlier_codebook if bool(members[0]) else model.outlier_codebook
    before = idle.codewords.clone()
    model.loss(model(torch.rand(4, 1, 12, 12), members)).backward()
    assert torch.equal(idle.codewords, before)
    for parameter in model.parameters():
        assert parameter.grad is not None and bool(torch.isfinite(parameter.grad).all())


def test_every_term_is_in_the_loss():
    model = build((1, 12, 12)).eval()
    out = model(torch.rand(4, 1, 12, 12), halves(4))
    expected = out.reconstruction_error.mean() / model.data_scale + 0.25 * out.quantization_error.mean()
    assert torch.allclose(model.loss(out), expected)
