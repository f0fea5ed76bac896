"""The comparison of codes for retrieval: its protocol, its table, and going on where it was cut short."""

import json

import numpy as np
import pytest

from pipelines import retrieval as pipeline
from pipelines.common.store import read_rows
from pipelines.retrieval import Row, Split, Training, main, measure, split_of, table

TINY = [
    "--bits",
    "[16]",
    "--queries",
    "5",
    "--learn",
    "600",
    "--epochs",
    "2",
    "--codes",
    "0",
    "--tracking",
    "false",
]


@pytest.fixture(autouse=True)
def without_faiss(monkeypatch):
    monkeypatch.setattr(pipeline.importlib.util, "find_spec", lambda name: None)


@pytest.fixture
def split():
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (400, 4, 4), np.uint8), np.arange(400) % 4
    return split_of(images, labels, 10, 300, seed=1)


def test_queries_are_of_every_class_and_not_in_the_gallery(split):
    assert (np.bincount(split.query_labels) == 10).all() and len(split.gallery) == 360
    images = [set(map(bytes, part)) for part in (split.queries, split.gallery)]
    assert not images[0] & images[1]
    assert len(set(split.learn)) == 300 and split.learn.max() < 360


def test_measures_of_a_perfect_and_of_a_blind_ranking(split):
    def perfect(part):
        return (split.query_labels[part, None] != split.labels).astype(float)

    assert measure(split, perfect) == (1.0, pytest.approx(0.9), 1.0)  # 90 are relevant
    blind = measure(split, lambda part: np.zeros((len(split.queries[part]), 360)))
    assert blind[1] == pytest.approx(0.25) and blind[0] == pytest.approx(0.25, abs=0.02)


def test_itq_counts_the_bits_that_differ_and_keeps_near_what_is_near():
    rng = np.random.default_rng(0)
    gallery = rng.integers(0, 256, (300, 6, 6), np.uint8)
    labels = np.zeros(300, np.int64)
    split = Split(gallery[:20], labels[:20], gallery, labels, np.arange(300))
    near = pipeline.all_pixels(split, 8, 0, Training(1, 1.0))["pixels"](slice(None))
    assert (near.argmin(1) == np.arange(20)).all()
    distances = pipeline.itq(split, 8, 0, Training(1, 1.0))["ITQ"](slice(None))
    assert distances.shape == (20, 300) and set(np.unique(distances)) <= set(range(9))
    assert (distances[np.arange(20), np.arange(20)] == 0).all()
    exact = np.square(gallery[:20, None].astype(float) - gallery).sum((2, 3))
    assert np.corrcoef(distances.ravel(), exact.ravel())[0, 1] > 0.2
    np.testing.assert_array_equal(np.argsort(near, 1)[:, :50], np.argsort(exact, 1)[:, :50])


def test_a_run_makes_its_table_and_goes_on(tmp_path, capsys, monkeypatch):
    command = [*TINY, "--out", str(tmp_path / "out")]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "faiss is not installed" in said and "PQ, 16 bits" not in said
    rows = read_rows(tmp_path / "out" / "rows.csv", Row)
    assert [row.method for row in rows] == [
        "PQ-VAE", "PQ-VAE, symmetric", "PQ-VAE's encodings", "ITQ", "pixels",
    ]  # fmt: skip
    assert (
        rows[3].map > 0.3
        and rows[3].precision > 0.4
        and rows[4].precision > rows[3].precision
        and all(0 < row.recall < 1 for row in rows)
    )
    page = (tmp_path / "out" / "table.md").read_text()
    assert "| ITQ | 16 |" in page and "0.412" in page and (tmp_path / "out" / "retrieval.png").exists()

    def refuse(*_):
        raise AssertionError("trained again")

    monkeypatch.setattr(pipeline, "METHODS", dict.fromkeys(pipeline.METHODS, refuse))
    assert main(command) == 0
    assert read_rows(tmp_path / "out" / "rows.csv", Row) == rows
    assert main([*command, "--epochs", "3"]) == 2
    assert "choose another --out" in capsys.readouterr().err


def test_the_verdict_says_what_is_missed():
    rows = [
        Row(name, 32, 0, value, 0.5, 0.5, 1)
        for name, value in (("PQ-VAE", 0.43), ("ITQ", 0.42), ("PQ", 0.44))
    ]
    note = table(rows, "note").note
    assert "PQ-VAE 0.430 is NOT above PQ 0.440, above ITQ 0.420" in note
    assert table(rows[1:], "note").note == "note"


def test_the_ratio_of_the_times_is_kept_and_judged(tmp_path):
    path = tmp_path / "times.json"
    for ours, word in ((0.3, "MISSED"), (0.1, "met")):
        seconds = {"faiss IndexPQ": 0.1, "ProductIndex": ours}
        path.write_text(json.dumps([seconds, dict.fromkeys(seconds, 0.9)]))
        assert pipeline.times(path, 1000).note.endswith(word)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--bits", "[12]"], "bits=[12]"),
        (["--bits", "[]"], "bits=[]"),
        (["--learn", "100"], "learn=100"),
        (["--learn", "90000"], "more than the gallery's"),
        (["--queries", "0"], "queries=0"),
        (["--queries", "5000"], "leave no gallery"),
        (["--seeds", "[-1]"], "seeds=[-1]"),
        (["--codes", "-1"], "codes=-1"),
    ],
)
def test_bad_input_is_one_clear_line(tmp_path, capsys, arguments, message):
    assert main([*TINY, *arguments, "--out", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err
