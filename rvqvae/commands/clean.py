"""Clean a folder: what does not belong, with a page to review it and a copy of the rest."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from rvqvae.commands.lines import before, counts_line, verdict_line
from rvqvae.commands.options import DEFAULTS, FitOptions
from rvqvae.errors import InputError
from rvqvae.progress import Progress, silent

if TYPE_CHECKING:
    from rvqvae.commands.answer import Settled
    from rvqvae.commands.apply import Applied
    from rvqvae.commands.read import Preview
    from rvqvae.estimator import RobustVQVAE
    from rvqvae.io.ledger import Entry
    from rvqvae.io.manifest import Row
    from rvqvae.io.reading import Inventory

RESULTS = ("manifest.csv", "report.html", "summary.json", "model")


class Cleaned(NamedTuple):
    """What a cleaning found, and where it is."""

    out: Path
    summary: dict[str, Any]
    """As in summary.json."""
    copied: int | None
    """Files in ``clean/``; None if no copy was asked for."""
    done_before: bool
    """Whether the results were there already, of the same options and files."""
    settled: Settled | None = None
    """What answers changed."""

    def lines(self) -> list[str]:
        from rvqvae.commands.read import account_lines

        files = ["manifest.csv", "report.html", "summary.json", "model/"]
        if self.copied is not None:
            files.append(f"clean/ ({self.copied:,} images)")
        counts = ("images", "kept", "dropped", "unreadable", "duplicates", "near_duplicates")
        return [
            *before(self.done_before and self.settled is None),
            *(self.settled.lines() if self.settled else ()),
            verdict_line(self.summary),
            counts_line(self.summary, *counts),
            *account_lines(self.summary, copied=self.copied is not None),
            f"In {self.out}: {', '.join(files)}. Open {self.out / 'report.html'} to review.",
        ]


def clean(
    images: str | Path,
    out: str | Path,
    options: FitOptions = DEFAULTS,
    *,
    copy: bool = False,
    link: bool = False,
    manifest: str | Path | None = None,
    answers: str | Path | None = None,
    ask: bool = False,
    dry_run: bool = False,
    no_train: bool = False,
    labels: str | Path | None = None,
    no_issues: bool = False,
    command: str = "",
    progress: Progress = silent,
) -> Cleaned | Applied | Preview:
    """Find what does not belong in a set of images; it needs no labels.

    Writes OUT/manifest.csv (every file found), report.html (to review), summary.json and model/.
    IMAGES is never changed. The same command continues a run that was cut short, and without --no-train it
    trains what --no-train left out in the same OUT; answers stay.

      rvqvae clean photos --out cleaned
      rvqvae clean photos --out cleaned --copy    # copies what is kept to cleaned/clean
      rvqvae clean photos --out cleaned --contamination 0.05
      rvqvae clean photos --out cleaned --no-train   # in seconds: no samples, no heat maps
      rvqvae clean photos --out cleaned --dry-run
      rvqvae clean photos --out cleaned --labels labels.csv   # and which labels are likely wrong
      rvqvae clean photos --out cleaned --ask        # a few questions
      rvqvae clean photos --out cleaned --answers reviewed.csv --copy
      rvqvae clean photos --out final --manifest reviewed.csv --copy

    Args:
        out: folder of the results
        copy: copy what is kept to OUT/clean
        link: link to what is kept in OUT/clean
        manifest: apply this reviewed manifest (CSV), without training
        answers: learn from the answers in this reviewed manifest, and apply them
        ask: ask what the rules cannot know, in the terminal
        dry_run: say what would be read, and write nothing
        no_train: leave out the networks: a list, a page and scores, in seconds; no samples and heat maps
        labels: CSV with the columns path and label; without it, images in a folder for each class are of that
        no_issues: do not look for dark, bright, blurred, odd and other images that a person may want to see
        command: what summary.json says that was run
        progress: called with stage, steps done and steps in all

    Returns:
        `Cleaned`; with a manifest, `Applied`; of a dry run, `Preview`.

    Raises:
        InputError: for bad input, and for an ``out`` inside ``images``, in use, or holding something else.
            A finished run is left as it is, unless files of the source have changed since.
    """
    from rvqvae.commands.apply import CLEAN, apply_manifest, copy_clean, copy_kind
    from rvqvae.commands.folder import check_outside, digest_of, locked
    from rvqvae.commands.read import load_model, preview, read_for_fit
    from rvqvae.io.labels import digest_of_labels, read_labels
    from rvqvae.io.manifest import check_linkable, read_manifest
    from rvqvae.io.sources import open_source

    images, out = Path(images), Path(out)
    if no_train:
        options = replace(options, epochs=0)
    kind = copy_kind(copy, link)
    if labels is not None and (manifest is not None or dry_run):
        raise InputError("--labels is for a cleaning: leave it out with --manifest and --dry-run")
    if manifest is not None:
        if kind is None or dry_run:
            raise InputError("--manifest only copies: give --copy or --link with it, and not --dry-run")
        return apply_manifest(images, manifest, out, kind)
    check_outside(out, images)
    if dry_run:
        return preview(images, options, progress)

    job = {"job": "clean", "images": str(images.resolve()), **options.identity}
    job |= {"no_issues": True} if no_issues else {}
    with ExitStack() as stack:
        source = stack.enter_context(open_source(images))
        if kind == "link":
            check_linkable(source)
        inputs, classes = digest_of(source), None
        if labels is not None:
            classes = read_labels(labels, source.names)
            inputs += digest_of_labels(classes)
        folder = stack.enter_context(locked(out))
        known = all((out / name).exists() for name in RESULTS)
        with folder.job(job, inputs, RESULTS, part={"epochs": 0}, copy=CLEAN) as done:
            if not done:
                started = time.monotonic()
                found = read_for_fit(source, folder, options, progress, classes, not no_issues)
                estimator = options.estimator(folder.work, progress)
                if known:
                    estimator.remember(load_model(out)[0])
                facts = {"seed": options.seed, "command": command}
                # Who belongs is known long before the networks are trained: the page need not wait for them.
                estimator.set_params(epochs=0).fit(found.images).set_params(epochs=options.epochs)
                rows = manifest_rows(found, estimator, None if no_issues else labels is not None)
                _publish(found, rows, estimator, images, out, facts, started)
                if options.epochs != 0:
                    estimator.train(found.images)
                    _publish(found, rows, estimator, images, out, facts, started)
        settled = None
        if answers is not None or ask:
            from rvqvae.commands.answer import settle

            settled = settle(source, out, answers, ask, progress)
        copied = copy_clean(read_manifest(out / "manifest.csv"), source, folder, kind) if kind else None
        summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    return Cleaned(out, summary, copied, done, settled)


def _publish(
    found: Inventory,
    rows: Sequence[Row],
    estimator: RobustVQVAE,
    images: Path,
    out: Path,
    facts: dict[str, Any],
    started: float,
) -> None:
    """Write all results as they are known now; a training adds heat maps to the page that is there."""
    from rvqvae.commands.read import model_metadata
    from rvqvae.commands.record import peak_memory, write_json
    from rvqvae.io.manifest import write_manifest
    from rvqvae.model_card import versions
    from rvqvae.report import heat_maps, review, update_report, write_report

    write_manifest(out / "manifest.csv", rows)
    trained, page = bool(estimator.history_), out / "report.html"
    shown = heat_maps(found, estimator) if trained else review(found, estimator, images, out)
    summary = (
        _summary(found, rows, estimator)
        | facts
        | {
            "size": list(found.side.size),
            "channels": found.side.channels,
            "trained": trained,
            "seconds": round(time.monotonic() - started, 1),
            "peak_memory_gib": peak_memory(),
            "versions": versions(),
        }
    )
    if isinstance(shown, dict):
        update_report(page, summary=summary, rows=rows, said=estimator.inquiry_.said, heat=shown)
    else:
        write_report(
            page,
            title=images.resolve().name,
            summary=summary,
            rows=rows,
            threshold=estimator.threshold_,
            **shown._asdict(),
        )
    estimator.save(out / "model", metadata=model_metadata(found.side))
    write_json(out / "summary.json", summary)


def manifest_rows(found: Inventory, estimator: RobustVQVAE, labelled: bool | None = None) -> list[Row]:
    """A row for every file: scores for the good ones, reasons for the others.

    ``labelled``: whether the user gave the labels, or they are folders; None does not judge them.
    """
    import numpy as np

    from rvqvae.io.manifest import Row

    scores = np.full(len(found.entries), np.nan)
    probability, kept = scores.copy(), np.zeros(len(scores), bool)
    scores[found.rows], probability[found.rows] = estimator.scores_, estimator.outlier_probability_
    kept[found.rows] = estimator.inlier_mask_
    rows = [
        Row(
            entry.path,
            entry.sha256,
            entry.status,
            float(score),
            float(p),
            bool(keep),
            _reason(entry, keep),
            "; ".join(entry.issues),
            entry.label,
        )
        for entry, score, p, keep in zip(found.entries, scores, probability, kept, strict=True)
    ]
    if labelled is not None:
        from rvqvae.commands.labels import label_issues

        for i, fields in label_issues([rows[i] for i in found.rows], estimator.embedding_, labelled):
            rows[found.rows[i]] = rows[found.rows[i]]._replace(**fields)
    return rows


def _reason(entry: Entry, keep: bool) -> str:
    if entry.status != "ok" or keep:
        return entry.reason
    return "; ".join(filter(None, ["outlier", entry.reason]))


def _summary(found: Inventory, rows: Sequence[Row], estimator: RobustVQVAE) -> dict[str, Any]:
    """What was found: counts, contamination and verdict."""
    from rvqvae.commands.answer import answer_counts
    from rvqvae.commands.read import account_of, issue_counts, status_counts

    scored = sum(row.status == "ok" for row in rows)
    kept = sum(row.keep for row in rows)
    return {
        "images": len(rows),
        "scored": scored,
        **status_counts(found.entries),
        **account_of(found),
        "kept": kept,
        "dropped": scored - kept,
        "contamination": float(estimator.contamination_),
        "contamination_interval": [round(float(end), 6) for end in estimator.contamination_interval_],
        "verdict": estimator.verdict_,
        **issue_counts(rows),
        **({"answers": answer_counts(estimator)} if estimator.answers_ else {}),
    }
