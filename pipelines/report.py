"""The table and the picture of an experiment, from the rows of its results."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.table import Table

Row = Mapping[str, Any]
COLUMNS = {
    "auroc": ("AUROC", "{:.3f}"),
    "outlier_precision": ("outlier precision", "{:.3f}"),
    "outlier_recall": ("outlier recall", "{:.3f}"),
    "purity": ("purity", "{:.1%}"),
    "judge_error": ("judge's own error", "{:.2%}"),
    "frechet_distance": ("FD (features)", "{:.0f}"),
    "kernel_distance": ("KD (features)", "{:.2f}"),
    "precision": ("precision", "{:.3f}"),
    "recall": ("recall", "{:.3f}"),
    "density": ("density", "{:.3f}"),
    "coverage": ("coverage", "{:.3f}"),
    "seconds": ("seconds", "{:.0f}"),
}


def cells(rows: Sequence[Row]) -> list[list[str]]:
    """A line for each measure, under a line of methods: values, or mean ± standard deviation of the seeds."""
    methods = list(dict.fromkeys(row["method"] for row in rows))
    lines = [["", *methods]]
    for key, (title, form) in COLUMNS.items():
        values = [[row.get(key) for row in rows if row["method"] == method] for method in methods]
        lines.append([title, *(_cell(value, form) for value in values)])
    return lines


def rich_table(rows: Sequence[Row], note: str) -> Table:
    head, *lines = cells(rows)
    table = Table(caption=note, caption_justify="left")
    for i, title in enumerate(head):
        table.add_column(title, justify="right" if i else "left")
    for line in lines:
        table.add_row(*line)
    return table


def markdown_table(rows: Sequence[Row], note: str) -> str:
    head, *lines = cells(rows)
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, rule, *lines]) + f"\n\n{note}\n"


def csv_table(rows: Sequence[Row]) -> str:
    """One line for each method and seed, unrounded; empty where there is no value."""
    file = io.StringIO()
    writer = csv.DictWriter(file, ["method", "seed", *COLUMNS], extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def _cell(values: Sequence[float | None], form: str) -> str:
    numbers = [value for value in values if value is not None]
    if not numbers:
        return ""
    mean = form.format(np.mean(numbers))
    return mean if len(numbers) == 1 else f"{mean} ± {form.format(np.std(numbers, ddof=1))}"
