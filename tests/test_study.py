"""The study: pairs drawn as named, peers that rank the right way round, cells measured once and kept."""

import json

import numpy as np
import pytest
from matplotlib.collections import PathCollection

from pipelines import study
from pipelines.common import pairs, peers, store
from pipelines.common.tables import as_markdown
from pipelines.detection import figures, tables
from pipelines.detection.cells import Cell, metered, probability_file
from rvqvae.errors import InputError

OURS = Cell("a/b", 0.2, 0, "rvqvae", 100, 0.9, rate_low=0.1, rate_high=0.3, estimated_rate=0.25)


@pytest.fixture
def measured(monkeypatch):
    """The methods that are measured from now on."""
    made, real = [], study.Case.measure

    def counting(self, method, epochs, out):
        made.append((*self.key, method))
        return real(self, method, epochs, out)

    monkeypatch.setattr(study.Case, "measure", counting)
    return made


def test_cells_survive_a_kill_and_are_measured_once(tmp_path, measured):
    arguments = {"pairs": ("mnist/noise",), "rates": (0.2,), "clean": ("mnist:4",), "total": 300}
    arguments |= {"out": str(tmp_path), "tracking": False, "epochs": 1, "methods": ("rvqvae",)}
    study.study(**arguments, peers=("MCD",))
    noise = ("mnist/noise", 0.2, 0)
    assert measured == [(*noise, "rvqvae"), (*noise, "MCD"), ("mnist:4", 0.0, 0, "rvqvae")]
    cells = store.read_rows(tmp_path / "cells.csv", Cell)
    assert [cell[:4] for cell in cells] == measured
    assert 0 <= cells[0].auroc <= 1 and np.isnan(cells[2].auroc) and cells[0].seconds > 0
    with np.load(probability_file(tmp_path, cells[0])) as kept:
        assert kept["probability"].shape == (300,) and kept["is_outlier"].sum() == 60

    file = tmp_path / "cells.csv"
    file.write_text(file.read_text()[:-4])
    study.study(**arguments, peers=("MCD", "IForest-pixels"))
    assert measured[3:] == [(*noise, "IForest-pixels"), ("mnist:4", 0.0, 0, "rvqvae")], "new, and cut short"
    for name in ("table.md", "auroc.png", "rates.png", "reliability.png"):
        assert (tmp_path / name).stat().st_size > 100
    lines = (tmp_path / "MCD" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[0])["auroc/mnist/noise"] == cells[1].auroc

    with pytest.raises(InputError, match=r"300.*400.*another --out"):
        study.study(**arguments | {"total": 400}, peers=())


def test_cells_of_another_version_are_refused(tmp_path):
    (tmp_path / "cells.csv").write_text("pair,rate,seconds\nmnist:4,0.1,3.0\n")
    with pytest.raises(InputError, match=r"columns pair, rate, seconds, not .*another --out"):
        store.read_rows(tmp_path / "cells.csv", Cell)
    with pytest.raises(InputError, match=r"is not empty: choose another --out"):
        study.study(out=str(tmp_path), peers=(), tracking=False)


