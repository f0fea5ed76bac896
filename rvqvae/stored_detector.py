"""Save and restore a `RobustVQVAE` as arrays and facts."""

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
from rvqvae.features.metric import DIRECTIONS
from rvqvae.features.patch_dictionary import PATCH, QUADRANTS, LearnedFeatures
from rvqvae.features.pretrained import DEFAULT
from rvqvae.features.timm_networks import digest
from rvqvae.membership import Evidence, JointView, names_of
from rvqvae.membership.ellipsoid import Ellipsoid
from rvqvae.model_folder import Stored, check_shapes, under
from rvqvae.priors import GatedPixelCNN
from rvqvae.priors.critic import Critic
from rvqvae.vqvae.heat_maps import CHANNELS, HeatMaps
from rvqvae.vqvae.model import TwoCodebookVQVAE

Arrays = dict[str, Tensor]


class Codes(NamedTuple):
    """Training data of the prior, which the first `sample` fits."""

    grids: Tensor
    """(M, h, w) int16 inlier codes of the inliers."""
    weights: Tensor
    """(M,) float64 weight of each."""


class StoredDetector(NamedTuple):
    """The fitted parts that score and sample."""

    scorer: Scorer
    model: TwoCodebookVQVAE | None
    prior: GatedPixelCNN | None
    codes: Codes | None
    maps: HeatMaps | None


def store_detector(
    scorer: Scorer,
    model: TwoCodebookVQVAE | None,
    prior: GatedPixelCNN | None,
    codes: Codes | None,
    maps: HeatMaps | None,
) -> Stored:
    """As arrays and facts; InputError for features that are a function."""
    backbone = scorer.backbone
    if not isinstance(backbone, str | LearnedFeatures):
        raise InputError(
            f"features={backbone!r} is a function, which a model folder cannot hold: "
            "use the name of a timm model, a file of its weights, 'efficientnet_lite0' or 'learned'"
        )
    arrays = {f"evidence.{k}": torch.as_tensor(v) for k, v in _evidence_arrays(scorer.evidence).items()}
    modules: dict[str, nn.Module | None] = {"model": model, "prior": prior}
    modules["backbone"] = backbone if isinstance(backbone, LearnedFeatures) else None
    for name, module in modules.items():
        state = {} if module is None else module.state_dict()
        arrays |= {f"{name}.{key}": value for key, value in state.items()}
    if codes is not None:
        arrays |= {"codes.grids": codes.grids, "codes.weights": codes.weights}
    if maps is not None:
        arrays |= {f"maps.{name}": array for name, array in maps._asdict().items()}
    facts = {
        "model": None if model is None else asdict(model.config),
        "prior": None if prior is None else asdict(prior.config),
        "backbone": "learned" if isinstance(backbone, LearnedFeatures) else backbone,
        "backbone_sha256": digest(backbone) if isinstance(backbone, str) else "",
        "usual_neighbour": scorer.evidence.usual_neighbour,
    }
    return Stored(arrays, facts)


def restore_detector(stored: Stored, shape: tuple[int, ...], device: str = "cpu") -> StoredDetector:
    """The inverse of `store_detector`, for samples of ``shape``. Raises any error if it is damaged."""
    arrays, facts = stored
    model = None if facts["model"] is None else _model(arrays, facts, shape).to(device).eval()
    prior = (
        None if model is None or facts["prior"] is None else _prior(arrays, facts, model).to(device).eval()
    )
    learned = facts["backbone"] == "learned" and len(shape) == 3
    width = DIRECTIONS[0] if facts["backbone"] == DEFAULT and len(shape) == 3 else prod(shape)
    evidence = _evidence(under(arrays, "evidence"), float(facts["usual_neighbour"]), width)
    backbone: Any = facts["backbone"]
    if learned:
        _check_dictionary(arrays, evidence, shape)
        backbone = LearnedFeatures.from_state(under(arrays, "backbone")).to(device)
    if not isinstance(backbone, str | LearnedFeatures):
        raise ValueError(f"backbone {backbone!r}")
    if isinstance(backbone, str) and digest(backbone) != facts.get("backbone_sha256", ""):
        raise ValueError(f"the weights are not those that it was fitted with: {backbone}")
    codes = None
    if model is not None and "codes.grids" in arrays:
        codes = Codes(arrays["codes.grids"], arrays["codes.weights"])
        m = len(codes.grids)
        check_shapes(arrays, {"codes.grids": (m, *model.grid), "codes.weights": (m,)})
        if not 0 <= int(codes.grids.min()) <= int(codes.grids.max()) < model.config.inlier_codes:
            raise ValueError("codes that are not in the codebook")
    maps = None
    if model is not None and len(shape) == 3:
        maps = HeatMaps(*(arrays[f"maps.{name}"].to(device) for name in HeatMaps._fields))
        m = len(maps.places)
        wanted = {"maps.places": (m, CHANNELS), "maps.scale": (CHANNELS,), "maps.usual": ()}
        check_shapes(arrays, wanted)
    return StoredDetector(Scorer(backbone, evidence, device), model, prior, codes, maps)


