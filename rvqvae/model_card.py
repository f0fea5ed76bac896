"""What a model folder says of itself to people: README.md, a model card (Mitchell et al. 2019)."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from rvqvae.atomic import write_atomically

PACKAGES = ("rvqvae", "torch", "numpy", "scikit-learn")
NAME = "README.md"


class Card(NamedTuple):
    """What is known of a fitted model."""

    samples: int
    shape: tuple[int, ...]
    """(C, H, W) of images, (d,) of vectors."""
    verdict: str
    contamination: float
    interval: tuple[float, float]
    threshold: float
    """Outlier probability above which a sample is an outlier."""
    answered: Sequence[str | int]
    """Ids of groups and rows of samples that people were asked about."""
    trained: bool
    parameters: dict[str, Any]


def versions() -> dict[str, str]:
    """Of Python and of what computes the results."""
    return {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}


def write_card(folder: Path, card: Card) -> None:
    """README.md in the folder of the model."""
    write_atomically(folder / NAME, card_text(card).encode())


def card_text(card: Card) -> str:
    """Markdown: use, data, verdict, limits, parameters, versions."""
    what = f"images of {' x '.join(map(str, card.shape))} (channels, height, width)"
    kind = what if len(card.shape) == 3 else f"vectors of {card.shape[0]} numbers"
    low, high = card.interval
    rows = sum(isinstance(key, int) for key in card.answered)
    rate = f"95 % interval {low:.1%} to {high:.1%}" if low < high else "the rate that was given"
    does = "scores samples, draws heat maps and makes new inliers" if card.trained else "scores samples"
    few = (
        "- It was fitted to fewer than 100 samples, of which no verdict is given.\n"
        if card.samples < 100
        else ""
    )
    return f"""---
library_name: rvqvae
tags: [anomaly-detection, outlier-detection]
---
# Robust VQ-VAE

It {does}: `rvqvae.RobustVQVAE.load(FOLDER)`, or `rvqvae score FOLDER IMAGES --out scores.csv`.
Loading executes nothing.

## Data

{card.samples:,} {kind}, without labels, of which some may not belong.
The data are not in this folder, but codes and projections of them are.

## Verdict

{card.verdict}: {card.contamination:.1%} of the samples do not belong ({rate}).
A sample is an outlier where its probability is above {card.threshold:.3f}. People answered
about {len(card.answered) - rows:,} groups and {rows:,} samples.

## Limits

- It knows what the majority of its own data looks like: "outlier" means unlike these, not wrong.
- Outliers of the inliers' own kind (another class, small defects) are ranked, rarely called.
- It prefers keeping: without answers many outliers may be called inliers.
- Scores of other sizes, cameras or conversions than those of the data mean little.
{few}
## Parameters

{_table(card.parameters)}
## Versions

{_table(versions())}"""


def _table(values: dict[str, Any]) -> str:
    rows = [f"| {name} | {_cell(value)} |" for name, value in values.items()]
    return "\n".join(["| name | value |", "| --- | --- |", *rows]) + "\n"


def _cell(value: Any) -> str:
    return " ".join(str(value).encode("utf-8", "backslashreplace").decode().replace("|", "\\|").split())
