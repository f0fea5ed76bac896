"""Other detectors on the same features, and how anybody would decide without knowing the rate.

The members of the autoencoder family see pixels, and only rank.

A method is named as a score, or as SCORE+CUT for another cut than the usual one. Cuts are PyThresh's: KARCH,
the one in its own introduction, unless another is named.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection
from importlib import import_module
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import linkage, to_tree
from scipy.spatial.distance import pdist

from pipelines.common import peers
from pipelines.judging.cases import Case, Decision, Vector
from rvqvae.errors import InputError
from rvqvae.membership.ellipsoid import find_core, fit_ellipsoid

CUT = "KARCH"
RANKING = "SelfClean"
CUTS = (CUT, "FILTER", "IQR", "MAD")
Score = Callable[[Case], Vector]


def ellipsoid(case: Case) -> Vector:
    """(N,) log distance from the core in the joint view."""
    return fit_ellipsoid(case.joint, find_core(case.joint, [slice(None)], case.seed))(case.joint)


def off_topic(case: Case) -> Vector:
    """(N,) SelfClean's ranking of off-topic samples (Gröger et al. 2023, arXiv:2305.17048), on our features.

    Single linkage by cosine distance, walked from the root into the smaller branch first: whom it reaches
    early is off topic. A ranking alone; no cut of ranks means anything.
    """
    pending = [to_tree(linkage(pdist(case.views[1], "cosine").clip(0), "single"))]
    ranked: list[int] = []
    while pending:
        node = pending.pop()
        if node.is_leaf():
            ranked.append(node.id)
        else:
            pending += sorted((node.left, node.right), key=lambda side: -side.count)
    return -np.argsort(ranked).astype(np.float64)


def _peer(name: str) -> Score:
    return lambda case: -peers.score(name, case.joint, case.seed)


def _member(name: str) -> Score:
    def score(case: Case) -> Vector:
        images = case.samples.ndim > 2
        return -peers.score(name, peers.view_of(case.samples, "pixels") if images else case.joint, case.seed)

    return score


def _pyod(name: str) -> Score:
    def score(case: Case) -> Vector:
        return getattr(import_module(f"pyod.models.{name.lower()}"), name)().fit(case.joint).decision_scores_

    return score


SCORES: dict[str, Score] = {
    "ellipsoid": ellipsoid,
    "IForest": _peer("IForest-features"),
    "MCD": _peer("MCD"),
    "ECOD": _peer("ECOD"),
    "AutoEncoder": _peer("AutoEncoder"),
    "KNN": _pyod("KNN"),
    "LOF": _pyod("LOF"),
    "COPOD": _pyod("COPOD"),
    "cleanlab": lambda case: -peers.score("cleanlab", case.views[1], case.seed),
    RANKING: off_topic,
} | {name: _member(name) for name in peers.FAMILY}
ONLY_RANK = (RANKING, *peers.FAMILY)
LIBRARIES = dict.fromkeys(("ECOD", "AutoEncoder", "KNN", "LOF", "COPOD"), "pyod") | {"cleanlab": "cleanlab"}
OF_IMAGES = ("cleanlab", RANKING)
"""Those that need features of unit length."""


def decide(name: str, case: Case) -> Decision:
    """By the score and the cut that a method's ``name`` is made of."""
    score_name, _, cut_name = name.partition("+")
    score = SCORES[score_name](case)
    return Decision(score, None if score_name in ONLY_RANK else cut(score, cut_name or CUT))


def cut(score: Vector, name: str = CUT) -> NDArray[np.bool_]:
    """(N,) whom a PyThresh cut of the score (N,) calls outliers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        method = getattr(import_module(f"pythresh.thresholds.{name.lower()}"), name)()
        return np.asarray(method.eval(score), bool)


def require(names: Collection[str]) -> None:
    """Fail before anything is measured if a method is unknown or its library is missing."""
    for name in names:
        score, _, named_cut = name.partition("+")
        if score not in SCORES or (named_cut or CUT) not in CUTS:
            raise InputError(
                f"methods: {name!r} is unknown: choose from {', '.join(SCORES)}, each alone or with a cut, "
                f"as in {score if score in SCORES else 'MCD'}+{CUTS[2]} ({', '.join(CUTS)})"
            )
        need(name, LIBRARIES.get(score, "sklearn"))
        if score not in ONLY_RANK:
            need(name, "pythresh")


def need(name: str, library: str) -> None:
    if find_spec(library) is None:
        raise InputError(
            f"methods: {name} needs the package {library}, which is not installed: run "
            "`uv sync --group peers`, or leave it out of --methods"
        )
