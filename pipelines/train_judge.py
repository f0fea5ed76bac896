"""Teach the judge: descriptors of many sets with known outliers, and the logistic regression on them.

    uv run python -m pipelines.train_judge                          # judge.json from data/judge_table.npz
    uv run python -m pipelines.train_judge --suite DOMAINS --datasets ROOT
                                                                    # metric and table too, from images

The second takes a folder of domains, each a .npz with ``x`` uint8 (N,H,W) or (N,H,W,3) and, where it has
kinds, ``y`` int; images of your own count as well. Sets are drawn at random: another domain among this one,
five others, one kind among the others of its domain, planted defects, nothing. Every set is described in a
metric that has not learned from its families. No image goes into the table.

It prints what the judge says of sets whose families of domains it has not seen.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jsonargparse import auto_cli
from rich.progress import track

from pipelines.common.domains import IDX, Domain, Folder, family_of, fitted
from rvqvae.atomic import replacing
from rvqvae.features.metric import DIRECTIONS, Metric, Scatter, learned_metric
from rvqvae.features.metric import FILE as METRIC
from rvqvae.membership.decision import doubt_of
from rvqvae.membership.evidence import gather, names_of
from rvqvae.membership.judge import FILE, Judge

TABLE = Path("data/judge_table.npz")
DEFECTS = {"surface": "surface_defect"}
KINDS = {"far": 0.5, "scatter": 0.12, "near": 0.12, "clean": 0.2, "defect": 0.03, "two": 0.03}
ROWS, MOST, OTHERS = 30, 2500, 700
"""Rows of each set in the table; images of a domain as inliers, and as outliers."""
PARTS = 5
"""Into which the families are divided; the judge of a set has seen none of the parts that occur in it."""
VARIED = 5
"""Domains of several kinds, at least, from which a metric is learned."""
KINDS_OF_JUDGE = ("images", "any")
"""With descriptors of each view, and without, for views of other units."""


class Drawn(NamedTuple):
    """A set with known outliers."""

    kind: str
    families: tuple[str, ...]
    parts: list[tuple[str, np.ndarray, bool]]
    """Domain, rows in it, whether they are outliers; every image takes the form of the first domain."""


@cache
def domain(name: str, suite: Path, datasets: Path | None) -> Domain:
    """At most MOST of its images, shuffled but for those that lie in no order."""
    images, kinds = Folder(suite, datasets).domain(name)
    order = np.arange(len(images)) if name in IDX else np.random.default_rng(7).permutation(len(images))
    return Domain(images[order[:MOST]], kinds[order[:MOST]])


def draw(seed: int, names: list[str], open_domain: Callable[[str], Domain]) -> Drawn:
    """A random set: kind, domains, kinds within them, size (120 to 1,500) and rate (.03 to .45)."""
    rng = np.random.default_rng([11, seed])
    kind = str(rng.choice(list(KINDS), p=list(KINDS.values())))
    inlier = (
        "surface"
        if kind == "defect" and "surface" in names
        else str(rng.choice([n for n in names if n not in DEFECTS.values()]))
    )
    if kind == "defect" and inlier not in DEFECTS:
        kind = "far"
    labels = open_domain(inlier).kinds
    kinds = np.unique(labels)
    if kind == "near" and len(kinds) < 2:
        kind = "far"
    n, rate = (
        int(np.exp(rng.uniform(np.log(120), np.log(1500)))),
        float(np.exp(rng.uniform(np.log(0.03), np.log(0.45)))),
    )
    others = [name for name in names if family_of(name) != family_of(inlier)]
    if kind == "near":
        large = [k for k in kinds if (labels == k).sum() >= 80] or [kinds[0]]
        chosen = rng.choice(large)
        inliers = np.flatnonzero(labels == chosen)
        rest = kinds[kinds != chosen]
        pools = [(inlier, np.flatnonzero(np.isin(labels, some_of(rest, rng, 0.1, 0.6))))]
    else:
        inliers = np.flatnonzero(np.isin(labels, some_of(kinds, rng, 0.1, 0.8)))
        count = {"far": 1, "two": 2, "scatter": 5, "clean": 0, "defect": 0}[kind]
        names_out = (
            [DEFECTS[inlier]]
            if kind == "defect"
            else [str(d) for d in rng.choice(others, count, replace=False)]
        )
        pools = []
        for name in names_out:
            theirs = open_domain(name).kinds[:OTHERS]
            some = np.unique(theirs) if kind == "scatter" else some_of(np.unique(theirs), rng, 0.1, 0.6)
            pools.append((name, np.flatnonzero(np.isin(theirs, some))))
    rate = rate if pools else 0.0
    n = min(n, int(len(inliers) / (1 - rate)))
    if pools:
        n = min(n, int(min(len(rows) for _, rows in pools) * len(pools) / rate))
    k = round(n * rate)
    parts = [(inlier, rng.permutation(inliers)[: n - k], False)]
    for i, (name, rows) in enumerate(pools):
        parts.append((name, rng.permutation(rows)[: k // len(pools) + (i < k % len(pools))], True))
    # Of five other domains each is rare: only the inliers' family is left out with such a set.
    families = {family_of(name) for name, _, _ in (parts[:1] if kind == "scatter" else parts)}
    return Drawn("far" if kind == "two" else kind, tuple(sorted(families)), parts)


def some_of(kinds: np.ndarray, rng: np.random.Generator, low: float, high: float) -> np.ndarray:
    """All kinds, or every second time a random share of them."""
    if len(kinds) < 2 or rng.random() < 0.5:
        return kinds
    return rng.choice(kinds, max(1, int(np.ceil(len(kinds) * rng.uniform(low, high)))), replace=False)


@dataclass(frozen=True)
class Source:
    """A folder of domains, and what of them is kept between runs."""

    suite: Path
    datasets: Path | None
    cache: Path

    def names(self) -> list[str]:
        return Folder(self.suite).names() + ([*IDX] if self.datasets else [])

    def domain(self, name: str) -> Domain:
        return domain(name, self.suite, self.datasets)

    def prepare(self) -> None:
        """Have everything kept that `metric` needs, before several processes would make it at once."""
        for name in track(self._learned_from(), "domains"):
            self.scatters(name)

    def metric(self, without: frozenset[str]) -> Metric:
        """Learned from the domains of all families but ``without``; with too few, the one that travels."""
        return metric_without(self, without)

    def scatters(self, name: str) -> list[Scatter]:
        """Of each view but the pixels of a domain, kept between runs."""
        path = self.cache / f"scatters-{name}.npz"
        if not path.exists():
            found = self.domain(name)
            _, *views = self.views(name, found.images.shape[1:], MOST)
            made = [Scatter.of(view, found.kinds) for view in views]
            with replacing(path) as file:
                np.savez(file, *[np.float32(value) for scatter in made for value in scatter])
        with np.load(path) as file:
            values = [value.astype(np.float64) for value in file.values()]
        size = len(Scatter._fields)
        return [Scatter(*values[i : i + size]) for i in range(0, len(values), size)]

    def _learned_from(self) -> list[str]:
        # With flaws among them, a kind would seem to vary by them.
        return [name for name in self.names() if name not in DEFECTS.values()]

    def views(self, name: str, form: tuple[int, ...], limit: int) -> list[np.ndarray]:
        """The views of a domain's images in a form, kept between runs."""
        path = self.cache / f"{name}-{'x'.join(map(str, form))}-{limit}.npz"
        if not path.exists():
            from rvqvae.features.pretrained import extract_views
            from rvqvae.io.arrays import as_nchw

            images = fitted(self.domain(name).images[:limit], form)
            views = extract_views(as_nchw(np.ascontiguousarray(images)))
            with replacing(path) as file:
                np.savez(file, *[v if v.dtype == np.uint8 else v.astype(np.float16) for v in views])
        return kept_views(path)


