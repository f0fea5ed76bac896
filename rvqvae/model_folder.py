"""A fitted model as a folder: arrays in model.safetensors, the rest in model.json. Nothing is executed.

model.json names the arrays that it goes with by their SHA-256, so that no two saves are ever mixed up.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict
from math import inf, isfinite, prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from rvqvae.atomic import write_atomically
from rvqvae.config import ModelConfig, PriorConfig
from rvqvae.detector import Scorer
from rvqvae.errors import InputError
from rvqvae.features.patch_dictionary import PATCH, QUADRANTS, LearnedFeatures
from rvqvae.membership import Competition, JointView, Rule
from rvqvae.membership.ellipsoid import Ellipsoid
from rvqvae.membership.linear import Linear
from rvqvae.membership.modes import Modes
from rvqvae.priors import GatedPixelCNN
from rvqvae.vqvae.model import TwoCodebookVQVAE

FORMAT = 1
ARRAYS, FACTS = "model.safetensors", "model.json"
NEXT = f"{ARRAYS}.next"
"""Where new arrays wait until model.json names them: at no moment is the folder without a whole model."""
LARGEST = {ARRAYS: 2**32, FACTS: 2**26}
"""Bytes of the files of a model, which are read into memory whole."""
Arrays = dict[str, NDArray[Any]]


class Stored(NamedTuple):
    """What a folder holds."""

    scorer: Scorer
    prior: GatedPixelCNN | None
    facts: dict[str, Any]
    """Whatever else was saved, of plain values."""


def save_model(path: str | Path, stored: Stored) -> None:
    """Write the folder ``path``; killed at any moment, it holds the old model or the new one."""
    path = Path(path)
    scorer, prior = stored.scorer, stored.prior
    backbone = scorer.backbone
    if not isinstance(backbone, str | LearnedFeatures):
        raise InputError(
            f"features={backbone!r} is a function, which a model folder cannot hold: "
            "use the name of a timm model, 'efficientnet_lite0' or 'learned'"
        )
    tensors: dict[str, Tensor] = {"counts.0": scorer.counts[0], "counts.1": scorer.counts[1]}
    tensors |= {k: torch.as_tensor(v) for k, v in _rule_arrays(scorer.rule, scorer.competition).items()}
    modules: dict[str, nn.Module | None] = {"model": scorer.model, "prior": prior}
    modules["backbone"] = backbone if isinstance(backbone, LearnedFeatures) else None
    for name, module in modules.items():
        state = {} if module is None else module.state_dict()
        tensors |= {f"{name}.{key}": value.cpu() for key, value in state.items()}
    arrays = save({k: v.contiguous() for k, v in tensors.items()})
    facts = {
        "format": FORMAT,
        "sha256": hashlib.sha256(arrays).hexdigest(),
        "shape": list(scorer.model.shape),
        "model": asdict(scorer.model.config),
        "prior": None if prior is None else asdict(prior.config),
        "backbone": "learned" if isinstance(backbone, LearnedFeatures) else backbone,
        "cut": scorer.rule.cut,
        "usual": scorer.rule.majority.usual,
        "spread": scorer.rule.majority.spread,
        "facts": stored.facts,
    }
    try:
        text = json.dumps(facts, indent=2)
    except (TypeError, ValueError) as error:
        raise InputError(f"metadata must be plain values, as in JSON ({error})") from error
    write_atomically(path / NEXT, arrays)
    write_atomically(path / FACTS, text.encode())
    os.replace(path / NEXT, path / ARRAYS)


def load_model(path: str | Path, device: torch.device | str = "cpu") -> Stored:
    """Read the folder ``path``. Raises InputError for one that is missing, damaged or of a newer version."""
    path = Path(path)
    facts = _facts(path)
    try:
        tensors = load(_arrays(path, facts["sha256"]))
        model = _model(tensors, facts)
        prior = _prior(tensors, facts, model)
        learned = facts["backbone"] == "learned" and len(facts["shape"]) == 3
        _check_shapes(tensors, model, learned)
        backbone = LearnedFeatures.from_state(_under(tensors, "backbone")) if learned else facts["backbone"]
        if not isinstance(backbone, str | LearnedFeatures):
            raise ValueError(f"backbone {backbone!r}")
        if isinstance(backbone, LearnedFeatures):
            backbone = backbone.to(device)
        scorer = Scorer(backbone, *_rule_of(tensors, facts, model.to(device).eval()))
        return Stored(scorer, prior and prior.to(device).eval(), dict(facts["facts"]))
    except (
        OSError,
        SafetensorError,
        LookupError,
        TypeError,
        ValueError,
        ArithmeticError,
        RuntimeError,
    ) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:160]
        raise InputError(f"{path} is not a complete model ({reason}); train or save it again") from error


def _facts(path: Path) -> dict[str, Any]:
    if not (path / FACTS).is_file():
        raise InputError(f"{path} is not a model folder: it has no {FACTS}")
    _check_size(path / FACTS, LARGEST[FACTS])
    try:
        facts = json.loads((path / FACTS).read_text(encoding="utf-8"))
        version = facts["format"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise InputError(f"{path / FACTS} is damaged ({error}); train or save the model again") from error
    if version != FORMAT:
        raise InputError(
            f"{path} has model format {version!r}, and this version of rvqvae reads {FORMAT}: "
            "use the version that saved it"
        )
    return dict(facts)


def _arrays(path: Path, digest: str) -> bytes:
    for name in (ARRAYS, NEXT):
        if (path / name).is_file():
            _check_size(path / name, LARGEST[ARRAYS])
            content = (path / name).read_bytes()
            if hashlib.sha256(content).hexdigest() == digest:
                return content
    raise ValueError(f"{ARRAYS} is missing, or not the one that {FACTS} was written with")


def _check_size(file: Path, limit: int) -> None:
    if (size := file.stat().st_size) > limit:
        raise InputError(
            f"{file} has {size:,} bytes, above the limit of {limit:,} for a model: it is none of ours"
        )


def _model(tensors: dict[str, Tensor], facts: dict[str, Any]) -> TwoCodebookVQVAE:
    config = ModelConfig(**facts["model"])
    # What the facts claim costs nothing before the arrays have been seen to be there.
    if config.residual_blocks > len(tensors):
        raise ValueError(f"{config.residual_blocks} residual blocks")
    if not all(size > 0 for size in facts["shape"]):
        raise ValueError(f"shape {facts['shape']}")
    with torch.device("meta"):
        model = TwoCodebookVQVAE(tuple(facts["shape"]), config)
    model.load_state_dict(_under(tensors, "model"), assign=True)
    return model


def _prior(
    tensors: dict[str, Tensor], facts: dict[str, Any], model: TwoCodebookVQVAE
) -> GatedPixelCNN | None:
    if facts["prior"] is None:
        return None
    config = PriorConfig(**facts["prior"])
    if config.layers > len(tensors):
        raise ValueError(f"{config.layers} layers")
    with torch.device("meta"):
        weights = _under(tensors, "prior")
        prior = GatedPixelCNN(model.config.inlier_codes, config, len(weights["class_share"]))
    prior.load_state_dict(weights, assign=True)
    if prior.grid_shape != model.grid:
        raise ValueError(f"prior of a grid {prior.grid_shape}")
    return prior


def _check_shapes(tensors: dict[str, Tensor], model: TwoCodebookVQVAE, learned: bool) -> None:
    """Whether the arrays fit each other, as numpy would stretch some that do not."""
    axes = [tensors[f"view.{i}.axes"] for i in range(_views(tensors))]
    width = sum(a.shape[1] for a in axes)
    positions, config = prod(model.grid), model.config
    wanted: dict[str, tuple[int, ...]] = {
        "counts.0": (positions, config.inlier_codes),
        "counts.1": (positions, config.outlier_codes),
        "centre": (width,),
        "precision": (width, width),
        "foreign": (width + 1,),
        "competition": (6,),
        "modes.inside": (),
    }
    wanted |= {f"view.{i}.mean": a.shape[:1] for i, a in enumerate(axes)}
    wanted["view.0.axes"] = (prod(model.shape), axes[0].shape[1])
    if "modes.centroids" in tensors:
        wanted["modes.centroids"] = (*tensors["modes.valleys"].shape, width)
    if learned:
        patch = (model.shape[0], PATCH, PATCH)
        words = len(tensors["backbone.codes"])
        wanted |= {
            "backbone.whiten": (prod(patch), *patch),
            "backbone.shift": (prod(patch),),
            "backbone.codes": (words, prod(patch)),
            "view.1.mean": (QUADRANTS**2 * words,),
        }
    for name, shape in wanted.items():
        if name in tensors and tuple(tensors[name].shape) != shape:
            raise ValueError(f"{name} of shape {tuple(tensors[name].shape)}, not {shape}")


def _rule_arrays(rule: Rule, competition: Competition | None) -> Arrays:
    arrays: Arrays = {"centre": rule.majority.centre, "precision": rule.majority.precision}
    for i, (mean, axes) in enumerate(zip(rule.view.means, rule.view.axes, strict=True)):
        arrays |= {f"view.{i}.mean": mean, f"view.{i}.axes": np.ascontiguousarray(axes)}
    if rule.foreign is not None:
        arrays["foreign"] = np.append(rule.foreign.weights, rule.foreign.bias)
    if rule.modes is not None:
        arrays |= {"modes.centroids": rule.modes.centroids, "modes.valleys": rule.modes.valleys}
        arrays["modes.inside"] = np.array(rule.modes.inside)
    if competition is not None:
        odds = competition.odds
        arrays["competition"] = np.concatenate([odds.weights, [odds.bias, competition.prior]])
    return arrays


def _rule_of(
    tensors: dict[str, Tensor], facts: dict[str, Any], model: TwoCodebookVQVAE
) -> tuple[Rule, TwoCodebookVQVAE, tuple[Tensor, Tensor], Competition | None]:
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    views = range(_views(tensors))
    view = JointView(
        tuple(arrays[f"view.{i}.mean"] for i in views), tuple(arrays[f"view.{i}.axes"] for i in views)
    )
    cut, usual, spread = (float(facts[name]) for name in ("cut", "usual", "spread"))
    if not (isfinite(cut) and isfinite(usual) and 0 < spread < inf):
        raise ValueError(f"cut {cut}, usual {usual}, spread {spread}")
    majority = Ellipsoid(arrays["centre"], arrays["precision"], usual, spread)
    foreign, modes, competition = None, None, None
    if (line := arrays.get("foreign")) is not None:
        foreign = Linear(line[:-1], float(line[-1]))
    if "modes.centroids" in arrays:
        modes = Modes(arrays["modes.centroids"], arrays["modes.valleys"], float(arrays["modes.inside"]))
    if (line := arrays.get("competition")) is not None:
        competition = Competition(Linear(line[:-2], float(line[-2])), float(line[-1]))
    rule = Rule(view, majority, foreign, modes, cut)
    return rule, model, (tensors["counts.0"], tensors["counts.1"]), competition


def _views(tensors: dict[str, Tensor]) -> int:
    return sum(name.startswith("view.") for name in tensors) // 2


def _under(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key.removeprefix(f"{name}."): t for key, t in tensors.items() if key.startswith(f"{name}.")}
