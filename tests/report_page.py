"""Pages to test: what they are written of, and how tests read them, in the file and in a browser."""

import base64
import csv
import hashlib
import io
import json
import os
import re

import numpy as np
from PIL import Image

from rvqvae.io.manifest import Row, read_manifest
from rvqvae.membership.answers import Quantised, Space, parts_of
from rvqvae.report import Pictures, View, write_report
from rvqvae.report.projection import project

HOSTILE = (
    "a,b.png",
    'quote"d.png',
    "two\nlines.png",
    "carriage\rreturn.png",
    "</script><script>alert(1)</script>.png",
    "<!--<script>.png",
    "<img src=x onerror=alert(1)>.png",
    "{{ 7 * 7 }}&amp;.png",
    "\N{GRINNING FACE}é漢.png",
    os.fsdecode(b"latin\xe9\xff.png"),
    "\N{GRINNING FACE}" + os.fsdecode(b"\x80.png"),
    "\N{RIGHT-TO-LEFT OVERRIDE}gnp.exe",
    " spaces .png",
    "=1+1.png",
)
UNREADABLE = Row(
    "broken.png", "", "unreadable", np.nan, np.nan, False, "image file is truncated, <b>4 bytes</b>"
)
DUPLICATE = Row("copy.png", "c" * 64, "duplicate", np.nan, np.nan, False, "exact duplicate of a,b.png")
NAMES = [*HOSTILE, *(f"folder/image_{i:03d}.png" for i in range(46))]
PROBABILITY = np.random.default_rng(0).permutation(np.linspace(0.0031, 0.9977, len(NAMES)))


def scored(name, probability, threshold=0.5):
    keep = bool(probability <= threshold)
    digest = hashlib.sha256(os.fsencode(name)).hexdigest()
    return Row(
        name, digest, "ok", 1 - 9.3 * float(probability), float(probability), keep, "" if keep else "outlier"
    )


ROWS = [*map(scored, NAMES, PROBABILITY), UNREADABLE, DUPLICATE]


RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (60, 1, 18, 24), dtype=np.uint8)
CENTRES = np.eye(6, dtype=np.float32)[np.arange(60) % 6]
VECTORS = (CENTRES + RNG.normal(0, 0.1, (60, 6))).astype(np.float32)
VIEW = View(VECTORS, project(VECTORS))
KINDS = np.arange(60) % 6
LOG_ODDS = np.log(PROBABILITY / (1 - PROBABILITY))
GROUPS = np.where(np.arange(60) < 56, 0, -1)
ASKING = VIEW._replace(groups=GROUPS, log_odds=LOG_ODDS)
SPACE = Space.of(Quantised.of(VECTORS))
PARTS = parts_of(SPACE.vectors, GROUPS)
HEAT = {0: np.arange(18 * 24, dtype=np.float32).reshape(18, 24)}


def pictures_of(rows):
    """Of the readable rows, the same picture for the same place."""
    good = np.array([i for i, row in enumerate(rows) if row.status == "ok"], np.int64)
    return Pictures(IMAGES[np.arange(len(good)) % len(IMAGES)], good)


def summary_of(rows):
    """As in summary.json."""
    status = [row.status for row in rows]
    kept = sum(row.keep for row in rows)
    counts = {
        "images": len(rows),
        "scored": status.count("ok"),
        "unreadable": status.count("unreadable"),
        "duplicates": status.count("duplicate"),
        "kept": kept,
        "dropped": status.count("ok") - kept,
    }
    rate = {"contamination": 0.198, "contamination_interval": [0.186, 0.2], "verdict": "contaminated"}
    return {**counts, **rate, "seed": 0, "seconds": 1.5, "versions": {"rvqvae": "0.1.0"}}


def write(
    path,
    rows=ROWS,
    threshold=0.5,
    title="photos",
    pictures=None,
    heat=None,
    view=None,
    sizes=None,
    originals=None,
    **summary,
):
    write_report(
        path,
        title=title,
        summary=summary_of(rows) | summary,
        rows=rows,
        threshold=threshold,
        pictures=pictures or pictures_of(rows),
        heat=heat,
        view=view,
        sizes=sizes,
        originals=originals,
    )
    return path.read_text(encoding="utf-8")


def data_of(page):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page)[1])


def pixels(uri):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))))


def thumbnail(data, row, sheets):
    """Cut from its sheet."""
    (height, width), (tall, wide) = data["sheets"]["size"], data["sheets"]["tile"]
    place = data["places"][row]
    y, x = place % 256 // 16 * tall, place % 16 * wide
    return sheets[place // 256][y : y + height, x : x + width]


def until(page, condition):
    """Wait for it; the page's policy forbids what Playwright's own waiting evaluates."""
    for _ in range(100):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(50)
    raise AssertionError(condition)


def counts(page):
    return tuple(int(page.inner_text(f"#count-{name}")) for name in ("kept", "dropped"))


def expected(threshold):
    kept = int((threshold >= PROBABILITY).sum())
    return kept, len(PROBABILITY) - kept


def open_tab(page, name):
    page.click(f'[data-tab="{name}"]')


def badges(page):
    """Of each image listed: whether its badge says keep."""
    open_tab(page, "all")
    return page.evaluate(
        "Object.fromEntries(grid.items.map((row, i) => {"
        " grid.goTo(i); const card = grid.shown.get(i);"
        " return [card.querySelector('.name').title, card.innerText.includes('✓ keep')]; }))"
    )


def exported(page, path):
    with page.expect_download() as download:
        page.click("#bar .export")
    assert download.value.suggested_filename == "reviewed.csv"
    download.value.save_as(path)
    return list(read_manifest(path))


def same(a, b):
    """Equal rows, a missing number being equal to itself."""
    return repr([*a]) == repr([*b])


def table(page, path):
    """The exported rows as they are written."""
    exported(page, path)
    with path.open(newline="", errors="surrogateescape") as file:
        return list(csv.DictReader(file))