@cache
def metric_without(source: Source, families: frozenset[str]) -> Metric:
    # By subtraction: to add up all domains anew took most of the time of a set.
    views = all_scatters(source)
    for name in source._learned_from():
        if family_of(name) in families:
            views = [every.plus(one, -1) for every, one in zip(views, source.scatters(name), strict=True)]
    return Metric.fit(views) if views[0].varied >= VARIED else learned_metric()


@cache
def all_scatters(source: Source) -> list[Scatter]:
    """Of each view, of all domains."""
    first, *others = source._learned_from()
    views = source.scatters(first)
    for name in others:
        views = [some.plus(one) for some, one in zip(views, source.scatters(name), strict=True)]
    return views


@cache
def kept_views(path: Path) -> list[np.ndarray]:
    with np.load(path) as file:
        return [v if v.dtype == np.uint8 else v.astype(np.float32) for v in file.values()]


def described(seed: int, source: Source) -> dict | None:
    """Rows of the table for one drawn set."""
    drawn = draw(seed, source.names(), source.domain)
    form = source.domain(drawn.parts[0][0]).images.shape[1:]
    chosen = []
    for name, rows, is_outlier in drawn.parts:
        views = source.views(name, form, OTHERS if is_outlier and name != drawn.parts[0][0] else MOST)
        chosen.append([view[rows] for view in views])
    truth = np.concatenate([np.full(len(rows), out) for _, rows, out in drawn.parts])
    if len(truth) < 100:
        return None
    rng = np.random.default_rng([12, seed])
    order = rng.permutation(len(truth))
    raw = [np.concatenate(parts)[order] for parts in zip(*chosen, strict=True)][1:]
    views = source.metric(frozenset(drawn.families))(raw)
    gathered = gather(views, seed)
    rows = np.sort(rng.permutation(len(truth))[:ROWS])
    return {
        "x": gathered.table[rows].astype(np.float16),
        "y": truth[order][rows],
        "all x": gathered.table.astype(np.float16),
        "all y": truth[order],
        "kind": drawn.kind,
        "families": drawn.families,
    }


