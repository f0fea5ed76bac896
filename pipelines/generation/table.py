"""The table of an experiment, from the rows of its results."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from math import nan
from typing import Any

from pipelines.common.tables import Sheet, spread

Row = Mapping[str, Any]
COLUMNS = {
    "auroc": ("AUROC", "{:.3f}"),
    "outlier_precision": ("outlier precision", "{:.3f}"),
    "outlier_recall": ("outlier recall", "{:.3f}"),
    "purity": ("purity", "{:.1%}"),
    "judge_error": ("judge's own error", "{:.2%}"),
    "legibility": ("legible", "{:.3f}"),
    "kinds_shift": ("kinds out of balance", "{:.3f}"),
    "nearest": ("nearest training image", "{:.2f}"),
    "frechet_distance": ("FD (features)", "{:.0f}"),
    "kernel_distance": ("KD (features)", "{:.2f}"),
    "precision": ("precision", "{:.3f}"),
    "recall": ("recall", "{:.3f}"),
    "density": ("density", "{:.3f}"),
    "coverage": ("coverage", "{:.3f}"),
    "reconstruction_error": ("reconstructed: squared error", "{:.4f}"),
    "reconstruction_legibility": ("reconstructed: legible", "{:.3f}"),
    "reconstruction_frechet": ("reconstructed: FD", "{:.0f}"),
    "seconds": ("CPU seconds", "{:.0f}"),
}


def sheet(rows: Sequence[Row], note: str) -> Sheet:
    """A line for each measure, a column for each method: values, or mean and deviation of the seeds."""
    methods = list(dict.fromkeys(row["method"] for row in rows))
    lines = []
    for key, (title, form) in COLUMNS.items():
        values = [[row.get(key) for row in rows if row["method"] == method] for method in methods]
        cells = [spread([nan if value is None else value for value in of], form) for of in values]
        lines.append([title, *cells])
    return Sheet("", ["", *methods], lines, note)


def csv_table(rows: Sequence[Row]) -> str:
    """One line for each method and seed, unrounded; empty where there is no value."""
    file = io.StringIO()
    writer = csv.DictWriter(file, ["method", "seed", *COLUMNS], extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()