def _model(arrays: Arrays, facts: dict[str, Any], shape: tuple[int, ...]) -> TwoCodebookVQVAE:
    config = ModelConfig(**facts["model"])
    # What the facts claim costs nothing before the arrays have been seen to be there.
    if config.residual_blocks > len(arrays):
        raise ValueError(f"{config.residual_blocks} residual blocks")
    with torch.device("meta"):
        model = TwoCodebookVQVAE(shape, config)
    model.load_state_dict(under(arrays, "model"), assign=True)
    return model.to(memory_format=torch.channels_last)


def _prior(arrays: Arrays, facts: dict[str, Any], model: TwoCodebookVQVAE) -> GatedPixelCNN:
    config = PriorConfig(**facts["prior"])
    if config.layers > len(arrays):
        raise ValueError(f"{config.layers} layers")
    with torch.device("meta"):
        weights = under(arrays, "prior")
        prior = GatedPixelCNN(model.config.inlier_codes, config, len(weights["class_share"]))
        if config.choices > 1:
            prior.critic = Critic(model.inlier_codebook.codewords)
    prior.load_state_dict(weights, assign=True)
    if prior.grid_shape != model.grid:
        raise ValueError(f"prior of a grid {prior.grid_shape}")
    return prior


def _check_dictionary(arrays: Arrays, evidence: Evidence, shape: tuple[int, ...]) -> None:
    patch = (shape[0], PATCH, PATCH)
    words = len(arrays["backbone.codes"])
    wanted: dict[str, tuple[int, ...]] = {
        "backbone.whiten": (prod(patch), *patch),
        "backbone.shift": (prod(patch),),
        "backbone.codes": (words, prod(patch)),
    }
    check_shapes(arrays, wanted)
    if evidence.view.means[1].shape != (QUADRANTS**2 * words,):
        raise ValueError("features of another length than the view of them")


def _evidence_arrays(evidence: Evidence) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {
        "centroids": evidence.centroids, "reference": evidence.reference, "in_core": evidence.in_core,
        "nats": evidence.nats, "group_table": evidence.group_table,
    }  # fmt: skip
    for i, (mean, axes) in enumerate(zip(evidence.view.means, evidence.view.axes, strict=True)):
        arrays |= {f"view.{i}.mean": mean, f"view.{i}.axes": np.ascontiguousarray(axes)}
        arrays[f"view.{i}.core"] = evidence.centres[i]
    for i, e in enumerate(evidence.ellipsoids):
        arrays |= {f"ellipsoid.{i}.centre": e.centre, f"ellipsoid.{i}.precision": e.precision}
        arrays[f"ellipsoid.{i}.usual"] = np.array([e.median, e.spread])
    return arrays


def _evidence(tensors: Arrays, usual_neighbour: float, width: int) -> Evidence:
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    views = range(sum(name.startswith("view.") for name in arrays) // 3)
    view = JointView(
        tuple(arrays[f"view.{i}.mean"] for i in views), tuple(arrays[f"view.{i}.axes"] for i in views)
    )
    widths = [view.parts[-1].stop, *(axes.shape[1] for axes in view.axes)]
    groups, references = len(arrays["centroids"]), len(arrays["reference"])
    wanted: dict[str, tuple[int, ...]] = {
        "view.0.axes": (width, widths[1]),
        "centroids": (groups, widths[0]),
        "reference": (references, widths[0]),
        "in_core": (references,),
        "nats": (references,),
        "group_table": (groups, len(names_of(len(views))) - 3 * len(views) - 5),
    }
    for i in views:
        d = len(view.axes[i])
        wanted |= {f"view.{i}.mean": (d,), f"view.{i}.core": (d,)}
    for i, d in enumerate(widths):
        wanted |= {f"ellipsoid.{i}.centre": (d,), f"ellipsoid.{i}.precision": (d, d)}
        wanted[f"ellipsoid.{i}.usual"] = (2,)
    check_shapes(tensors, wanted)
    if missing := set(wanted) - set(arrays):
        raise ValueError(f"{min(missing)} is missing")
    ellipsoids = []
    for i in range(len(widths)):
        median, spread = map(float, arrays[f"ellipsoid.{i}.usual"])
        if not (isfinite(median) and 0 < spread < inf):
            raise ValueError(f"usual {median}, spread {spread}")
        ellipsoids.append(
            Ellipsoid(arrays[f"ellipsoid.{i}.centre"], arrays[f"ellipsoid.{i}.precision"], median, spread)
        )
    if not isfinite(usual_neighbour):
        raise ValueError(f"usual neighbour {usual_neighbour}")
    return Evidence(
        view, tuple(ellipsoids), arrays["centroids"], tuple(arrays[f"view.{i}.core"] for i in views),
        arrays["reference"], arrays["in_core"], arrays["nats"], usual_neighbour, arrays["group_table"],
    )  # fmt: skip
