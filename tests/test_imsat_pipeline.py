"""The experiment with IMSAT: what it keeps and continues, on a few digits."""

import csv
import math

import numpy as np
import pytest

from data.recipes import load
from pipelines import imsat as experiment
from rvqvae.errors import InputError


@pytest.fixture(autouse=True)
def few(monkeypatch):
    def loaded(name, root=None, train=True):
        images, labels = load(name, root, train)
        rows = np.concatenate([np.flatnonzero(labels == digit)[:30] for digit in range(10)])
        return images[rows], labels[rows]

    monkeypatch.setattr(experiment, "load", loaded)
    monkeypatch.setattr(experiment, "QUERIES", 5)
    monkeypatch.setattr(experiment, "NEAREST", 20)


def run(out, **arguments):
    experiment.run(out=str(out), epochs=1, tracking=False, **arguments)
    return list(csv.DictReader((out / "rows.csv").read_text().splitlines()))


def test_methods_are_measured_once_and_kept(tmp_path, monkeypatch):
    rows = run(tmp_path, only=("k-means", "hash-PCA"))
    assert [row["method"] for row in rows] == ["k-means", "hash-PCA"]
    assert 0.2 < float(rows[0]["accuracy"]) <= 1 and math.isnan(float(rows[0]["map"]))
    assert 0.1 < float(rows[1]["map"]) <= 1 and math.isnan(float(rows[1]["nmi"]))
    measured, real = [], experiment.measure
    monkeypatch.setattr(experiment, "measure", lambda *args: measured.append(args[1]) or real(*args))
    again = run(tmp_path, only=("k-means", "hash-PCA"), seeds=(0, 1))
    assert again[:2] == rows and measured == ["k-means", "hash-PCA"] and len(again) == 4
    table = (tmp_path / "table.md").read_text()
    assert "## cluster" in table and "±" in table and "## hash" in table
    with pytest.raises(InputError, match="another experiment, with full_set=False"):
        run(tmp_path, only=("k-means",), root="elsewhere")


def test_other_images_are_clustered_into_their_own_kinds(tmp_path):
    draw = np.random.default_rng(0)
    kinds = np.repeat([3, 5, 9], 20)
    images = (np.eye(64)[kinds].reshape(-1, 8, 8) * 200 + draw.integers(0, 20, (60, 8, 8))).astype(np.uint8)
    np.savez(tmp_path / "set.npz", x=images, y=kinds)
    given = {"images": str(tmp_path / "set.npz")}
    rows = run(tmp_path / "out", only=("k-means", "IMSAT-VAT-affine"), **given)
    assert float(rows[0]["accuracy"]) == 1 and 1 / 3 <= float(rows[1]["accuracy"]) <= 1
    assert ".532" not in (tmp_path / "out" / "table.md").read_text(), "published figures are of digits"
    for arguments, message in (
        ({"root": "elsewhere"}, "two sets"), ({"only": ("hash-PCA",)}, "measured on digits"),
        ({"images": str(tmp_path / "none.npz")}, "no .npz with x and y"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=message):
            run(tmp_path / "other", **given | {"only": ("k-means",)} | arguments)
