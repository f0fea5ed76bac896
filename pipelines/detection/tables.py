"""The study's tables: every number is the mean of the seeds, with their standard deviation if several."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from pipelines.common.peers import FAMILY, PEERS
from pipelines.common.tables import Sheet, spread
from pipelines.detection.cells import Cell
from pipelines.detection.own import METHODS


def methods(cells: Sequence[Cell]) -> list[str]:
    """Ours first, then the peers that were measured."""
    there = {cell.method for cell in cells}
    return [name for name in (*METHODS, *PEERS) if name in there]


def mixtures(cells: Sequence[Cell]) -> list[tuple[str, float]]:
    """Pairs and rates, in the order of the pairs."""
    order = list(dict.fromkeys(cell.pair for cell in cells))
    return sorted({(cell.pair, cell.rate) for cell in cells}, key=lambda key: (order.index(key[0]), key[1]))


def sheets(cells: Sequence[Cell]) -> list[Sheet]:
    dirty = [cell for cell in cells if cell.rate > 0]
    own = [[cell for cell in cells if cell.method == name] for name in METHODS]
    new = [cell for cell in cells if cell.method in (*METHODS, *FAMILY) and "/" in cell.pair]
    return (
        ([auroc_sheet(dirty)] if dirty else [])
        + ([heldout_sheet(new)] if any(cell.method in FAMILY for cell in new) else [])
        + [decision_sheet(part) for part in own if part]
    )


def auroc_sheet(cells: Sequence[Cell]) -> Sheet:
    """All methods for each pair and rate; then the mean and the worst of each method, and what it costs."""
    names = methods(cells)
    of = {name: [cell for cell in cells if cell.method == name] for name in names}
    lines = [
        [pair, f"{rate:g}"]
        + [spread([c.auroc for c in of[name] if (c.pair, c.rate) == (pair, rate)]) for name in names]
        for pair, rate in mixtures(cells)
    ]
    lines.append(["mean", "", *(f"{np.mean([c.auroc for c in of[name]]):.3f}" for name in names)])
    lines.append(["worst", "", *(f"{min(c.auroc for c in of[name]):.3f}" for name in names)])
    lines.append(["seconds", "", *(f"{np.mean([c.seconds for c in of[name]]):.1f}" for name in names)])
    return Sheet("AUROC", ["pair", "rate", *names], lines, "rate = outliers / total, unknown to all methods")


def heldout_sheet(cells: Sequence[Cell]) -> Sheet:
    """How those that learn a model bear its being learned from a mixture: a line for each pair and method."""
    rates = sorted({cell.rate for cell in cells})
    lines = [
        [pair, name]
        + [
            spread([c.heldout_auroc for c in cells if (c.pair, c.method, c.rate) == (pair, name, rate)])
            for rate in rates
        ]
        for pair in dict.fromkeys(cell.pair for cell in cells)
        for name in methods([cell for cell in cells if cell.pair == pair])
    ]
    head = ["pair", "method", *(f"{rate:g}" for rate in rates)]
    return Sheet("Held-out AUROC", head, lines, "by the share of outliers among the training images")


def decision_sheet(cells: Sequence[Cell]) -> Sheet:
    """What one method of ours decides, without being told the rate; clean sets have rate 0."""
    lines = []
    for pair, rate in mixtures(cells):
        here = [cell for cell in cells if (cell.pair, cell.rate) == (pair, rate)]
        low, high = (np.mean([getattr(cell, key) for cell in here]) for key in ("rate_low", "rate_high"))
        lines.append(
            [pair, f"{rate:g}", f"{np.mean([cell.images for cell in here]):.0f}"]
            + [spread([cell.estimated_rate for cell in here])]
            + ["" if np.isnan(low) else f"{low:.3f}–{high:.3f}"]
            + [spread([getattr(cell, key) for cell in here]) for key in ("outliers_kept", "inliers_dropped")]
            + [verdicts(here)]
            + [spread([cell.heldout_auroc for cell in here])]
            + [
                f"{np.mean([cell.seconds for cell in here]):.1f}",
                f"{max(cell.peak_gib for cell in here):.1f}",
            ]
        )
    head = [
        "pair",
        "rate",
        "images",
        "estimated",
        "95 % interval",
        "outliers kept",
        "inliers dropped",
        "verdict",
    ]
    head += ["held-out AUROC", "seconds", "GiB"]
    return Sheet(f"Decisions of {cells[0].method}", head, lines, coverage(cells))


def coverage(cells: Sequence[Cell]) -> str:
    """How far the estimated rate is off, and how often its interval holds the truth."""
    error = np.mean([abs(cell.estimated_rate - cell.rate) for cell in cells])
    text = f"mean absolute error of the rate {error:.3f}"
    given = [cell for cell in cells if not np.isnan(cell.rate_low)]
    if given:
        holds = sum(cell.rate_low <= cell.rate <= cell.rate_high for cell in given)
        text += f"; the interval holds the truth in {holds} of {len(given)} cells ({holds / len(given):.0%})"
    return text


def curves(cells: Sequence[Cell], method: str) -> dict[int, dict[str, float]]:
    """By rate in percent, as MLflow's steps are whole numbers: the numbers of one method for each pair."""
    made: dict[int, dict[str, float]] = {}
    for pair, rate in mixtures([cell for cell in cells if cell.method == method]):
        here = [c for c in cells if (c.pair, c.rate, c.method) == (pair, rate, method)]
        numbers = {
            key: float(np.mean([getattr(cell, key) for cell in here]))
            for key in ("auroc", "heldout_auroc", "estimated_rate", "seconds")
        }
        known = {f"{key}/{pair}": number for key, number in numbers.items() if not np.isnan(number)}
        made.setdefault(round(100 * rate), {}).update(known)
    return made


def verdicts(cells: Sequence[Cell]) -> str:
    """The verdict, or how often each was given."""
    counts = Counter(cell.verdict for cell in cells if cell.verdict)
    if len(counts) < 2:
        return "".join(counts)
    return ", ".join(f"{verdict} {count}" for verdict, count in counts.most_common())
