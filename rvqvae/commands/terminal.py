"""Questions in the terminal: by pictures where it can show them, else by names of files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from rich.color import Color
from rich.console import Console, RenderableType
from rich.style import Style
from rich.text import Text

from rvqvae.io.pictures import Side, decode
from rvqvae.io.sources import Source
from rvqvae.membership.answers import WORTH
from rvqvae.questions import Question, Said, outlook

if TYPE_CHECKING:
    from rvqvae.estimator import RobustVQVAE

WORDS: dict[str, Said] = {"yes": True, "no": False, "mixed": None}
ABOUT = 8
"""Questions that are announced at first."""
TILE, COLUMNS = 96, 4
"""Height of a picture in pixels; pictures in a row."""
WIDTH = 96
"""Cells, at most, that a row of pictures takes."""


def ask_in_terminal(model: RobustVQVAE, names: Sequence[str], source: Source, side: Side) -> None:
    """Ask until the verdict is clear and no answer is expected to change an image.

    ``names`` (N,) of the training data in ``source``; ``side``: how the model reads them.
    """
    console = Console()
    print(outlook(model.ask(ABOUT)))
    asked = 0
    while (questions := model.ask(1)) and (questions[0].gain >= WORTH or model.verdict_ == "undecided"):
        question = questions[0]
        of = "this image" if len(question.rows) == 1 else f"these {len(question.rows):,} images"
        about = f" of about {ABOUT}" if asked < ABOUT else ""
        print(
            f"\nQuestion {asked + 1}{about}: do {of} belong? {question.probability:.0%} likely not; "
            f"{question.reason}."
        )
        _show(console, question, names, source, side)
        answer = _typed(undo=asked > 0)
        if answer == "quit":
            return
        if answer == "undo":
            model.undo()
        else:
            model.answer({question.id: WORDS[answer]})
        asked += -1 if answer == "undo" else 1
    print(outlook(questions))


def _show(console: Console, question: Question, names: Sequence[str], source: Source, side: Side) -> None:
    shown = [names[row] for row in question.examples]
    pictures = console.is_terminal and console.color_system is not None
    if pictures:
        width = min(console.width, WIDTH) * min(COLUMNS, len(shown)) // COLUMNS
        console.print(_renderable(_sheet(source, side, shown), width))
    if not pictures or len(shown) == 1:
        for name in shown:
            print(f"  {' '.join(name.encode('utf-8', 'backslashreplace').decode().split())}")


def _sheet(source: Source, side: Side, names: Sequence[str]) -> Image.Image:
    """The pictures of these names in rows; a grey tile for what can no longer be read."""
    height, width = side.size
    size = (TILE, max(1, round(TILE * width / height)))
    columns = min(COLUMNS, len(names))
    sheet = Image.new("RGB", (columns * size[1], -(-len(names) // columns) * TILE), "grey")
    for i, name in enumerate(names):
        pixels = decode(source, side._replace(size=size, channels=3), name)
        if not isinstance(pixels, str):
            place = (i % columns * size[1], i // columns * TILE)
            sheet.paste(Image.fromarray(pixels.transpose(1, 2, 0)), place)
    return sheet


def _renderable(sheet: Image.Image, width: int) -> RenderableType:
    """As the terminal can show it: by its graphics protocol, or by half blocks."""
    try:
        from textual_image.renderable import Image as Found
        from textual_image.renderable import SixelImage, TGPImage
    except ImportError:
        return half_blocks(sheet, width)
    return Found(sheet, width=width) if Found in (SixelImage, TGPImage) else half_blocks(sheet, width)


def half_blocks(picture: Image.Image, width: int) -> Text:
    """A picture in lines of ``width`` cells, each two pixels high."""
    rows = max(1, round(picture.height / picture.width * width / 2))
    pixels = np.asarray(picture.resize((width, 2 * rows), Image.Resampling.BOX)).tolist()
    text = Text()
    for upper, lower in zip(pixels[::2], pixels[1::2], strict=True):
        for above, below in zip(upper, lower, strict=True):
            text.append("▀", Style(color=Color.from_rgb(*above), bgcolor=Color.from_rgb(*below)))
        text.append("\n")
    return text


def _typed(undo: bool) -> str:
    choices = [*WORDS, *(["undo"] if undo else []), "quit"]
    while True:
        try:
            word = input(f"yes, no, mixed (or don't know), {'undo, ' if undo else ''}quit: ").strip().lower()
        except EOFError:
            print()
            return "quit"
        if full := [name for name in choices if word and name.startswith(word)]:
            return full[0]
        print(f"Type {', '.join(name[0] for name in choices[:-1])} or q.")
