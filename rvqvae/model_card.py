"""The README.md of a model folder: a model card (Mitchell et al. 2019)."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from rvqvae.atomic import write_atomically

PACKAGES = ("rvqvae", "torch", "numpy", "scikit-learn")
NAME = "README.md"


class Card(NamedTuple):
    """The content of the card of a fitted model."""

    name: str
    """Its class, with the module that it is imported from."""
    what: str
    """What it does, in a sentence."""
    shape: tuple[int, ...]
    """(C, H, W) of images, (d,) of vectors."""
    sections: Mapping[str, str]
    """More to say, by title."""
    parameters: Mapping[str, Any]


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that compute the results."""
    return {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}


def write_card(folder: Path, card: Card) -> None:
    """Write README.md into the folder of the model."""
    write_atomically(folder / NAME, card_text(card).encode())


def card_text(card: Card) -> str:
    """The card as Markdown: use, data, more sections, parameters, versions."""
    images = f"images of {' x '.join(map(str, card.shape))} (channels, height, width)"
    kind = images if len(card.shape) == 3 else f"vectors of {card.shape[0]:,} numbers"
    sections = {
        "Data": f"It learned from {kind}, without labels. They are not in this folder, but what was computed "
        "from them is.",
        **card.sections,
        "Parameters": _table(card.parameters),
        "Versions": _table(versions()),
    }
    head = f"""---
library_name: rvqvae
tags: [unsupervised]
---
# {card.name.rpartition(".")[2]}

{card.what}

Load it with `{card.name}.load(FOLDER)`. Loading executes nothing.
"""
    return head + "".join(f"\n## {title}\n\n{body.strip()}\n" for title, body in sections.items())


def _table(values: Mapping[str, Any]) -> str:
    rows = [f"| {name} | {_cell(value)} |" for name, value in values.items()]
    return "\n".join(["| name | value |", "| --- | --- |", *rows]) + "\n"


def _cell(value: Any) -> str:
    return " ".join(str(value).encode("utf-8", "backslashreplace").decode().replace("|", "\\|").split())
