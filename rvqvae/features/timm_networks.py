"""Networks of timm as backbones, by name or from a file of weights.

timm is imported when one is asked for: that takes seconds.
"""

from __future__ import annotations

import hashlib
import json
import sys
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from rvqvae.errors import InputError

SUFFIX = ".safetensors"
SIDE, LARGEST = 64, 224
"""Pixels that a network sees by default: SIDE if it takes any size; else its own, at most LARGEST, as
images are read at 64 pixels by default and every doubling costs four times as much."""
Colour = tuple[float, ...]


class TimmNetwork(NamedTuple):
    """A network without its classifier, and what it expects."""

    module: nn.Module
    """(B, 3, size, size), normalised, to (B, d)."""
    size: int
    mean: Colour
    """Of grey levels, 0 to 255, for each of three channels."""
    std: Colour


def is_file(backbone: str) -> bool:
    """Whether a backbone's name is that of a file of weights."""
    return backbone.endswith(SUFFIX)


def digest(backbone: str) -> str:
    """SHA-256 of a file of weights; empty for a network that a name identifies."""
    return hashlib.sha256(Path(backbone).read_bytes()).hexdigest() if is_file(backbone) else ""


@lru_cache(maxsize=2)
def timm_network(name: str, size: int | None = None) -> TimmNetwork:
    """The network called ``name``, or whose weights are in the file ``name``, for images of ``size`` pixels.

    A name may download weights; a file never does. The architecture of a file is what a config.json beside
    it says (as timm's own repositories do), else what its name says: vit_small_patch14_dinov2.safetensors,
    or a part that several names have, of which the first is taken whose arrays have the same shapes
    (dinov2.safetensors). InputError for anything else, and for weights that are not all there.
    """
    if is_file(name):
        return _from_file(Path(name), size)
    import timm

    if ":" not in name and not timm.is_model(name):  # "hf-hub:owner/model" is looked up by timm itself
        raise InputError(f"backbone={name!r} is not a timm model: see timm.list_models(pretrained=True)")
    try:
        return _network(name, size, pretrained=True)
    except InputError:
        raise
    except Exception as error:  # whatever the download layer raises
        raise InputError(
            f"backbone={name!r}: its pretrained weights could not be had ({error}); "
            "use 'efficientnet_lite0', which needs no download, or give a .safetensors file"
        ) from error


def _network(name: str, size: int | None, **options: Any) -> TimmNetwork:
    timm: Any = import_module("timm")
    with torch.device("meta"):
        config = timm.create_model(name, num_classes=0, **_shape(options)).pretrained_cfg
    own, fixed = config["input_size"][-1], config.get("fixed_input_size", False)
    side: int = size or (min(own, LARGEST) if fixed else SIDE)
    try:
        network = timm.create_model(name, num_classes=0, **options, **({"img_size": side} if fixed else {}))
    except TypeError as error:
        if not fixed or side != own:
            raise InputError(
                f"size={side} does not fit backbone={name!r}: it takes {own} pixels only"
            ) from error
        network = timm.create_model(name, num_classes=0, **options)
    found = timm.data.resolve_model_data_config(network)
    return TimmNetwork(network.eval(), side, _levels(found["mean"]), _levels(found["std"]))


def _shape(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name != "pretrained"}


def _from_file(path: Path, size: int | None) -> TimmNetwork:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"features={str(path)!r} cannot be read ({error}): give a {SUFFIX} file of a timm model"
        ) from error
    facts = _config_of(path)
    name = facts["architecture"] if "architecture" in facts else _architecture(path, state)
    network = _network(name, size, **facts.get("model_args", {}))
    # As timm does with what it downloads: other layouts are rewritten, position embeddings resampled.
    module = sys.modules[type(network.module).__module__]
    if convert := getattr(module, "checkpoint_filter_fn", None):
        state = convert(state, network.module)
    module_of: Any = network.module
    classifier = module_of.pretrained_cfg["classifier"]
    heads = (classifier,) if isinstance(classifier, str) else tuple(classifier or ())
    state = {key: value for key, value in state.items() if not key.startswith(heads)}
    try:
        network.module.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path} does not hold the weights of {name!r} ({reason})") from error
    preprocessing = facts.get("pretrained_cfg", {})
    mean, std = (_levels(preprocessing[key]) if key in preprocessing else old for key, old in
                 (("mean", network.mean), ("std", network.std)))  # fmt: skip
    return network._replace(mean=mean, std=std)


def _config_of(path: Path) -> dict[str, Any]:
    """What config.json in the same folder says; nothing if there is none."""
    import timm

    config = path.with_name("config.json")
    if not config.is_file():
        return {}
    try:
        facts = json.loads(config.read_text(encoding="utf-8"))
        if not timm.is_model(facts["architecture"]):
            raise ValueError(f"architecture {facts['architecture']!r}")
        return dict(facts)
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise InputError(
            f"{config} is not that of a timm model ({error}): move it away, or repair it"
        ) from error


def _architecture(path: Path, state: dict[str, torch.Tensor]) -> str:
    """By the name of the file, and the shapes of what is in it."""
    import timm

    stem = path.stem if timm.is_model_pretrained(path.stem) else path.stem.partition(".")[0]
    if timm.is_model(stem):
        return stem
    names = timm.list_models(f"*{stem}*")
    for name in names:
        with torch.device("meta"):
            wanted = timm.create_model(name).state_dict()
        # Position embeddings follow the size of the images.
        if all(
            key in state and (state[key].shape == value.shape or "pos_embed" in key)
            for key, value in wanted.items()
            if not key.startswith(("head", "fc", "classifier"))
        ):
            return name
    raise InputError(
        f"features={str(path)!r}: of which network these are the weights cannot be told: name the file like "
        f"its timm model, such as vit_small_patch14_dinov2{SUFFIX}, or put timm's config.json beside it"
    )


def _levels(fractions: tuple[float, ...]) -> Colour:
    return tuple(255 * value for value in fractions)
