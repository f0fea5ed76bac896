"""The family's experiment: what is measured, kept, continued and refused; the generated ratings."""

import csv

import numpy as np
import pytest

from pipelines import family, study
from pipelines.autoencoders import anomaly, dimensions, features, likelihood
from pipelines.autoencoders import bench as benches
from pipelines.autoencoders.recommendation import ITEMS, NOISE, USERS, baseline, ratings
from pipelines.common import peers, store
from pipelines.detection import figures, tables
from pipelines.detection.cells import Cell
from rvqvae.errors import InputError
from rvqvae.family import Autoencoder

QUICK = {"latent_dim": 4, "hidden": (32,), "epochs": 10, "batch_size": 16}


@pytest.fixture
def few(monkeypatch):
    """300 images of each half."""
    from data.recipes import load

    def loaded(name, root=None, train=True):
        return tuple(part[:300] for part in load(name, root, train))

    monkeypatch.setattr(benches, "load", loaded)


def run(out, **arguments):
    family.family(**{"out": str(out), "tracking": False, "epochs": 1} | arguments)
    with open(out / "rows.csv") as file:
        return list(csv.DictReader(file))


def test_methods_are_measured_once_and_kept(tmp_path, few, monkeypatch):
    fits, real = [], benches.Bench.fit
    monkeypatch.setattr(benches.Bench, "fit", lambda *args: fits.append(args[1]) or real(*args))
    rows = run(tmp_path, only=("PCA-2", "AE-2"))
    assert [row["method"] for row in rows] == ["PCA-2"] * 2 + ["AE-2"] * 2 and len(fits) == 1
    again = run(tmp_path, only=("PCA-2", "AE-2"), seeds=(0, 1))
    assert again[:4] == rows and len(again) == 8 and len(fits) == 2
    assert again[2]["value"] != again[6]["value"], "the seed counts"
    table = (tmp_path / "table.md").read_text()
    assert "## dimensions" in table and "±" in table and "| AE-2 | squared error |" in table
    assert (tmp_path / "dimensions.png").stat().st_size > 1000
    with pytest.raises(InputError, match="another --out"):
        run(tmp_path, epochs=2)


def test_a_models_cost_counts_wherever_it_is_used(few, tmp_path):
    bench = benches.Bench(None, 0, 2, tmp_path)
    make = lambda: bench.fit(Autoencoder(hidden=(8,), latent_dim=2), bench.train[0])  # noqa: E731
    first = bench.once("a", make)
    bench.costs.clear()
    assert bench.once("a", make) is first
    assert [cost.seen for cost in bench.costs] == [600] and bench.costs[0].seconds > 0


def test_a_target_is_met_or_not():
    line = family.Line("anomaly", "AE", 0, "AUROC", 0.9, "0.95", 0.93, 0.97, 1000, 2.0)
    assert family.row([line]) == ["AE", "AUROC", "0.9", "0.95", "0.93 to 0.97", "no", "1,000", "2"]
    assert family.row([line, line._replace(seed=1, value=1.0)])[2:6] == [
        "0.95 ±0.071",
        "0.95",
        "0.93 to 0.97",
        "yes",
    ]
    assert family.row([line._replace(low=-np.inf)])[4:6] == ["≤ 0.97", "yes"]


@pytest.mark.parametrize(
    "arguments, message",
    [({"only": ("letters",)}, r"letters.*likelihood"), ({"seeds": ()}, "seeds"), ({"seeds": (-1,)}, ">= 0"),
     ({"epochs": 0}, "epochs=0")],
)  # fmt: skip
def test_bad_arguments_are_named(tmp_path, arguments, message):
    with pytest.raises(InputError, match=message):
        run(tmp_path, **arguments)


def test_jobs_and_methods_can_be_chosen():
    assert family.chosen(("likelihood",)) == [("likelihood", "VAE"), ("likelihood", "PixelCNNVAE")]
    assert ("generation", "VAE") in family.chosen(("VAE",)) and ("anomaly", "VAE") in family.chosen(("VAE",))
    assert len(family.chosen(())) == sum(map(len, family.JOBS.values()))


# What is measured --------------------------------------------------------------------------------------


