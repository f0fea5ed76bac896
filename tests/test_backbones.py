"""Backbones from files, offline: a tiny network of random weights for each architecture."""

import json

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from rvqvae import RobustVQVAE
from rvqvae.commands.main import main
from rvqvae.errors import InputError
from rvqvae.features import timm_networks
from rvqvae.features.pretrained import extract_features

VIT = {"embed_dim": 24, "depth": 2, "num_heads": 2}
TINY = {
    "vit_small_patch14_dinov2": VIT,
    "vit_small_patch16_dinov3": VIT,
    "vit_base_patch32_clip_224": VIT,
    "eva02_base_patch16_clip_224": VIT,
    "resnet50_clip": {},
    "convnext_atto": {"depths": (1, 1, 1, 1), "dims": (4, 8, 12, 16)},
    "resnet10t": {},
    "swin_tiny_patch4_window7_224": {"embed_dim": 12, "depths": (1, 1, 1, 1), "num_heads": (1, 1, 2, 2)},
}
MEAN, STD = (0.5, 0.4, 0.3), (0.3, 0.2, 0.1)


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    timm_networks.timm_network.cache_clear()


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (3, 1, 20, 20), dtype=np.uint8)


def weights(folder, name, **shape):
    """As timm publishes a model: weights with their classifier, and config.json."""
    torch.manual_seed(0)
    network = timm.create_model(name, num_classes=5, **shape).eval()
    folder.mkdir(exist_ok=True)
    save_file(network.state_dict(), folder / "model.safetensors")
    told = {"architecture": name, "model_args": shape, "pretrained_cfg": {"mean": MEAN, "std": STD}}
    (folder / "config.json").write_text(json.dumps(told))
    network.reset_classifier(0)
    return folder / "model.safetensors", network


@pytest.mark.parametrize("name", TINY)
def test_a_file_gives_what_its_network_gives(name, tmp_path, images):
    path, network = weights(tmp_path, name, **TINY[name])
    own = network.pretrained_cfg["input_size"][-1]
    features = extract_features(images, str(path), size=own)
    x = torch.nn.functional.interpolate(
        torch.tensor(images).float(), (own, own), mode="bilinear", antialias=True, align_corners=False
    )
    with torch.inference_mode():
        x = (x / 255 - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)
        np.testing.assert_allclose(features, network(x), atol=2e-4, rtol=1e-3)
    # By itself it is small: images are small, and every doubling costs four times as much.
    takes_any = name in ("convnext_atto", "resnet10t")
    assert timm_networks.timm_network(str(path)).size == (64 if takes_any else min(own, 224))
    assert extract_features(images, str(path)).shape == features.shape


def test_the_name_of_the_file_will_do(tmp_path, images):
    path, _ = weights(tmp_path / "timm", "resnet10t")
    alone = tmp_path / "resnet10t.lvd142m.safetensors"
    alone.write_bytes(path.read_bytes())
    torch.manual_seed(0)
    save_file(timm.create_model("vit_tiny_patch16_dinov3_qkvb").state_dict(), tmp_path / "dinov3.safetensors")
    assert extract_features(images, str(alone)).shape == (3, 512)
    assert extract_features(images, str(tmp_path / "dinov3.safetensors")).shape == (3, 192)


def test_a_file_that_is_none(tmp_path, images):
    with pytest.raises(InputError, match="cannot be read"):
        extract_features(images, str(tmp_path / "away.safetensors"))
    save_file({"a": torch.zeros(1)}, tmp_path / "resnet10t.safetensors")
    with pytest.raises(InputError, match="does not hold the weights of 'resnet10t'"):
        extract_features(images, str(tmp_path / "resnet10t.safetensors"))
    save_file({"a": torch.zeros(1)}, tmp_path / "strange.safetensors")
    with pytest.raises(InputError, match="cannot be told"):
        extract_features(images, str(tmp_path / "strange.safetensors"))
    (tmp_path / "config.json").write_text('{"architecture": "none"}')
    with pytest.raises(InputError, match="not that of a timm model"):
        extract_features(images, str(tmp_path / "strange.safetensors"))


def test_a_saved_model_knows_its_weights(tmp_path, images):
    path, _ = weights(tmp_path / "net", "convnext_atto", **TINY["convnext_atto"])
    many = np.random.default_rng(0).integers(0, 256, (40, 20, 20), dtype=np.uint8)
    model = RobustVQVAE(features=str(path), epochs=0, random_state=0).fit(many)
    model.save(tmp_path / "model")
    again = RobustVQVAE.load(tmp_path / "model")
    np.testing.assert_allclose(again.score_samples(many), model.score_samples(many), atol=1e-4)
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(InputError, match="the weights are not those that it was fitted with"):
        RobustVQVAE.load(tmp_path / "model")


@pytest.mark.parametrize("options", [(), ("--dry-run",)])
def test_a_wrong_network_is_refused_before_anything_is_read(options, tmp_path, capsys, monkeypatch):
    def read(*_, **__):
        raise AssertionError("read")

    monkeypatch.setattr("rvqvae.commands.read.read_source", read)
    np.savez(tmp_path / "in.npz", x=np.zeros((20, 8, 8), np.uint8))
    words = ["clean", str(tmp_path / "in.npz"), "--out", str(tmp_path / "out"), *options]
    assert main([*words, "--features", "no_such_net"]) == 2
    assert "no_such_net" in capsys.readouterr().err and not (tmp_path / "out").exists()
