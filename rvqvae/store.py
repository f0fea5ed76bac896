"""A fitted model as a folder: arrays in model.safetensors, the rest in model.json. Nothing is executed."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from rvqvae.checkpoint import write_atomically
from rvqvae.config import ModelConfig, PriorConfig
from rvqvae.detector import Scorer
from rvqvae.errors import InputError
from rvqvae.learned import LearnedFeatures
from rvqvae.membership import Competition, JointView, Rule
from rvqvae.membership.ellipsoid import Ellipsoid
from rvqvae.membership.linear import Linear
from rvqvae.membership.modes import Modes
from rvqvae.model import TwoCodebookVQVAE
from rvqvae.priors import GatedPixelCNN

FORMAT = 1
ARRAYS, FACTS = "model.safetensors", "model.json"
Arrays = dict[str, NDArray[Any]]


class Stored(NamedTuple):
    """What a folder holds."""

    scorer: Scorer
    prior: GatedPixelCNN | None
    prior_config: PriorConfig
    facts: dict[str, Any]
    """Whatever else was saved, of plain values."""


def save_model(path: str | Path, stored: Stored) -> None:
    """Write the folder ``path``; its two files replace older ones only when they are complete."""
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
    facts = {
        "format": FORMAT,
        "shape": list(scorer.model.shape),
        "model": asdict(scorer.model.config),
        "prior": None if prior is None else asdict(stored.prior_config),
        "backbone": "learned" if isinstance(backbone, LearnedFeatures) else backbone,
        "cut": scorer.rule.cut,
        "usual": scorer.rule.majority.usual,
        "spread": scorer.rule.majority.spread,
        "facts": stored.facts,
    }
    text = json.dumps(facts, indent=2, allow_nan=True)
    write_atomically(Path(path) / ARRAYS, save({k: v.contiguous() for k, v in tensors.items()}))
    write_atomically(Path(path) / FACTS, text.encode())


def load_model(path: str | Path, device: torch.device | str = "cpu") -> Stored:
    """Read the folder ``path``. Raises InputError for one that is missing, damaged or of a newer version."""
    path = Path(path)
    facts = _facts(path)
    try:
        tensors = load((path / ARRAYS).read_bytes())
        model = TwoCodebookVQVAE(tuple(facts["shape"]), ModelConfig(**facts["model"]))
        model.load_state_dict(_under(tensors, "model"))
        prior = None
        if facts["prior"] is not None:
            prior = GatedPixelCNN(model.config.inlier_codes, PriorConfig(**facts["prior"]))
            prior.load_state_dict(_under(tensors, "prior"))
            prior = prior.to(device).eval()
        learned = facts["backbone"] == "learned"
        scorer = Scorer(
            LearnedFeatures.from_state(_under(tensors, "backbone")) if learned else facts["backbone"],
            *_rule_of(tensors, facts, model.to(device).eval()),
        )
        return Stored(scorer, prior, PriorConfig(**(facts["prior"] or {})), facts["facts"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"{path} is not a complete model ({type(error).__name__}: {str(error).splitlines()[0][:120]}); "
            "train or save it again"
        ) from error


def _facts(path: Path) -> dict[str, Any]:
    if not (path / FACTS).is_file():
        raise InputError(f"{path} is not a model folder: it has no {FACTS}")
    try:
        facts = json.loads((path / FACTS).read_text(encoding="utf-8"))
        version = facts["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path / FACTS} is damaged ({error}); train or save the model again") from error
    if version != FORMAT:
        raise InputError(
            f"{path} has model format {version!r}, and this version of rvqvae reads {FORMAT}: "
            "use the version that saved it"
        )
    return dict(facts)


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
    views = range(sum(name.startswith("view.") for name in arrays) // 2)
    view = JointView(
        tuple(arrays[f"view.{i}.mean"] for i in views), tuple(arrays[f"view.{i}.axes"] for i in views)
    )
    majority = Ellipsoid(arrays["centre"], arrays["precision"], facts["usual"], facts["spread"])
    foreign, modes, competition = None, None, None
    if (line := arrays.get("foreign")) is not None:
        foreign = Linear(line[:-1], float(line[-1]))
    if "modes.centroids" in arrays:
        modes = Modes(arrays["modes.centroids"], arrays["modes.valleys"], float(arrays["modes.inside"]))
    if (line := arrays.get("competition")) is not None:
        competition = Competition(Linear(line[:-2], float(line[-2])), float(line[-1]))
    rule = Rule(view, majority, foreign, modes, facts["cut"])
    return rule, model, (tensors["counts.0"], tensors["counts.1"]), competition


def _under(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key.removeprefix(f"{name}."): t for key, t in tensors.items() if key.startswith(f"{name}.")}
