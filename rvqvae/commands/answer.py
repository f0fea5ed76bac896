"""Answers about a cleaning, from a reviewed manifest or the terminal, and what they change in its results."""

from __future__ import annotations

import csv
import json
import warnings
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rvqvae.commands.lines import words
from rvqvae.commands.read import load_model
from rvqvae.commands.record import write_json
from rvqvae.errors import InputError
from rvqvae.io.manifest import Row, read_manifest, read_text, write_manifest
from rvqvae.membership.answers import WORTH
from rvqvae.progress import Progress, silent
from rvqvae.questions import Key, Said, outlook

if TYPE_CHECKING:
    from rvqvae.estimator import RobustVQVAE

WORDS: dict[str, Said] = {"yes": True, "no": False, "mixed": None}
COLUMNS = ("path", "answer", "group", "group_answer", "run")
OUTLIER = "outlier"
ABOUT = 8
"""Questions that a terminal announces at first."""


class Settled(NamedTuple):
    """What answers changed."""

    groups: int
    """Answers about groups, all in all."""
    images: int
    dropped: int
    """Images that were kept before."""
    kept: int
    """Images that were dropped before."""
    notes: tuple[str, ...]

    def lines(self) -> list[str]:
        return [
            *self.notes,
            f"Learned from {self.groups:,} answers about groups and {self.images:,} about images: "
            f"{self.dropped:,} that were kept are dropped, {self.kept:,} that were dropped are kept.",
        ]


def settle(
    out: Path, answers: str | Path | None, ask: bool = False, progress: Progress | None = None
) -> Settled:
    """Learn from the ``answers`` file and what is typed, and apply it to the results in ``out``.

    Nothing is trained. The page stays as it is: it has the answers that it was given. InputError for a
    damaged file, and for answers about another run.
    """
    model, _ = load_model(out)
    rows = read_manifest(out / "manifest.csv")
    good = [i for i, row in enumerate(rows) if row.status == "ok"]
    if len(good) != len(model.scores_):
        raise InputError(
            f"{out / 'manifest.csv'} lists {len(good):,} good images, but the model learned from "
            f"{len(model.scores_):,}: give the folder of one cleaning"
        )
    names = [rows[i].path for i in good]
    notes: list[str] = []
    if answers is not None:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model.answer(read_answers(answers, model.inquiry_.run, names))
        notes = [str(warning.message) for warning in caught]
    if ask:
        (progress or silent)("ask", 0, 0)
        ask_in_terminal(model, names)
    new = list(rows)
    for i, score, p, keep in zip(
        good, model.scores_, model.outlier_probability_, model.inlier_mask_, strict=True
    ):
        new[i] = rows[i]._replace(
            score=float(score), outlier_probability=float(p), keep=bool(keep), reason=_reason(rows[i], keep)
        )
    rows_of = [isinstance(key, int) for key in model.answers_]
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    kept = sum(row.keep for row in new)
    summary |= {
        "kept": kept,
        "dropped": len(good) - kept,
        "contamination": model.contamination_,
        "contamination_interval": [round(end, 6) for end in model.contamination_interval_],
        "verdict": model.verdict_,
        "answers": {"groups": len(rows_of) - sum(rows_of), "images": sum(rows_of)},
    }
    model.save(out / "model")
    write_manifest(out / "manifest.csv", new)
    write_json(out / "summary.json", summary)
    return Settled(
        len(rows_of) - sum(rows_of),
        sum(rows_of),
        sum(was.keep and not now.keep for was, now in zip(rows, new, strict=True)),
        sum(now.keep and not was.keep for was, now in zip(rows, new, strict=True)),
        tuple(notes),
    )


def read_answers(path: str | Path, run: str, names: Sequence[str]) -> dict[Key, Said]:
    """The answers in a reviewed manifest, about a run whose samples have these ``names``.

    InputError, with the line, for a missing column, another run, an answer that is none, or an unknown file.
    """
    reader = csv.DictReader(StringIO(read_text(path), newline=""), strict=True)
    places = {name: row for row, name in enumerate(names)}
    said: dict[Key, Said] = {}
    try:
        if missing := [name for name in COLUMNS if name not in (reader.fieldnames or ())]:
            raise InputError(
                f"{path} lacks the column {missing[0]!r}: give the reviewed.csv that the page exports"
            )
        for fields in reader:
            where = f"{path}, line {reader.line_num}"
            answer, group = (_said(fields, name, where) for name in ("answer", "group_answer"))
            if (answer or group) and fields["run"] != run:
                raise InputError(
                    f"{where}: these are answers about run {fields['run']!r}, and this is {run!r}: "
                    "export them from the page of this cleaning"
                )
            if group:
                said[f"{run}-g{fields['group']}"] = WORDS[group]
            if answer:
                if fields["path"] not in places:
                    raise InputError(f"{where}: {fields['path']!r} is no image that this run learned from")
                said[places[fields["path"]]] = WORDS[answer]
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: {error}: repair this line") from error
    return said


def ask_in_terminal(model: RobustVQVAE, names: Sequence[str]) -> None:
    """Ask one question after another by names of files, until the verdict is clear and no answer is expected
    to change an image."""
    print(outlook(model.ask(ABOUT)))
    asked = 0
    while (questions := model.ask(1)) and (questions[0].gain >= WORTH or model.verdict_ == "undecided"):
        question = questions[0]
        asked += 1
        of = "this image" if len(question.rows) == 1 else f"these {len(question.rows):,} images"
        print(
            f"\nQuestion {asked}: do {of} belong? {question.probability:.0%} likely not; {question.reason}."
        )
        for row in question.examples:
            print(f"  {_shown(names[row])}")
        answer = _typed()
        if answer == "quit":
            return
        model.answer({question.id: WORDS[answer]})
    print(outlook(questions))


def _typed() -> str:
    while True:
        try:
            word = input("yes, no, mixed (or don't know), quit: ").strip().lower()
        except EOFError:
            print()
            return "quit"
        if full := [name for name in (*WORDS, "quit") if word and name.startswith(word)]:
            return full[0]
        print("Type y, n, m or q.")


def _shown(name: str) -> str:
    return " ".join(name.encode("utf-8", "backslashreplace").decode().split())


def _said(fields: Mapping[str, str | None], name: str, where: str) -> str:
    word = (fields[name] or "").strip().lower()
    if word and word not in WORDS:
        raise InputError(f"{where}: {words(name)} {word!r} is none: it must be yes, no, mixed or empty")
    return word


def _reason(row: Row, keep: bool) -> str:
    rest = [part for part in row.reason.split("; ") if part and part != OUTLIER]
    return "; ".join(rest if keep else [OUTLIER, *rest])
