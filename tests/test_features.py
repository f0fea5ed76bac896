import numpy as np
import pytest
import torch

from rvqvae.errors import InputError
from rvqvae.features.pretrained import efficientnet_lite0, extract_features, fold_batch_norm, named_backbone


@pytest.fixture(scope="module")
def backbone():
    return named_backbone("efficientnet_lite0", 64)


def images(n, channels=1, size=28, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, channels, size, size), dtype=np.uint8)


def test_lite0_has_all_weights_and_knows_more_than_noise():
    network = efficientnet_lite0()
    assert not network.training
    weights = [k for k in network.state_dict() if not k.endswith("num_batches_tracked")]
    assert len(weights) == 247 - 2  # without the classifier
    with torch.inference_mode():
        out = network(torch.zeros(1, 3, 64, 64))
    assert out.shape == (1, 1280)
    # Trained batch norms have running variances far from the initial 1.
    assert (network.bn1.running_var - 1).abs().max() > 0.1


def test_folding_keeps_the_outputs():
    x = torch.tensor(images(4, 3, 64)).float().sub(127).div(128)
    with torch.inference_mode():
        folded = fold_batch_norm(efficientnet_lite0())
        torch.testing.assert_close(folded(x), efficientnet_lite0()(x), atol=1e-4, rtol=1e-4)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in folded.modules())


def test_matches_a_plain_pass():
    x = images(3, 3)
    resized = torch.nn.functional.interpolate(
        torch.tensor(x).float(), (64, 64), mode="bilinear", antialias=True, align_corners=False
    )
    with torch.inference_mode():
        expected = efficientnet_lite0()((resized - 127) / 128).numpy()
    np.testing.assert_allclose(extract_features(x), expected, atol=1e-4, rtol=1e-4)


def test_alone_or_in_a_batch(backbone):
    x = images(9)
    together = extract_features(x, backbone, batch_size=4)
    alone = np.concatenate([extract_features(x[i : i + 1], backbone) for i in range(9)])
    assert together.shape == (9, 1280) and together.dtype == np.float32
    np.testing.assert_allclose(together, alone, atol=3e-5, rtol=1e-5)


def test_grey_equals_its_rgb_copy(backbone):
    x = images(2)
    np.testing.assert_allclose(
        extract_features(x, backbone), extract_features(np.repeat(x, 3, axis=1), backbone), atol=1e-5
    )


def test_accepts_read_only_images_of_any_size(backbone):
    x = images(2, 3, 100)
    x.setflags(write=False)
    assert extract_features(x, backbone).shape == (2, 1280)


def test_callable_backbone_gets_uint8_batches():
    def mean(batch):
        assert batch.dtype == torch.uint8
        return batch.float().mean((2, 3))

    x = images(5, 3)
    np.testing.assert_allclose(extract_features(x, mean, batch_size=2), x.mean((2, 3)), rtol=1e-5)


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (images(2).astype(np.float32), {}, "uint8"),
        (images(2)[:, 0], {}, "uint8"),
        (images(2, 2), {}, "1 or 3"),
        (images(0), {}, "none 0"),
        (images(2), {"batch_size": 0}, "batch_size=0"),
        (images(2), {"size": 16}, "size=16"),
        (images(2), {"backbone": "no_such_net"}, "no_such_net"),
        (images(2), {"backbone": lambda batch: batch.float()}, "must return"),
    ],
)
def test_bad_input(x, options, message):
    with pytest.raises(InputError, match=message):
        extract_features(x, **options)