def make_table(source: Source, sets: int, processes: int) -> dict[str, np.ndarray]:
    source.prepare()
    with get_context("fork").Pool(processes) as pool:
        found = [d for d in pool.imap(partial(described, source=source), range(sets), chunksize=4) if d]
    table = {
        "names": np.array(names_of(len(DIRECTIONS))),
        "x": np.concatenate([d["x"] for d in found]),
        "y": np.concatenate([d["y"] for d in found]),
        "set": np.repeat(np.arange(len(found)), [len(d["y"]) for d in found]).astype(np.int32),
        "kind": np.array([d["kind"] for d in found]),
        "families": np.array([",".join(d["families"]) for d in found]),
    }
    # How far off the judge is on whole sets that it has not seen, of which the table holds but a part.
    known = Table(**table, doubt={})
    for kind in KINDS_OF_JUDGE:
        judges = known.left_out(kind)
        shifts = []
        for drawn, judge in zip(found, judges, strict=True):
            odds = judge(np.asarray(drawn["all x"], np.float64), list(table["names"]))
            shifts.append(doubt_of(odds, drawn["all y"]))
        table[f"doubt {kind}"] = np.array(shifts)
    return table


class Table(NamedTuple):
    """What the judge learns from: M rows of S sets."""

    names: np.ndarray
    x: np.ndarray
    y: np.ndarray
    set: np.ndarray
    kind: np.ndarray
    families: np.ndarray
    doubt: dict[str, np.ndarray]
    """(S, 2) of either judge, as `doubt_of`."""

    @property
    def weight(self) -> np.ndarray:
        """Every set counts alike."""
        weight = 1 / np.bincount(self.set)[self.set]
        return weight / weight.mean()

    def judge(self, kind: str, without: frozenset[str] = frozenset()) -> Judge:
        """Learned from the sets in which no family of ``without`` takes part."""
        sets = np.array([not without & set(f.split(",")) for f in self.families])
        rows = sets[self.set]
        columns = [i for i, name in enumerate(self.names) if kind == "images" or "view" not in name]
        x = np.asarray(self.x[rows][:, columns], np.float64)
        names = [str(self.names[i]) for i in columns]
        judge = Judge.fit(names, x, self.y[rows], self.weight[rows], self.set[rows])
        if kind not in self.doubt:
            return judge
        low, high = self.doubt[kind][sets].T
        ends = float(np.quantile(low, 0.025)), float(np.quantile(high, 0.975))
        return judge._replace(doubt=ends)

    def left_out(self, kind: str) -> list[Judge]:
        """For each set a judge that saw none of its families, nor any other of their parts."""
        every = sorted({family for families in self.families for family in families.split(",")})
        part = {family: i % PARTS for i, family in enumerate(every)}

        @cache
        def judge(parts: frozenset[int]) -> Judge:
            return self.judge(kind, frozenset(family for family in every if part[family] in parts))

        return [judge(frozenset(part[f] for f in families.split(","))) for families in self.families]

    def odds(self, kind: str) -> np.ndarray:
        """(M,) log odds of every row by such judges."""
        names, x = list(map(str, self.names)), np.asarray(self.x, np.float64)
        odds = np.empty(len(self.y))
        for i, judge in enumerate(self.left_out(kind)):
            odds[self.set == i] = judge(x[self.set == i], names)
        return odds


