"""The family's experiment: what is measured, kept, continued and refused; the generated ratings."""

import csv

import numpy as np
import pytest

from pipelines import family, family_bench, family_dimensions, family_features, family_likelihood
from pipelines.family_recommendation import ITEMS, NOISE, USERS, baseline, ratings
from rvqvae.errors import InputError
from rvqvae.family import Autoencoder


@pytest.fixture
def few(monkeypatch):
    """300 images of each half."""
    from data.recipes import load

    def loaded(name, root=None, train=True):
        return tuple(part[:300] for part in load(name, root, train))

    monkeypatch.setattr(family_bench, "load", loaded)


def run(out, **arguments):
    family.family(**{"out": str(out), "tracking": False, "epochs": 1} | arguments)
    with open(out / "rows.csv") as file:
        return list(csv.DictReader(file))


def test_methods_are_measured_once_and_kept(tmp_path, few, monkeypatch):
    fits, real = [], family_bench.Bench.fit
    monkeypatch.setattr(family_bench.Bench, "fit", lambda *args: fits.append(args[1]) or real(*args))
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
    bench = family_bench.Bench(None, 0, 2, tmp_path)
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
    made = family_likelihood.binarised(image)
    assert set(np.unique(made)) == {0, 255} and not made[:, 0].any()
    assert made[:, 1:].mean() == pytest.approx(51, rel=0.05)
    assert np.array_equal(made, family_likelihood.binarised(image))
    assert not np.array_equal(made, family_likelihood.binarised(image, 1))


def test_the_error_is_summed_over_pixels():
    images = np.array([[[0, 255]], [[255, 255]]], np.uint8)
    assert family_dimensions.squared_error(images, np.zeros((2, 2))) == pytest.approx(1.5)


def test_labelled_rows_are_as_many_of_each_class():
    labels = np.repeat(np.arange(10), 50)
    rows = family_features.labelled(labels, 100, 0)
    assert np.array_equal(np.bincount(labels[rows]), [10] * 10) and len(set(rows)) == 100
    assert not np.array_equal(rows, family_features.labelled(labels, 100, 1))


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