def test_cells_are_read_as_they_were_written(tmp_path):
    cells = [OURS, OURS._replace(method="MCD", verdict="clean"), OURS._replace(pair="a, b")]
    store.write_rows(tmp_path / "cells.csv", Cell, cells[:1])
    for cell in cells[1:]:
        store.append_row(tmp_path / "cells.csv", cell)
    assert repr(store.read_rows(tmp_path / "cells.csv", Cell)) == repr(cells)


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"pairs": ("letters/mnist",)}, "letters.*choose from mnist"),
        ({"pairs": ("mnist:x",)}, "mnist:x"),
        ({"pairs": ("flower:1",)}, "flower:1"),
        ({"clean": ("mnist:",)}, "mnist:"),
        ({"rates": (0.5,)}, "0.5.*below 0.5"),
        ({"seeds": ()}, "nothing to measure"),
        ({"methods": ("magic",)}, "magic.*learned"),
        ({"pairs": (), "clean": ()}, "nothing to measure"),
        ({"seeds": (-1,)}, ">= 0"),
        ({"total": 10}, ">= 100"),
        ({"peers": ("kNN",)}, "kNN.*MCD"),
    ],
)
def test_what_cannot_be_measured_is_refused_at_once(tmp_path, wrong, message):
    with pytest.raises(InputError, match=message):
        study.study(**{"peers": (), "out": str(tmp_path), "tracking": False} | wrong)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "pair, rate, outliers, shape",
    [
        ("mnist/fashion_mnist", 0.3, 90, (1, 28, 28)),
        ("mnist:4", 0.2, 60, (1, 28, 28)),
        ("mnist/noise", 0.45, 135, (1, 28, 28)),
        ("mnist", 0.0, 0, (1, 28, 28)),
        ("mnist:4/noise", 0.1, 30, (1, 28, 28)),
        ("tinted_fashion/tinted_mnist", 0.1, 30, (3, 28, 28)),
        ("tinted_mnist:4", 0.1, 30, (3, 28, 28)),
        ("china/flower", 0.4, 120, (3, 32, 32)),
        ("flower/noise", 0.05, 15, (3, 32, 32)),
    ],
)
@pytest.mark.parametrize("train", [True, False])
def test_pairs_are_drawn_at_their_rate(pair, rate, outliers, shape, train):
    made = pairs.draw(pair, rate, 0, 300, train=train)
    if train:
        assert (made.images.shape, made.is_outlier.sum()) == ((300, *shape), outliers)
    assert abs(made.is_outlier.mean() - rate) < 0.01 and made.images.dtype == np.uint8
    assert made.images.shape[1:] == shape
    again, other = (pairs.draw(pair, rate, seed, 300, train=train) for seed in (0, 1))
    assert (again.images == made.images).all()
    assert other.images.shape != made.images.shape or (other.images != made.images).any()


def test_the_class_that_is_named_holds_the_inliers():
    x, y = pairs.load("mnist")
    made = pairs.draw("mnist:4", 0.3, 0, 300)
    assert (made.images[~made.is_outlier, 0] == x[y == 4][made.source_index[~made.is_outlier]]).all()
    alone = pairs.draw("mnist:4", 0.0, 0, 10_000)
    assert len(alone.images) == (y == 4).sum() and not alone.is_outlier.any()


def test_a_set_without_outliers_has_no_rate():
    with pytest.raises(InputError, match="no outliers"):
        pairs.draw("mnist", 0.1, 0, 300)


def test_colour_tells_nothing():
    dark = pairs.tint(np.zeros((2000, 4, 4), np.uint8), 1000, [0])
    bright = pairs.tint(np.full((2000, 4, 4), 255, np.uint8), 1000, [1])
    assert len(dark) == len(bright) == 1000
    for images, most in ((dark, 0.35 * 255), (bright, 255)):
        assert abs(images.max(1).astype(float) - most).max() <= 1, "one brightness for all"
        assert np.ptp(images.mean((0, 2, 3))) < 0.05 * most, "no hue is preferred"


def test_held_out_tiles_are_apart_from_training_ones(monkeypatch):
    places = np.broadcast_to(np.arange(640), (3, 400, 640)).transpose(1, 2, 0)
    monkeypatch.setattr(pairs, "load_sample_image", lambda name: places)
    train, held_out = (set(np.unique(pairs.tiles("china", 500, [0], t))) for t in (True, False))
    assert len(train) > 300 and len(held_out) > 200 and not train & held_out


@pytest.mark.parametrize("name", peers.PEERS)
def test_peers_rank_outliers_low_and_alike_each_time(name):
    pytest.importorskip(peers.PEERS[name].library, exc_type=ImportError)
    rng = np.random.default_rng(0)
    x = (1 + 0.1 * rng.standard_normal((300, 64))).astype(np.float32)
    x[:15] = 3 * rng.standard_normal((15, 64))
    score = peers.score(name, x, 0)
    assert score.shape == (300,) and len(np.unique(score)) > 280
    assert study.auroc(np.arange(300) < 15, score) > 0.95
    assert np.array_equal(score, peers.score(name, x, 0))