def test_binary_images_keep_their_greys_on_average():
    image = np.full((400, 8, 8), 51, np.uint8)
    image[:, 0] = [0] * 8
    made = likelihood.binarised(image)
    assert set(np.unique(made)) == {0, 255} and not made[:, 0].any()
    assert made[:, 1:].mean() == pytest.approx(51, rel=0.05)
    assert np.array_equal(made, likelihood.binarised(image))
    assert not np.array_equal(made, likelihood.binarised(image, 1))


def test_the_error_is_summed_over_pixels():
    images = np.array([[[0, 255]], [[255, 255]]], np.uint8)
    assert dimensions.squared_error(images, np.zeros((2, 2))) == pytest.approx(1.5)


def test_contrast_is_normalised_image_by_image():
    images = np.random.default_rng(0).integers(0, 256, (5, 28, 28), dtype=np.uint8)
    made = anomaly.contrast_normalised(images)
    assert made.shape == (5, 784) and made.dtype == np.float32
    np.testing.assert_allclose(made.mean(1), 0, atol=1e-6)
    np.testing.assert_allclose(np.abs(made).mean(1), 1, rtol=1e-5)
    np.testing.assert_allclose(anomaly.contrast_normalised(images // 2 * 2), made, atol=0.05)


def test_the_published_network_takes_rows_and_learns():
    x = np.random.default_rng(0).random((60, 784)) ** 4
    short, longer = (
        anomaly.PublishedAE(epochs=epochs, random_state=0, learning_rate=1e-2).fit(x) for epochs in (1, 8)
    )
    assert short.encode(x).shape == (60, 32) and short.reconstruct(x).shape == x.shape
    assert longer.score_samples(x).mean() > short.score_samples(x).mean()


def test_labelled_rows_are_as_many_of_each_class():
    labels = np.repeat(np.arange(10), 50)
    rows = features.labelled(labels, 100, 0)
    assert np.array_equal(np.bincount(labels[rows]), [10] * 10) and len(set(rows)) == 100
    assert not np.array_equal(rows, features.labelled(labels, 100, 1))


def test_the_ratings_are_what_they_are_said_to_be():
    known, held_out = ratings(0)
    seen, hidden = np.isfinite(known), np.isfinite(held_out)
    assert known.shape == (USERS, ITEMS) and not (seen & hidden).any()
    assert (seen | hidden).mean() == pytest.approx(0.12, abs=0.02)
    assert hidden.sum() / (seen | hidden).sum() == pytest.approx(0.1, abs=0.01)
    assert np.nanmean(known) == pytest.approx(3.5, abs=0.1)
    error = np.sqrt(np.nanmean((baseline(known) - held_out) ** 2))
    assert NOISE < error < np.nanstd(held_out)
    assert not np.array_equal(known, ratings(1).known, equal_nan=True)


# Members in the study ----------------------------------------------------------------------------------


def test_members_are_measured_on_held_out_images_even_where_training_had_no_outlier(tmp_path, monkeypatch):
    monkeypatch.setitem(
        peers.FAMILY, "AE", lambda random_state: Autoencoder(**QUICK, random_state=random_state)
    )
    rates, out = (0.0, 0.3), str(tmp_path)
    wanted = {"pairs": ("mnist/noise",), "rates": rates, "clean": ("mnist",), "total": 100}
    study.study(**wanted, methods=(), peers=("AE", "LOF"), out=out, tracking=False)
    cells = {cell[:4]: cell for cell in store.read_rows(tmp_path / "cells.csv", Cell)}
    ours = [cells["mnist/noise", rate, 0, "AE"] for rate in rates]
    assert set(cells) == {cell[:4] for cell in ours} | {("mnist/noise", 0.3, 0, "LOF")}
    assert np.isnan(ours[0].auroc) and ours[0].heldout_auroc == 1 and ours[1].heldout_auroc > 0.9
    assert np.isnan(cells["mnist/noise", 0.3, 0, "LOF"].heldout_auroc)
    text = (tmp_path / "table.md").read_text()
    assert "## Held-out AUROC" in text and "| mnist/noise | AE | 1.000 |" in text
    sheet = tables.heldout_sheet(ours)
    assert sheet.head == ["pair", "method", "0", "0.3"] and sheet.lines[0][2] == "1.000"


def test_every_member_of_the_study_has_a_look_of_its_own():
    looks = [tuple(map(str, figures.look_of(name).values())) for name in peers.PEERS]
    assert len(set(looks)) == len(peers.PEERS)
