"""A fitted scorer as an ONNX file, which scores images without this package, PyTorch or Python.

The graph is traced from the package's own network and statistics where ONNX has their operations; the rest is
written here: resizing, quantiles of sorted values and the Fourier transform as matrices, the judge's
interpolation as a sum of clipped pieces. What follows the network is in float64: neighbours are the same.
Nothing is taken on trust: a file is kept only if ONNX Runtime gives the scores that `score_samples` gives.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from rvqvae.atomic import write_atomically
from rvqvae.errors import InputError
from rvqvae.estimator import RobustVQVAE
from rvqvae.features.efficientnet import FEATURES, MEAN, STD, efficientnet_lite0
from rvqvae.features.metric import learned_metric
from rvqvae.features.plants import draw_plants
from rvqvae.features.pretrained import DEFAULT, STYLE, AllStages
from rvqvae.features.statistics import (
    QUANTILES,
    SCALES,
    STATISTICS,
    bands,
    edges,
    layout,
    palette,
    tint,
)
from rvqvae.features.timm_networks import SIDE
from rvqvae.membership import Evidence, Judge, names_of
from rvqvae.membership.answers import LARGEST, WEIGHTS
from rvqvae.membership.evidence import NEIGHBOURS
from rvqvae.membership.judge import BEND, CONTEXT, KEY, SCORES
from rvqvae.questions import Inquiry

FORMAT = 1
"""Of the file: its input and outputs, and what they mean."""
OUTPUTS = ("score", "log_odds", "outlier_probability")
OPSET = 18
LIMIT = 1e-4
"""By which log odds may differ from `score_samples`, as a share of their size where that is above 1."""
COMPARED, BATCH = 1000, 128
FAR = 1e300


def export_scorer(
    model: RobustVQVAE, out: Path, images: NDArray[np.uint8] | None = None, seed: int = 0
) -> tuple[int, int, float]:
    """Write ``model`` to ``out``; return how many of ``images`` and of drawn ones both were compared on, and
    the largest difference.

    The file takes ``images``, uint8 (N, C, H, W) of the model's shape, and gives OUTPUTS, float64 (N,).
    Compared are at most COMPARED: ``images`` (M, C, H, W), spaced evenly, and drawn ones (`draw_plants`) for
    the rest. InputError, and no file, for what cannot be exported, and where a difference is above LIMIT.
    """
    if len(model.shape_) != 3 or model._scorer.backbone != DEFAULT:
        what = "vectors" if len(model.shape_) != 3 else f"features={model._scorer.backbone!r}"
        raise InputError(f"a model of {what} cannot be exported to ONNX: fit one of images, with {DEFAULT!r}")
    content = _traced(model)
    session = open_scorer(content)
    shown = _shown(model.shape_, images, seed)
    ours = -model.score_samples(shown)
    batches = np.split(shown, [1, *range(BATCH, len(shown), BATCH)])
    theirs = [session.run(["log_odds"], {"images": batch})[0] for batch in batches]
    apart = np.abs(np.concatenate(theirs) - ours) / np.maximum(np.abs(ours), 1)
    worst, given = int(np.argmax(apart)), 0 if images is None else min(len(images), COMPARED)
    if not apart[worst] <= LIMIT:
        drawn = worst >= given
        raise InputError(
            f"{out} was not written: of {'drawn' if drawn else 'given'} image {worst - given * drawn}, ONNX "
            f"Runtime's log odds differ by {apart[worst]:.3g}, above {LIMIT:g}: "
            f"{'draw others with another seed, ' if drawn else ''}use the model folder, or report this"
        )
    write_atomically(out, content)
    return given, len(shown) - given, float(apart[worst])


def open_scorer(file: str | Path | bytes) -> Any:
    """An onnxruntime.InferenceSession of a scorer; InputError for what is none, or of another version."""
    runtime = _extra("onnxruntime")
    name = "the graph" if isinstance(file, bytes) else file
    try:
        session = runtime.InferenceSession(
            file if isinstance(file, bytes) else str(file), providers=["CPUExecutionProvider"]
        )
        facts = session.get_modelmeta().custom_metadata_map
    except Exception as error:  # onnxruntime's own have no common base.
        raise InputError(
            f"{name} cannot be read as ONNX ({type(error).__name__}): export it again"
        ) from error
    if (version := facts.get("rvqvae_format")) != str(FORMAT):
        held = "is no scorer of rvqvae" if version is None else f"has scorer format {version}"
        raise InputError(f"{name} {held}, and this version of rvqvae reads {FORMAT}: export it again")
    return session


def _extra(name: str) -> Any:
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(f"ONNX needs {name}: install the extra rvqvae[onnx]") from error


def _traced(model: RobustVQVAE) -> bytes:
    onnx = _extra("onnx")
    names = ["images", *OUTPUTS]
    with TemporaryDirectory() as folder, warnings.catch_warnings(), torch.inference_mode():
        # The newer exporter needs one more package, onnxscript.
        warnings.simplefilter("ignore", DeprecationWarning)
        # Sizes become constants, as they shall; that N does not is seen when 1 and many images are compared.
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
        path = Path(folder) / "traced.onnx"
        torch.onnx.export(
            _Graph(model).eval(), (torch.zeros(2, *model.shape_, dtype=torch.uint8),), path, dynamo=False,
            opset_version=OPSET, input_names=names[:1], output_names=names[1:],
            dynamic_axes={name: {0: "n"} for name in names},
        )  # fmt: skip
        found = onnx.load(path)
    facts = {"rvqvae_format": FORMAT, "offset": model.offset_, "threshold": model.threshold_}
    onnx.helper.set_model_props(found, {name: str(value) for name, value in facts.items()})
    return bytes(found.SerializeToString())


def _shown(shape: tuple[int, ...], images: NDArray[np.uint8] | None, seed: int) -> NDArray[np.uint8]:
    given = np.empty((0, *shape), np.uint8) if images is None else images
    rows = np.unique(np.linspace(0, len(given) - 1, min(len(given), COMPARED)).astype(int))
    parts = [given[rows]]
    while (missing := COMPARED - sum(map(len, parts))) > 0:
        parts.append(draw_plants((shape[0], shape[1], shape[2]), seed + len(parts))[:missing])
    return np.concatenate(parts)


class _Graph(nn.Module):
    """uint8 (N, C, H, W) to the OUTPUTS."""

    def __init__(self, model: RobustVQVAE) -> None:
        super().__init__()
        scorer = model._scorer
        self.views = _Views(model.shape_)
        self.evidence, self.judge = (
            _Evidence(scorer.evidence),
            _Judge(scorer.judge, len(scorer.evidence.centres)),
        )
        self.answers = _Answers(model.inquiry_, -model.offset_)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        table, z = self.evidence(self.views(images))
        log_odds = self.answers(z, self.judge(table))
        return -log_odds, log_odds, torch.sigmoid(log_odds)


class _Held(nn.Module):
    """A module that holds arrays as constants."""

    def hold(self, name: str, value: Any, dtype: torch.dtype = torch.float64) -> None:
        self.register_buffer(name, torch.as_tensor(np.array(value)).to(dtype))

    def __getattr__(self, name: str) -> Any:  # torch says Tensor | Module.
        return super().__getattr__(name)


class _Views(_Held):
    """uint8 (N, C, H, W) to the views in the learned metric, as `detector.views_of`."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        _, height, width = shape
        self.network = AllStages(efficientnet_lite0())
        for name, side in (("rows", height), ("columns", width)):
            one = torch.eye(side)[None, None]
            fixed = F.interpolate(one, (SIDE, side), mode="bilinear", antialias=True, align_corners=False)
            self.hold(name, fixed[0, 0], torch.float32)
        self.resized = (height, width) != (SIDE, SIDE)
        place = torch.tensor(QUANTILES) * (height * width - 1)
        below, count = place.long(), torch.arange(len(QUANTILES))
        shares = torch.zeros(height * width, len(QUANTILES))
        shares[below, count] += 1 - (place - below)
        shares[(below + 1).clamp(max=height * width - 1), count] += place - below
        self.hold("shares", shares, torch.float64)
        for name, side, kept in (("y", height, height), ("x", width, width // 2 + 1)):
            angle = -2 * np.pi * np.outer(np.arange(side), np.arange(kept)) / side
            self.hold(f"cos_{name}", np.cos(angle))
            self.hold(f"sin_{name}", np.sin(angle))
        masks = torch.stack([band.flatten().double() for band in bands(height, width)], 1)
        self.hold("bands", masks / masks.sum(0).clamp(min=1) / (height * width))
        self.hold("unit", torch.tensor(SCALES) * STATISTICS**0.5, torch.float32)
        self.metric = _Maps(learned_metric().means, learned_metric().axes)

    def forward(self, images: Tensor) -> list[Tensor]:
        x = images.float()
        resized = self.rows @ (x @ self.columns.T) if self.resized else x
        joined = self.network((resized.expand(-1, 3, -1, -1) - MEAN) / STD).double()
        features, style, texture = joined.split([FEATURES, STYLE, joined.shape[1] - FEATURES - STYLE], 1)
        statistics = self.statistics(x / 255).double()
        mapped = self.metric([_unit_rows(features), style, statistics, texture])
        return [_unit_rows(view) for view in mapped]

    def statistics(self, x: Tensor) -> Tensor:
        grey = x.mean(1)
        ordered = grey.flatten(1).topk(self.shares.shape[0], 1, largest=False).values
        columns = [
            ordered.double() @ self.shares,
            tint(x),
            palette(x),
            edges(grey),
            self.spectrum(grey),
            layout(grey),
        ]
        return torch.cat([column.float() for column in columns], 1) / self.unit

    def spectrum(self, grey: Tensor) -> Tensor:
        g = (grey - grey.mean((1, 2), keepdim=True)).double()
        by_cos, by_sin = g @ self.cos_x, g @ self.sin_x
        real = self.cos_y @ by_cos - self.sin_y @ by_sin
        imaginary = self.cos_y @ by_sin + self.sin_y @ by_cos
        return ((real * real + imaginary * imaginary).flatten(1) @ self.bands + 1e-6).log()


class _Maps(_Held):
    """A linear map for each view: (x - mean) @ axes."""

    def __init__(self, means: Any, axes: Any) -> None:
        super().__init__()
        self.n = len(means)
        for i in range(self.n):
            self.hold(f"mean_{i}", means[i])
            self.hold(f"axes_{i}", axes[i])

    def forward(self, views: list[Tensor]) -> list[Tensor]:
        return [(v - getattr(self, f"mean_{i}")) @ getattr(self, f"axes_{i}") for i, v in enumerate(views)]


class _Evidence(_Held):
    """Views to the descriptors (N, columns) and the joint view (N, d), as `Evidence`."""

    def __init__(self, evidence: Evidence) -> None:
        super().__init__()
        self.maps = _Maps(evidence.view.means, evidence.view.axes)
        self.usual = [(e.median, e.spread) for e in evidence.ellipsoids]
        for i, e in enumerate(evidence.ellipsoids):
            self.hold(f"ellipsoid_{i}", e.centre)
            self.hold(f"precision_{i}", e.precision)
        for i, centre in enumerate(evidence.centres):
            self.hold(f"core_{i}", centre)
        self.hold("centroids", evidence.centroids)
        self.hold("reference", evidence.reference)
        self.hold("said", np.stack([evidence.in_core, evidence.nats], 1))
        self.hold("groups", evidence.group_table)
        self.usual_neighbour = evidence.usual_neighbour

    def forward(self, views: list[Tensor]) -> tuple[Tensor, Tensor]:
        parts = self.maps(views)
        z, columns = torch.cat(parts, 1), []
        for i, (part, (median, spread)) in enumerate(zip([z, *parts], self.usual, strict=True)):
            offset = part - getattr(self, f"ellipsoid_{i}")
            squared = ((offset @ getattr(self, f"precision_{i}")) * offset).sum(1).clamp(min=0)
            nats = (squared + 1e-9).log() - median
            columns += [nats / spread, nats]
        for i, view in enumerate(views):
            offset = view - getattr(self, f"core_{i}")
            columns.append(((offset * offset).sum(1) + 1e-4).log())
        k = min(NEIGHBOURS, self.reference.shape[0] - 1)
        squared = _squared(z, self.reference)
        near, rows = torch.where(squared < 1e-6, FAR, squared).topk(k, 1, largest=False)
        fifth = near[:, min(4, k - 1)]
        fifth = torch.where(fifth < FAR, fifth, 0.0)
        columns.append(0.5 * (fifth + 1e-12).log() - self.usual_neighbour)
        columns += self.said[rows].mean(1).unbind(1)
        group = _squared(z, self.centroids).argmin(1)
        return torch.cat([torch.stack(columns, 1), self.groups[group]], 1), z


class _Judge(_Held):
    """Descriptors (N, columns) to log odds (N,), as `Judge`."""

    def __init__(self, judge: Judge, views: int) -> None:
        super().__init__()
        names = names_of(views)
        self.columns = [names.index(name) for name in judge.names]
        most = judge.quantiles.shape[1]
        knots, start, slope, width = (np.zeros((len(judge.names), n)) for n in (most, 1, most, most))
        for i, quantiles in enumerate(judge.quantiles):
            at, place = np.unique(quantiles, return_inverse=True)
            scores = np.bincount(place, weights=SCORES) / np.bincount(place)
            m = len(at) - 1
            start[i], knots[i, :m], width[i, :m] = scores[0], at[:-1], np.diff(at)
            slope[i, :m] = np.diff(scores) / np.diff(at)
        for name, value in (("knots", knots), ("start", start[:, 0]), ("slope", slope), ("width", width)):
            self.hold(name, value)
        self.key, self.context = judge._places(KEY), judge._places(CONTEXT)
        self.hold("weights", np.concatenate([judge.weights.T.ravel(), judge.products.ravel()]))
        self.bias = judge.bias

    def forward(self, table: Tensor) -> Tensor:
        into = torch.minimum((table[:, self.columns][:, :, None] - self.knots).clamp(min=0), self.width)
        z = self.start + (into * self.slope).sum(2)
        products = (z[:, self.key][:, :, None] * z[:, self.context][:, None]).flatten(1)
        terms = torch.cat([z, (z - BEND).clamp(min=0), (z + BEND).clamp(max=0), products], 1)
        return terms @ self.weights + self.bias


class _Answers(_Held):
    """Joint view (N, d) and the rules' log odds (N,) to log odds (N,), as `Inquiry.odds`."""

    def __init__(self, inquiry: Inquiry, cut: float) -> None:
        super().__init__()
        self.asked = any([*inquiry.said.parts.values(), *inquiry.said.samples.values()])
        if self.asked:
            learned = inquiry.learned(cut)
            self.cut, self.length, self.excess = cut, inquiry.space.length, learned.excess
            self.hold("centre", inquiry.space.centre)
            self.hold("basis", learned.basis)
            self.hold("weights", learned.weights)

    def forward(self, z: Tensor, log_odds: Tensor) -> Tensor:
        if not self.asked:
            return log_odds
        short, long, line = WEIGHTS
        centred = z - self.centre
        wide = (_squared(centred, self.basis) / (-2 * self.length**2)).exp()
        kernel = short * wide**4 + long * wide + line / self.length**2 * (centred @ self.basis.T)
        moved = (log_odds - self.cut).clamp(-LARGEST, LARGEST) + kernel @ self.weights
        return moved - self.excess + self.cut


def _unit_rows(x: Tensor) -> Tensor:
    return x / (x * x).sum(1, keepdim=True).sqrt().clamp(min=1e-12)


def _squared(a: Tensor, b: Tensor) -> Tensor:
    """(N, M) squared distances of rows (N, d) and (M, d)."""
    return ((a * a).sum(1, keepdim=True) + (b * b).sum(1) - 2 * (a @ b.T)).clamp(min=0)