def test_an_absent_library_is_named_with_its_remedy(monkeypatch):
    monkeypatch.setattr(peers, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"DeepSVDD needs the package pyod.*uv sync --group peers"):
        peers.require(["DeepSVDD"])


def test_views_have_a_row_for_each_image():
    images = pairs.draw("tinted_mnist", 0.0, 0, 20).images
    shapes = [peers.view_of(images, view).shape for view in ("pixels", "features", "components")]
    assert shapes == [(20, 3 * 28 * 28), (20, 1280), (20, 19)]
    assert peers.view_of(images, "pixels").max() <= 1


def test_cost_is_that_of_the_work_alone():
    result, cost = metered(lambda: np.ones(2**28, np.uint8).sum())
    assert result == 2**28 and cost.seconds > 0
    later = metered(lambda: None)[1]
    assert np.isnan(cost.gib) or later.gib < cost.gib - 0.2


def test_tables_say_mean_worst_spread_and_coverage():
    cells = [OURS, OURS._replace(seed=1, auroc=0.8, rate_low=0.21), OURS._replace(method="MCD", auroc=0.7)]
    cells += [OURS._replace(pair="a", rate=0.0, auroc=np.nan, verdict="clean", estimated_rate=0.01)]
    text = as_markdown(tables.sheets(cells))
    assert "| a/b | 0.2 | 0.850 ±0.071 | 0.700 |" in text
    assert "| mean |  | 0.850 | 0.700 |" in text and "| worst |  | 0.800 | 0.700 |" in text
    assert "error of the rate 0.037; the interval holds the truth in 1 of 3 cells (33%)" in text
    assert tables.curves(cells, "MCD") == {20: {"auroc/a/b": 0.7, "estimated_rate/a/b": 0.25}}


def test_verdicts_are_counted():
    cells = [OURS._replace(verdict=verdict) for verdict in ("clean", "clean", "undecided")]
    assert tables.verdicts(cells) == "clean 2, undecided 1"
    assert tables.verdicts(cells[:2]) == "clean" and tables.verdicts([OURS]) == ""


def test_figures_have_a_panel_for_each_pair_and_a_line_for_each_method(tmp_path):
    cells = [OURS._replace(pair=pair, rate=rate) for pair in ("a/b", "c/d") for rate in (0.1, 0.3)]
    cells += [cell._replace(method="MCD") for cell in cells]
    clean = OURS._replace(pair="a", rate=0.0)
    made = figures.figures(tmp_path, [*cells, clean])
    assert list(made) == ["auroc", "rates"], "no probabilities, no diagram of them"
    assert [axes.get_title(loc="left") for axes in made["auroc"].axes] == ["a/b", "c/d"]
    assert [line.get_label() for line in made["auroc"].axes[0].lines][:2] == ["rvqvae", "MCD"]
    assert [axes.get_title(loc="left") for axes in made["rates"].axes] == ["a/b", "c/d", "clean sets"]
    assert list(figures.figures(tmp_path, [clean])) == ["rates"]


def test_calibrated_probabilities_lie_on_the_diagonal(tmp_path):
    rng = np.random.default_rng(0)
    probability = rng.random(20_000)
    path = probability_file(tmp_path, OURS)
    path.parent.mkdir()
    np.savez(path, probability=probability, is_outlier=rng.random(20_000) < probability)
    axes = figures.figures(tmp_path, [OURS])["reliability"].axes[0]
    dots = [mark.get_offsets()[0] for mark in axes.collections if isinstance(mark, PathCollection)]
    assert len(dots) == figures.BINS and np.allclose(*np.transpose(dots), atol=0.05)
    (error,) = [text.get_text() for text in axes.texts]
    assert float(error.split()[-1]) < 0.02
