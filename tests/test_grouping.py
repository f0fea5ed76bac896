"""The measure of groups: what a glance at each settles."""

import json

import numpy as np
import pytest

from pipelines import grouping
from pipelines.common.store import read_rows


def test_groups_are_judged_by_what_they_mix():
    truth = np.arange(40) < 20
    labels = np.repeat([0, 1, 3, 4], 10)
    assert grouping.quality(labels, truth) == (4, 0.25, 1.0, 1.0, 0.0)
    labels[[0, 1, 20]] = 3, 3, 0
    groups, largest, purity, settled, lost = grouping.quality(labels, truth)
    assert groups == 4 and largest == pytest.approx(11 / 40) and purity == pytest.approx(37 / 40)
    assert settled == pytest.approx(10 / 20) and lost == 0
    assert grouping.quality(np.zeros(40, np.int64), truth) == (1, 1.0, 0.5, 0.0, 0.0)


def test_sets_are_measured_once(tmp_path, monkeypatch):
    draw = np.random.default_rng(0)
    for name, low in (("dark", 0), ("bright", 150)):
        np.savez(tmp_path / f"{name}.npz", x=draw.integers(low, low + 100, (60, 8, 8)).astype(np.uint8))
    part = {"inliers": {"domain": "dark"}, "outliers": [{"domain": "bright"}], "n": 60, "seed": 0}
    listed = [
        {"id": "a", "kind": "far", "rate": 0.2, **part},
        {"id": "b", "kind": "clean", "rate": 0.0, **part},
    ]
    (tmp_path / "scenarios.json").write_text(json.dumps(listed))
    monkeypatch.setattr(grouping, "METHODS", {"k-means": grouping._k_means, "HDBSCAN": grouping._hdbscan})
    given = {"root": str(tmp_path), "out": str(tmp_path / "out"), "views": str(tmp_path / "views")}
    for _ in range(2):
        grouping.grouping(**given)
        rows = read_rows(tmp_path / "out" / "rows.csv", grouping.Row)
        assert [(row.id, row.method) for row in rows] == [("a", "k-means"), ("a", "HDBSCAN")]
    assert all(0.8 <= row.purity <= 1 and 0 <= row.settled <= 1 for row in rows)
    assert "HDBSCAN" in (tmp_path / "out" / "table.md").read_text()