def read_table(path: Path = TABLE) -> Table:
    with np.load(path) as file:
        held = dict(file)
    doubt = {kind: held.pop(f"doubt {kind}") for kind in KINDS_OF_JUDGE}
    return Table(**held, doubt=doubt)


def pareto(odds: np.ndarray, table: Table, thrown_out: float) -> tuple[float, float]:
    """The share of outliers left in where this share of the inliers is thrown out, and the cut."""
    sets = [table.set == i for i in range(len(table.kind))]

    def rates(cut: float) -> tuple[float, float]:
        out = [(odds[s & ~table.y] > cut).mean() for s in sets if (s & ~table.y).any()]
        left = [(odds[s & table.y] <= cut).mean() for s in sets if (s & table.y).any()]
        return float(np.mean(out)), float(np.mean(left))

    low, high = -10.0, 10.0
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (middle, high) if rates(middle)[0] > thrown_out else (low, middle)
    return rates(high)[1], high


def aurocs(odds: np.ndarray, table: Table) -> list[float]:
    """Of every set that has both, outliers and inliers."""
    from sklearn.metrics import roc_auc_score

    sets = [table.set == i for i in range(len(table.kind))]
    return [float(roc_auc_score(table.y[s], odds[s])) for s in sets if 0 < table.y[s].mean() < 1]


def report(odds: np.ndarray, table: Table) -> str:
    values = aurocs(odds, table)
    lines = [f"AUROC within a set, families left out: {np.mean(values):.4f} ({len(values)} sets)"]
    for share in (0.005, 0.01, 0.02, 0.03):
        left, cut = pareto(odds, table, share)
        lines.append(f"thrown out {share:.1%}: left in {left:.1%}, at log odds {cut:.2f}")
    p, edges = 1 / (1 + np.exp(-odds)), [0, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.95, 1.01]
    for low, high in pairwise(edges):
        rows_in = (p >= low) & (p < high)
        if rows_in.any():
            said, true = (np.average(v[rows_in], weights=table.weight[rows_in]) for v in (p, table.y))
            lines.append(f"says {said:.2f}: {true:.2f} are outliers")
    return "\n".join(lines)


def train_judge(
    suite: Path | None = None,
    datasets: Path | None = None,
    sets: int = 900,
    processes: int = 2,
    cache: Path = Path("runs/judge"),
    table: Path = TABLE,
    metric: Path = METRIC,
    out: Path = FILE,
) -> None:
    """Make metric and table (with ``suite``), then the judge.

    Args:
        suite: folder of domains; without it the table is read.
        datasets: folder with MNIST and FashionMNIST as torchvision stores them, to use them too.
        sets: sets to draw.
        processes: processes that work.
        cache: folder of the domains' views.
        table: the table of descriptors.
        metric: the metric of the views.
        out: the judge, JSON.
    """
    if suite is not None:
        source = Source(suite, datasets, cache)
        np.savez_compressed(table, **make_table(source, sets, processes))
        source.metric(frozenset()).save(metric)
    known = read_table(table)
    judges = {}
    for kind in KINDS_OF_JUDGE:
        print(kind, report(known.odds(kind), known), sep="\n")
        judges[kind] = known.judge(kind).as_json()
    out.write_text(json.dumps(judges, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    auto_cli(train_judge)
