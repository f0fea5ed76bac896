"""Answers about a cleaning, from a reviewed manifest or the terminal, and what they change in its results."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rvqvae.commands.lines import words
from rvqvae.commands.read import load_model
from rvqvae.commands.record import write_json
from rvqvae.commands.terminal import WORDS, ask_in_terminal
from rvqvae.errors import InputError
from rvqvae.io.manifest import Row, read_manifest, read_table, write_manifest
from rvqvae.io.sources import Source
from rvqvae.progress import Progress, silent
from rvqvae.questions import Asking, Inquiry, Key, Said
from rvqvae.report import update_report

if TYPE_CHECKING:
    from rvqvae.estimator import RobustVQVAE

COLUMNS = ("path", "answer", "group", "group_answer", "run")
OUTLIER = "outlier"


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
    source: Source, out: Path, answers: str | Path | None, ask: bool = False, progress: Progress = silent
) -> Settled:
    """Learn from the ``answers`` file and from typed answers, and update the results in ``out``.

    Nothing is trained, and only images that are asked about are read from ``source``. Raises InputError for a
    damaged file and for answers about another run.
    """
    model, side = load_model(out)
    rows = read_manifest(out / "manifest.csv")
    good = [i for i, row in enumerate(rows) if row.status == "ok"]
    if len(good) != len(model.scores_):
        raise InputError(
            f"{out / 'manifest.csv'} lists {len(good):,} good images, but the model learned from "
            f"{len(model.scores_):,}: give the folder of one cleaning"
        )
    names = [rows[i].path for i in good]
    notes = list[str]()
    if answers is not None:
        notes = learn_from(model, answers, names)
    if ask:
        progress("ask", 0, 0)
        ask_in_terminal(model, names, source, side)
    new = list(rows)
    for i, score, p, keep in zip(
        good, model.scores_, model.outlier_probability_, model.inlier_mask_, strict=True
    ):
        new[i] = rows[i]._replace(
            score=float(score), outlier_probability=float(p), keep=bool(keep), reason=_reason(rows[i], keep)
        )
    answered = answer_counts(model)
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    kept = sum(row.keep for row in new)
    summary |= {
        "kept": kept,
        "dropped": len(good) - kept,
        "contamination": model.contamination_,
        "contamination_interval": [round(end, 6) for end in model.contamination_interval_],
        "verdict": model.verdict_,
        "answers": answered,
    }
    page = out / "report.html"
    if not update_report(page, summary=summary, rows=new, said=model.inquiry_.said):
        notes.append(f"{page} is of another version, and stays as it was before these answers")
    model.save(out / "model")
    write_manifest(out / "manifest.csv", new)
    write_json(out / "summary.json", summary)
    return Settled(
        answered["groups"],
        answered["images"],
        sum(was.keep and not now.keep for was, now in zip(rows, new, strict=True)),
        sum(now.keep and not was.keep for was, now in zip(rows, new, strict=True)),
        tuple(notes),
    )


def answer_counts(model: RobustVQVAE) -> dict[str, int]:
    """Numbers of answers, for summary.json."""
    images = sum(isinstance(key, int) for key in model.answers_)
    return {"groups": len(model.answers_) - images, "images": images}


def learn_from(model: Asking, path: str | Path, names: Sequence[str]) -> list[str]:
    """Let a model learn from a reviewed manifest of its samples; return warnings."""
    read, confirmed, notes = read_answers(path, model.inquiry_, names)
    before = model.answers_
    said = {answer: word for word, answer in WORDS.items()}
    for key in read.keys() & before.keys():
        if read[key] != before[key]:
            which = repr(names[key]) if isinstance(key, int) else f"group {key.rpartition('-g')[2]}"
            notes.append(f"{which} was answered {said[before[key]]!r}, and is now {said[read[key]]!r}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # They are of ids and rows, which no manifest has.
        # Pages repeat what they were given; only what they call confirmed was said twice.
        model.answer({key: answer for key, answer in read.items() if before.get(key, "") != answer})
        model.answer({key: read[key] for key in confirmed - model.inquiry_.confirmed})
    return notes


def read_answers(
    path: str | Path, inquiry: Inquiry, names: Sequence[str]
) -> tuple[dict[Key, Said], set[str], list[str]]:
    """Answers in a reviewed manifest to the ``inquiry`` about a run, whose samples have these ``names``.

    Returns the answers, the ids of groups that were confirmed, and warnings about contradicting lines. Raises
    InputError, with the line, for a missing column, another run, an answer that is none, an unknown file or
    group, and for a file without any answer.
    """
    table = read_table(path, COLUMNS, "give the reviewed.csv that the page exports")
    run, places = inquiry.run, {name: row for row, name in enumerate(names)}
    said: dict[Key, Said] = {}
    confirmed = set[str]()
    notes = list[str]()

    def take(key: Key, word: str) -> None:
        if key in said and said[key] != WORDS[word]:
            notes.append(f"{where}: {word!r} contradicts an earlier line: the later counts")
        said[key] = WORDS[word]

    for where, fields in table:
        answer, group = (_said(fields, name, where) for name in ("answer", "group_answer"))
        if (answer or group) and fields["run"] != run:
            raise InputError(
                f"{where}: these are answers about run {fields['run']!r}, and this is {run!r}: "
                "export them from the page of this cleaning"
            )
        if group:
            number = fields["group"] or ""
            if not (number.isascii() and number.isdecimal()) or int(number) >= len(inquiry.parts):
                raise InputError(
                    f"{where}: group {number!r} is none of the {len(inquiry.parts):,} of this run: "
                    "export the list from its page again, or remove this line"
                )
            take(key := f"{run}-g{int(number)}", group)
            if _said(fields, "group_confirmed", where) == "yes":
                confirmed.add(key)
        if answer:
            if fields["path"] not in places:
                raise InputError(
                    f"{where}: {fields['path']!r} is no image that this run learned from: export the list "
                    "from its page again, or remove this line"
                )
            take(places[fields["path"]], answer)
    if not said:
        raise InputError(
            f"{path} holds no answer: answer on the page and export the list, "
            "or apply this one with --manifest"
        )
    return said, confirmed, notes


def _said(fields: Mapping[str, str | None], name: str, where: str) -> str:
    word = (fields.get(name) or "").strip().lower()
    if word and word not in WORDS:
        raise InputError(f"{where}: {words(name)} {word!r} is none: it must be yes, no, mixed or empty")
    return word


def _reason(row: Row, keep: bool) -> str:
    rest = [part for part in row.reason.split("; ") if part and part != OUTLIER]
    return "; ".join(rest if keep else [OUTLIER, *rest])
