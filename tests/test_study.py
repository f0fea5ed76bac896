"""The study's cells: measured once, kept at once, read back as they were."""

import numpy as np
import pytest

from pipelines import study
from rvqvae.errors import InputError


def test_cells_survive_a_kill_and_are_not_measured_twice(tmp_path, monkeypatch):
    arguments = {"pairs": ("mnist/noise",), "rates": (0.2,), "total": 300, "out": str(tmp_path)}
    measured = []
    real = study.measure

    def counting(*key):
        measured.append(key[:3])
        return real(*key)

    monkeypatch.setattr(study, "measure", counting)
    study.study(**arguments)
    assert len(measured) == 3, "the pair and two clean sets"
    cells = study.read(tmp_path / "cells.csv")
    assert [cell.method for cell in cells] == ["rvqvae", *study.PEERS, "rvqvae", "rvqvae"]
    assert all(0 <= cell.auroc <= 1 for cell in cells[:4]) and np.isnan(cells[4].auroc)
    text = (tmp_path / "cells.csv").read_text()
    (tmp_path / "cells.csv").write_text(text[: len(text) - 12])
    study.study(**arguments)
    assert measured[3:] == [("fashion_mnist", 0.0, 0)], "only the cell that was cut"


@pytest.mark.parametrize(
    "pair, rate, n_out",
    [("mnist/fashion_mnist", 0.3, 90), ("mnist:4", 0.2, 60), ("mnist/noise", 0.45, 135), ("mnist", 0, 0)],
)
def test_pairs_are_drawn_at_their_rate(pair, rate, n_out):
    made = study.draw(pair, rate, 0, 300, None)
    assert (len(made.images), made.is_outlier.sum()) == (300, n_out)


def test_an_unknown_set_is_refused():
    with pytest.raises(InputError, match="letters"):
        study.draw("letters/mnist", 0.1, 0, 100, None)
