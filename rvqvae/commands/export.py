"""What a cleaning found, in the formats of the tools that people go on with."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args, get_type_hints
from urllib.parse import quote

import numpy as np

from rvqvae.commands.folder import STATE, WORK, check_file
from rvqvae.commands.read import load_model, read_for_model
from rvqvae.commands.record import write_json
from rvqvae.errors import InputError, check_choice, check_whole
from rvqvae.io.ledger import NEAR
from rvqvae.io.manifest import Row, read_manifest, write_manifest, write_table

Tool = Literal["fiftyone", "label-studio", "datalab", "croissant", "onnx"]
LABELS = """<View>
  <Image name="image" value="$image"/>
  <Choices name="belongs" toName="image" choice="single" showInLine="true">
    <Choice value="belongs"/>
    <Choice value="does not belong"/>
  </Choices>
</View>
"""
"""The labelling interface that the tasks for Label Studio are for."""
CLEANVISION = {
    "dark": "dark", "bright": "light", "blurred": "blurry", "low information": "low_information",
    "odd size": "odd_size", "odd aspect ratio": "odd_aspect_ratio", "grey": "grayscale",
}  # fmt: skip
"""What Datalab calls our kinds of faults."""
DATALAB = (
    "path", "is_outlier_issue", "outlier_score", "is_label_issue", "label_score", "is_exact_duplicates_issue",
    "is_near_duplicate_issue", *(f"is_{name}_issue" for name in CLEANVISION.values()),
)  # fmt: skip


class Exported(NamedTuple):
    """What was written, and how it is opened."""

    out: Path
    images: int
    left_out: int
    """Rows that are no readable image."""
    how: str

    def lines(self) -> list[str]:
        lost = f", {self.left_out:,} unreadable left out" if self.left_out else ""
        return [f"{self.images:,} images are in {self.out}{lost}.", f"Open it with: {self.how}"]


class ExportedScorer(NamedTuple):
    """An ONNX file that scores images, and how near it comes."""

    out: Path
    given: int
    """Images of the user that both were compared on."""
    drawn: int
    """Images drawn for that: noise, stripes, discs and gradients."""
    largest: float
    """Largest difference of log odds, as a share of their size where that is above 1."""

    def lines(self) -> list[str]:
        return [
            f"The scorer is {self.out}: log odds of {self.given:,} images and {self.drawn:,} drawn ones "
            f"differ by at most {self.largest:.1g} from the model's.",
            f"Open it with: onnxruntime.InferenceSession({str(self.out)!r})",
        ]


class Results(NamedTuple):
    """A cleaning, as the formats need it."""

    images: Path
    """The folder of the images."""
    rows: list[Row]
    """Of the readable images."""
    summary: dict[str, Any]


def export(
    results: str | Path, out: str | Path, *, to: Tool, images: str | Path | None = None, seed: int = 0
) -> Exported | ExportedScorer:
    """Write what `rvqvae clean` found for another tool: scores, probabilities, decisions and duplicates.

    Files are named, not copied. To onnx goes the model instead, as a file that scores uint8 images
    (N, C, H, W) of its size (the extra rvqvae[onnx]); it is kept only if it gives the model's scores. The
    seed draws images to compare both on; nothing else depends on it.

      rvqvae export cleaned --to fiftyone --out samples.csv
      rvqvae export cleaned --to label-studio --out tasks.json
      rvqvae export cleaned --to datalab --out issues.csv
      rvqvae export cleaned --to croissant --out croissant.json
      rvqvae export cleaned --to onnx --out scorer.onnx

    Args:
        results: folder that rvqvae clean made; to onnx, also that of a model
        out: file to write
        to: the tool
        images: where the images are now, by default where they were when they were cleaned; to onnx, some to
            compare both on, by default drawn ones only

    Raises:
        InputError: for a folder that holds no cleaning, for images in no folder, for a model that cannot be
            exported, and for an ONNX file whose scores would differ
    """
    check_whole("seed", seed, 0)
    check_choice("to", to, get_args(Tool))
    out = Path(out)
    if to == "onnx":
        return _onnx(Path(results), out, images, seed)
    found, left_out = _results(Path(results), images)
    check_file(out, "tasks.json", found.images)
    writers: dict[str, Callable[[Results, Path], str]] = {
        "fiftyone": _fiftyone, "label-studio": _label_studio, "datalab": _datalab, "croissant": _croissant,
    }  # fmt: skip
    return Exported(out, len(found.rows), left_out, writers[to](found, out))


def label_studio_tasks(found: Results) -> list[dict[str, Any]]:
    """A task for every image, the most doubtful first, with what we say as a prediction.

    Images are named below Label Studio's root for local files, LOCAL_FILES_DOCUMENT_ROOT, which must be the
    folder that holds the folder of the images. https://labelstud.io/guide/predictions
    """
    version = f"rvqvae {found.summary['versions']['rvqvae']}"
    probability = np.array([row.outlier_probability for row in found.rows])
    doubt = np.argsort(np.nan_to_num(abs(probability - 0.5), nan=1), kind="stable")
    return [
        {
            "data": {
                "image": f"/data/local-files/?d={quote(_utf8(f'{found.images.name}/{row.path}'))}",
                "path": _utf8(row.path),
                "reason": _utf8(row.reason),
            },
            "predictions": [_prediction(row, version)],
        }
        for row in map(found.rows.__getitem__, doubt)
    ]


def _prediction(row: Row, version: str) -> dict[str, Any]:
    choice = "belongs" if row.keep else "does not belong"
    result = {"from_name": "belongs", "to_name": "image", "type": "choices", "value": {"choices": [choice]}}
    p = row.outlier_probability
    score = {} if math.isnan(p) else {"score": 1 - p if row.keep else p}
    return {"model_version": version, "result": [result], **score}


def datalab_row(row: Row) -> list[object]:
    """The columns of cleanlab's Datalab.get_issues(): what is an issue, and scores from 0, the worst, to 1.

    https://docs.cleanlab.ai/stable/cleanlab/datalab/guide/issue_type_description.html
    """
    kinds = row.issues.split("; ")
    return [
        row.path, not row.keep and row.status == "ok", 1 - row.outlier_probability, bool(row.suggested_label),
        row.label_probability, row.status == "duplicate", NEAR in row.reason,
        *(kind in kinds for kind in CLEANVISION),
    ]  # fmt: skip


def croissant_metadata(found: Results, manifest: str, digest: str) -> dict[str, Any]:
    """Croissant 1.0 of a table and the images that it names. https://docs.mlcommons.org/croissant/docs/"""
    from rvqvae.report import interval_text

    hints = get_type_hints(Row)
    fields = {
        name: {bool: "sc:Boolean", float: "sc:Float"}.get(hints[name], "sc:Text") for name in Row._fields
    }
    rate, interval = found.summary["contamination"], interval_text(found.summary["contamination_interval"])
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": _utf8(found.images.name),
        "description": f"Images with what rvqvae says of each: verdict {found.summary['verdict']}, "
        f"{rate:.1%} do not belong ({interval}).",
        "distribution": [
            {
                "@type": "cr:FileObject", "@id": "manifest", "name": "manifest", "contentUrl": manifest,
                "encodingFormat": "text/csv", "sha256": digest,
            }
        ],
        "recordSet": [
            {
                "@type": "cr:RecordSet", "@id": "images", "name": "images",
                "field": [
                    {
                        "@type": "cr:Field", "@id": f"images/{name}", "name": name, "dataType": kind,
                        "source": {"fileObject": {"@id": "manifest"}, "extract": {"column": name}},
                    }
                    for name, kind in fields.items()
                ],
            }
        ],
    }  # fmt: skip


CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
} | {
    name: f"cr:{name}"
    for name in (
        "column", "extract", "field", "fileObject", "fileProperty", "fileSet", "format", "includes",
        "isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "recordSet", "references", "regex",
        "repeated", "replace", "separator", "source", "subField", "transform",
    )
}  # fmt: skip
"""What Croissant's own writer puts there."""


def _fiftyone(found: Results, out: Path) -> str:
    rows = [(found.images / row.path, *row[1:]) for row in found.rows]
    write_table(out, ("filepath", *Row._fields[1:]), rows)
    kinds = {name: "float" if kind is float else "str" for name, kind in get_type_hints(Row).items()}
    fields = ", ".join(f"{name!r}: {kinds[name]}" for name in Row._fields[1:])
    return (
        "fiftyone.Dataset.from_dir(dataset_type=fiftyone.types.CSVDataset, data_path='/', "
        f"labels_path={str(out)!r}, fields={{{fields}}})"
    )


def _label_studio(found: Results, out: Path) -> str:
    write_json(out, label_studio_tasks(found))
    interface = out.with_suffix(".xml")
    interface.write_text(LABELS, encoding="utf-8")
    return (
        f"LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true "
        f"LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT={shlex.quote(str(found.images.parent))} label-studio; "
        f"the labelling interface is {interface}"
    )


def _datalab(found: Results, out: Path) -> str:
    write_table(out, DATALAB, map(datalab_row, found.rows))
    return f"pandas.read_csv({str(out)!r}), whose columns are those of Datalab.get_issues()"


def _croissant(found: Results, out: Path) -> str:
    import hashlib

    table = out.with_suffix(".csv")
    write_manifest(table, found.rows)
    digest = hashlib.sha256(table.read_bytes()).hexdigest()
    write_json(out, croissant_metadata(found, table.name, digest))
    return f"mlcroissant.Dataset(jsonld={str(out)!r}).records('images')"


def _onnx(folder: Path, out: Path, images: str | Path | None, seed: int) -> ExportedScorer:
    check_file(out, "scorer.onnx", folder, *([] if images is None else [images]))
    model, side = load_model(folder, "cpu")
    from rvqvae.onnx_scorer import export_scorer

    if images is None:
        return ExportedScorer(out, *export_scorer(model, out, None, seed))
    with read_for_model(images, side) as found:
        return ExportedScorer(out, *export_scorer(model, out, found.images, seed))


def _results(folder: Path, images: str | Path | None) -> tuple[Results, int]:
    """What is in the folder of a cleaning, and how many rows are left out."""
    try:
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        job = json.loads((folder / WORK / STATE).read_text(encoding="utf-8"))["job"]
        summary["contamination"], summary["verdict"], summary["versions"]["rvqvae"]
        place = Path(job["images"] if images is None else images).absolute()
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise InputError(
            f"{folder} holds no finished cleaning: give a folder that rvqvae clean made"
        ) from error
    if not place.is_dir():
        raise InputError(f"{place} is no folder: say with --images where the images are now, unpacked")
    rows = read_manifest(folder / "manifest.csv")
    good = [row for row in rows if row.status != "unreadable"]
    if missing := next((row.path for row in good if not (place / row.path).is_file()), None):
        raise InputError(f"{place} has no {missing!r}: say with --images where the images are now, unpacked")
    return Results(place, good, summary), len(rows) - len(good)


def _utf8(name: str) -> str:
    """JSON for others holds no lone surrogates, as names that are no UTF-8 would be."""
    return name.encode("utf-8", "backslashreplace").decode()
