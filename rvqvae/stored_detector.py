"""What a saved `RobustVQVAE` keeps of its scorer and its prior, as arrays and facts."""

from __future__ import annotations

from dataclasses import asdict
from math import inf, isfinite, prod
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rvqvae.config import ModelConfig, PriorConfig
from rvqvae.detector import Scorer
from rvqvae.errors import InputError
from rvqvae.features.patch_dictionary import PATCH, QUADRANTS, LearnedFeatures
from rvqvae.membership import Competition, JointView, Rule
from rvqvae.membership.ellipsoid import Ellipsoid
from rvqvae.membership.linear import Linear
from rvqvae.membership.modes import Modes
from rvqvae.model_folder import Stored, check_shapes, under
from rvqvae.priors import GatedPixelCNN
from rvqvae.vqvae.model import TwoCodebookVQVAE

Arrays = dict[str, NDArray[Any]]


class StoredDetector(NamedTuple):
    """What a fit leaves to score and to sample by."""

    scorer: Scorer
    prior: GatedPixelCNN | None


def store_detector(scorer: Scorer, prior: GatedPixelCNN | None) -> Stored:
    """As arrays and facts; InputError for features that are a function."""
    backbone = scorer.backbone
    if not isinstance(backbone, str | LearnedFeatures):
        raise InputError(
            f"features={backbone!r} is a function, which a model folder cannot hold: "
            "use the name of a timm model, 'efficientnet_lite0' or 'learned'"
        )
    arrays: dict[str, Tensor] = {"counts.0": scorer.counts[0], "counts.1": scorer.counts[1]}
    arrays |= {k: torch.as_tensor(v) for k, v in _rule_arrays(scorer.rule, scorer.competition).items()}
    modules: dict[str, nn.Module | None] = {"model": scorer.model, "prior": prior}
    modules["backbone"] = backbone if isinstance(backbone, LearnedFeatures) else None
    for name, module in modules.items():
        state = {} if module is None else module.state_dict()
        arrays |= {f"{name}.{key}": value for key, value in state.items()}
    facts = {
        "model": asdict(scorer.model.config),
        "prior": None if prior is None else asdict(prior.config),
        "backbone": "learned" if isinstance(backbone, LearnedFeatures) else backbone,
        "cut": scorer.rule.cut,
        "usual": scorer.rule.majority.usual,
        "spread": scorer.rule.majority.spread,
    }
    return Stored(arrays, facts)


def restore_detector(
    stored: Stored, shape: tuple[int, ...], device: torch.device | str = "cpu"
) -> StoredDetector:
    """What `store_detector` stored, of samples of ``shape``. Raises any error for what is damaged."""
    arrays, facts = stored
    model = _model(arrays, facts, shape)
    prior = _prior(arrays, facts, model)
    learned = facts["backbone"] == "learned" and len(shape) == 3
    _check_shapes(arrays, model, learned)
    backbone = LearnedFeatures.from_state(under(arrays, "backbone")) if learned else facts["backbone"]
    if not isinstance(backbone, str | LearnedFeatures):
        raise ValueError(f"backbone {backbone!r}")
    if isinstance(backbone, LearnedFeatures):
        backbone = backbone.to(device)
    scorer = Scorer(backbone, *_rule_of(arrays, facts, model.to(device).eval()))
    return StoredDetector(scorer, prior and prior.to(device).eval())


def _model(arrays: dict[str, Tensor], facts: dict[str, Any], shape: tuple[int, ...]) -> TwoCodebookVQVAE:
    # Folders of before 0.1.0 name an option that is gone; its only value in use was today's behaviour.
    config = ModelConfig(**{name: value for name, value in facts["model"].items() if name != "update"})
    # What the facts claim costs nothing before the arrays have been seen to be there.
    if config.residual_blocks > len(arrays):
        raise ValueError(f"{config.residual_blocks} residual blocks")
    with torch.device("meta"):
        model = TwoCodebookVQVAE(shape, config)
    model.load_state_dict(under(arrays, "model"), assign=True)
    return model


def _prior(arrays: dict[str, Tensor], facts: dict[str, Any], model: TwoCodebookVQVAE) -> GatedPixelCNN | None:
    if facts["prior"] is None:
        return None
    config = PriorConfig(**facts["prior"])
    if config.layers > len(arrays):
        raise ValueError(f"{config.layers} layers")
    with torch.device("meta"):
        weights = under(arrays, "prior")
        prior = GatedPixelCNN(model.config.inlier_codes, config, len(weights["class_share"]))
    prior.load_state_dict(weights, assign=True)
    if prior.grid_shape != model.grid:
        raise ValueError(f"prior of a grid {prior.grid_shape}")
    return prior


def _check_shapes(arrays: dict[str, Tensor], model: TwoCodebookVQVAE, learned: bool) -> None:
    """Whether the arrays fit each other."""
    axes = [arrays[f"view.{i}.axes"] for i in range(_views(arrays))]
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
    if "modes.centroids" in arrays:
        wanted["modes.centroids"] = (*arrays["modes.valleys"].shape, width)
    if learned:
        patch = (model.shape[0], PATCH, PATCH)
        words = len(arrays["backbone.codes"])
        wanted |= {
            "backbone.whiten": (prod(patch), *patch),
            "backbone.shift": (prod(patch),),
            "backbone.codes": (words, prod(patch)),
            "view.1.mean": (QUADRANTS**2 * words,),
        }
    check_shapes(arrays, wanted)


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


def _views(arrays: dict[str, Tensor]) -> int:
    return sum(name.startswith("view.") for name in arrays) // 2
