"""The folders of planted faults, and the figures that are printed of them."""

import numpy as np
import pytest
from PIL import Image, ImageStat
from sklearn.datasets import load_sample_images

from pipelines.issues import by_us, coloured, measured
from pipelines.judging.faults import PLANTS, photographs, plant
from rvqvae.errors import InputError


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    place = tmp_path_factory.mktemp("planted")
    (place / "photos").mkdir()
    for i, image in enumerate(load_sample_images().images):
        Image.fromarray(image).resize((660, 440)).save(place / "photos" / f"{i}.jpg")
    rng = np.random.default_rng(0)
    return place / "set", plant(photographs(place / "photos", 60, rng), 60, 0.04, place / "set", rng)


def test_as_many_of_each_kind_as_asked_for(planted):
    folder, truth = planted
    kinds = list(truth.values())
    assert sorted(path.name for path in folder.iterdir()) == sorted(truth)
    assert all(kinds.count(kind) == 2 for kind in PLANTS if kind != "near duplicate")
    assert kinds.count("near duplicate") == 4 and len(truth) == 62


def test_faults_are_what_they_are_called(planted):
    folder, truth = planted
    plain = [name for name, kind in truth.items() if kind is None]
    normal = np.median([np.mean(ImageStat.Stat(Image.open(folder / name)).mean) for name in plain])
    for name, kind in truth.items():
        picture = Image.open(folder / name)
        mean, (width, height) = np.mean(ImageStat.Stat(picture).mean), picture.size
        assert (mean < normal / 3) == (kind == "dark") or kind in ("low information", "near duplicate")
        assert (max(width, height) > 3 * min(width, height)) == (kind == "odd aspect ratio")
        assert coloured(folder / name) != (kind == "grey")
        if kind == "odd size":
            assert not 100 < width < 1200


def test_pairs_are_both_named(planted):
    folder, truth = planted
    pairs = {name for name, kind in truth.items() if kind == "near duplicate"}
    assert by_us(folder).named["near duplicate"] >= pairs


def test_precision_and_recall():
    assert measured({"a", "b", "x", "other"}, {"a", "b", "c"}, {"x", "y"}) == ["0.67", "0.67", "0.67"]
    assert measured([], {"a"}, {"x"}) == ["nan", "0.00", "0.00"]


def test_a_folder_without_photographs(tmp_path):
    with pytest.raises(InputError, match="holds no photograph of 640 pixels"):
        next(photographs(tmp_path, 1, np.random.default_rng(0)))
