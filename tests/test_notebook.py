"""The notebook runs, cell by cell, and says what it promises."""

import json
from pathlib import Path

import numpy as np

NOTEBOOK = Path(__file__).parents[1] / "pipelines" / "tour.ipynb"


def test_the_tour_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    book = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    names: dict = {}
    for cell in book["cells"]:
        if cell["cell_type"] == "code":
            assert not cell["outputs"]  # None is committed.
            exec(compile("".join(cell["source"]), f"{NOTEBOOK.name} {cell['id']}", "exec"), names)
    dropped, truth = names["dropped"], names["is_outlier"]
    assert len(names["table"]) == len(truth) and truth[dropped].mean() > 0.9
    assert (tmp_path / "cleaned" / "report.html").exists()
    assert "do not belong" in capsys.readouterr().out
    assert np.isin(names["model"].predict(names["images"]), (-1, 1)).all()
