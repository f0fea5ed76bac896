"""What each kind of evidence is worth to the judge: it learns without it, from data/judge_table.npz.

    uv run python -m pipelines.ablate_judge

Families of domains are left out as in `pipelines.train_judge`. What is left out are descriptors: the joint
view, by which groups are made, and the metric stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from jsonargparse import auto_cli
from rich.console import Console
from rich.progress import track

from pipelines.common.tables import Sheet, as_markdown, as_rich
from pipelines.train_judge import TABLE, Table, aurocs, pareto, read_table

VIEWS = ("features", "style", "statistics", "texture")
SHARES = (0.005, 0.01, 0.02)


def _holds(part: str, name: str) -> bool:
    return part in name


EVIDENCE: dict[str, Callable[[str], bool]] = {
    "nothing": lambda name: False,
    "the single sample": lambda name: not name.startswith(("group's", "set's", "core's")),
    "its group": lambda name: name.startswith("group's"),
    "the set": lambda name: name.startswith(("set's", "core's")),
    "spreads and nats": lambda name: "spreads" in name or "nats " in name,
    "neighbours": partial(_holds, "neighbour"),
    "absolute distances": lambda name: "absolute" in name or " in view" in name,
    **{f"{view} apart": partial(_holds, f"view {i}") for i, view in enumerate(VIEWS)},
}


def measure(table: Table) -> list[str]:
    """AUROC within a set, log loss, and outliers left in where so many inliers are thrown out."""
    odds = table.odds("images")
    loss = np.average(np.logaddexp(0, np.where(table.y, -odds, odds)), weights=table.weight)
    left = (pareto(odds, table, share)[0] for share in SHARES)
    return [f"{value:.3f}" for value in (np.mean(aurocs(odds, table)), loss, *left)]


def ablate_judge(table: Path = TABLE, out: Path = Path("runs/ablation.md")) -> None:
    """Print what the judge says without each kind of evidence.

    Args:
        table: the table of descriptors.
        out: the same as Markdown.
    """
    known, rows = read_table(table), []
    for what, names in track(EVIDENCE.items(), "evidence"):
        kept = np.array([not names(str(name)) for name in known.names])
        without = known._replace(names=known.names[kept], x=known.x[:, kept], doubt={})
        rows.append([what, f"{(~kept).sum()}", *measure(without)])
    head = ["without", "descriptors", "AUROC", "log loss", *(f"left in at {share:.1%}" for share in SHARES)]
    sheet = Sheet("The judge without", head, rows, f"{len(known.kind)} sets, their families left out")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(as_markdown([sheet]), encoding="utf-8")
    Console().print(as_rich(sheet))


if __name__ == "__main__":
    auto_cli(ablate_judge)
