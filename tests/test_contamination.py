import os

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from rvqvae.contamination import (
    Manifest,
    contaminate,
    load_manifest,
    noise_images,
    save_manifest,
    split_classes,
    transform_images,
)
from rvqvae.errors import InputError

NOISES = ["uniform", "gaussian", "salt_and_pepper"]
TRANSFORMS = ["blur", "invert", "occlude", "jpeg", "rotate"]
INLIERS = np.arange(100, dtype=np.float32)[:, None]
OUTLIERS = -1 - INLIERS


def check(mixture, inliers, outliers):
    """Every row is the row that the truth names, and no row of a source is used twice."""
    for flag, source in ((False, inliers), (True, outliers)):
        rows = mixture.source_index[mixture.is_outlier == flag]
        assert len(np.unique(rows)) == len(rows)
        np.testing.assert_array_equal(mixture.images[mixture.is_outlier == flag], source[rows])


@given(n=st.integers(1, 3000), rate=st.floats(0, 0.6), seed=st.integers(0, 2**32))
def test_rate_is_exact_to_one_image_and_inliers_are_kept(n, rate, seed):
    inliers = np.arange(n)[:, None]
    outliers = -1 - np.arange(2 * n + 1)[:, None]
    mixture = contaminate(inliers, outliers, rate, seed)
    check(mixture, inliers, outliers)
    m = mixture.is_outlier.sum()
    assert len(mixture.images) == n + m
    error = abs(m / (n + m) - rate)
    assert error <= abs((m + 1) / (n + m + 1) - rate)
    assert m == 0 or error <= abs((m - 1) / (n + m - 1) - rate)
    np.testing.assert_array_equal(np.sort(mixture.source_index[~mixture.is_outlier]), np.arange(n))


@given(total=st.integers(1, 100), rate=st.floats(0, 1, exclude_max=True), seed=st.integers(0, 2**32))
def test_rate_of_a_given_total(total, rate, seed):
    mixture = contaminate(INLIERS, OUTLIERS, rate, seed, total=total)
    check(mixture, INLIERS, OUTLIERS)
    assert len(mixture.images) == total
    assert mixture.is_outlier.sum() == round(rate * total)


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.2, 0.3, 0.4, 0.5])
def test_round_rates_are_met_exactly(rate):
    inliers, outliers = np.zeros((round(2000 * (1 - rate)), 1)), np.ones((2000, 1))
    assert contaminate(inliers, outliers, rate, 0).is_outlier.mean() == rate
    assert contaminate(np.zeros((2000, 1)), outliers, rate, 0, total=2000).is_outlier.mean() == rate


@given(seed=st.integers(0, 2**32), other=st.integers(0, 2**32))
def test_the_seed_decides_the_split(seed, other):
    assume(seed != other)
    first, again, different = (contaminate(INLIERS, OUTLIERS, 0.3, s) for s in (seed, seed, other))
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(first.images, different.images)


@pytest.mark.parametrize("generator", [np.random.default_rng, np.random.RandomState])
def test_generators_seed_too_and_move_on(generator):
    same = [contaminate(INLIERS, OUTLIERS, 0.3, generator(5)).images for _ in range(2)]
    np.testing.assert_array_equal(*same)
    state = generator(5)
    first, second = (contaminate(INLIERS, OUTLIERS, 0.3, state).images for _ in range(2))
    assert not np.array_equal(first, second)


def test_images_are_mixed_in_their_dtype_and_shuffled():
    inliers, outliers = np.zeros((70, 3, 8, 8), np.uint8), np.ones((50, 3, 8, 8), np.uint8)
    mixture = contaminate(inliers, outliers, 0.3, 0)
    assert mixture.images.dtype == np.uint8 and mixture.images.shape == (100, 3, 8, 8)
    assert mixture.is_outlier.dtype == bool and mixture.source_index.dtype == np.int64
    assert 5 < mixture.is_outlier[:50].sum() < 25


def test_rate_zero_needs_no_outliers():
    mixture = contaminate(INLIERS, OUTLIERS[:0], 0, 0)
    assert len(mixture.images) == 100 and not mixture.is_outlier.any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((INLIERS, OUTLIERS, 1.0), "rate=1.0.*below 1"),
        ((INLIERS, OUTLIERS, -0.1), "rate=-0.1"),
        ((INLIERS, OUTLIERS, float("nan")), "rate=nan"),
        ((INLIERS, OUTLIERS, "auto"), "rate='auto'"),
        ((INLIERS, OUTLIERS[:10], 0.3), "needs 43 outliers, but there are only 10"),
        ((INLIERS[:0], OUTLIERS, 0.3), "no inliers"),
        ((INLIERS, np.zeros((5, 2), np.float32), 0.3), r"\(100, 1\).*\(5, 2\)"),
        ((INLIERS, OUTLIERS.astype(np.uint8), 0.3), "float32.*uint8"),
        ((INLIERS, OUTLIERS, 0.3, -1), "random_state=-1"),
        ((INLIERS, OUTLIERS, 0.3, "seed"), "random_state='seed'"),
    ],
)
def test_bad_mixtures_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        contaminate(*arguments)


def test_bad_totals_are_refused():
    with pytest.raises(InputError, match="needs 180 inliers, but there are only 100"):
        contaminate(INLIERS, OUTLIERS, 0.1, total=200)
    for total in (0, 2.5):
        with pytest.raises(InputError, match=f"total={total}"):
            contaminate(INLIERS, OUTLIERS, 0.1, total=total)


def test_split_classes():
    labels = np.array([3, 1, 3, 2])
    inliers, outliers = split_classes(INLIERS[:4], labels, 3)
    assert inliers[:, 0].tolist() == [0, 2] and outliers[:, 0].tolist() == [1, 3]
    assert split_classes(INLIERS[:4], labels, [1, 2])[0][:, 0].tolist() == [1, 3]
    for classes, message in (([3, 7], "3, 7.*1, 2, 3"), ([], "must name"), ([1, 2, 3], "leave one")):
        with pytest.raises(InputError, match=message):
            split_classes(INLIERS[:4], labels, classes)
    with pytest.raises(InputError, match="100 images"):
        split_classes(INLIERS, labels, 3)


@given(
    kind=st.sampled_from(NOISES),
    n=st.integers(0, 4),
    shape=st.sampled_from([(8, 9), (28, 28), (3, 10, 8)]),
    seed=st.integers(0, 2**32),
)
def test_noise(kind, n, shape, seed):
    noise = noise_images(n, shape, kind, seed)
    assert noise.shape == (n, *shape) and noise.dtype == np.uint8
    np.testing.assert_array_equal(noise, noise_images(n, shape, kind, seed))
    if n:
        assert not np.array_equal(noise, noise_images(n, shape, kind, seed + 1))


def test_noise_is_distributed_as_it_says():
    uniform, gaussian, pepper = (noise_images(20, (50, 50), kind, 0) for kind in NOISES)
    assert (uniform.min(), uniform.max()) == (0, 255) and abs(uniform.std() - 73.9) < 1
    assert abs(gaussian.mean() - 127.5) < 1 and abs(gaussian.std() - 62) < 2
    assert np.unique(pepper).tolist() == [0, 255] and abs(pepper.mean() - 127.5) < 2


@given(
    kind=st.sampled_from(TRANSFORMS),
    shape=st.sampled_from([(2, 8, 8), (3, 28, 20), (2, 1, 28, 28), (2, 3, 9, 30), (2, 16, 16, 3)]),
    seed=st.integers(0, 2**32),
)
def test_every_transform_changes_every_image(kind, shape, seed):
    images = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    before = images.copy()
    damaged = transform_images(images, kind, seed)
    assert damaged.shape == shape and damaged.dtype == np.uint8
    assert all((new != old).any() for new, old in zip(damaged, images, strict=True))
    np.testing.assert_array_equal(images, before)
    np.testing.assert_array_equal(damaged, transform_images(images, kind, seed))


@pytest.mark.parametrize("kind", ["occlude", "rotate"])
def test_transforms_differ_between_seeds(kind):
    images = noise_images(5, (28, 28), "uniform", 0)
    assert not np.array_equal(transform_images(images, kind, 0), transform_images(images, kind, 1))


def test_transforms_do_what_they_say():
    noise = noise_images(4, (28, 28), "uniform", 0)
    np.testing.assert_array_equal(transform_images(noise, "invert"), 255 - noise)
    assert transform_images(noise, "blur").std() < noise.std() / 3
    for value, patch in ((0, 255), (255, 0)):
        occluded = transform_images(np.full((4, 28, 28), value, np.uint8), "occlude", 0) == patch
        assert (occluded.mean((1, 2)) > 0.1).all() and (occluded.mean((1, 2)) < 0.46).all()


def test_unknown_kinds_are_refused():
    with pytest.raises(InputError, match=r"kind='fog'.*gaussian"):
        noise_images(1, (8, 8), "fog")
    with pytest.raises(InputError, match=r"kind='fog'.*rotate"):
        transform_images(noise_images(1, (8, 8), "uniform"), "fog")
    with pytest.raises(InputError, match="n=-1"):
        noise_images(-1, (8, 8), "uniform")
    with pytest.raises(InputError, match="float64"):
        transform_images(np.zeros((1, 8, 8)), "blur")


def test_manifest_round_trip(tmp_path):
    mixture = contaminate(INLIERS, OUTLIERS, 0.3, 0)
    path = tmp_path / "manifest.csv"
    path.write_text("an older one")
    save_manifest(path, mixture)
    assert os.listdir(tmp_path) == ["manifest.csv"]
    assert path.read_text().splitlines()[0] == "index,is_outlier,source_index"
    loaded = load_manifest(path)
    np.testing.assert_array_equal(loaded.is_outlier, mixture.is_outlier)
    np.testing.assert_array_equal(loaded.source_index, mixture.source_index)
    assert loaded.is_outlier.dtype == bool and loaded.source_index.dtype == np.int64
    save_manifest(path, Manifest(*(field[:0] for field in loaded)))
    assert len(load_manifest(path).is_outlier) == 0


def test_a_failed_write_leaves_the_old_manifest(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    path = tmp_path / "manifest.csv"
    path.write_text("an older one")
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(InputError, match="No space left"):
        save_manifest(path, contaminate(INLIERS, OUTLIERS, 0.3, 0))
    assert path.read_text() == "an older one" and os.listdir(tmp_path) == ["manifest.csv"]


def test_bad_manifests_are_refused(tmp_path):
    path = tmp_path / "manifest.csv"
    with pytest.raises(InputError, match="cannot be read"):
        load_manifest(path)
    with pytest.raises(InputError, match="make the folder"):
        save_manifest(tmp_path / "none" / "manifest.csv", contaminate(INLIERS, OUTLIERS, 0.3, 0))
    good = "index,is_outlier,source_index\n0,1,5\n1,0,2\n"
    for bad in (
        "",
        good.replace("index,is", "i,is"),
        good.replace("0,1,5", "0,2,5"),
        good.replace("1,0,2", "7,0,2"),
        good.replace("1,0,2", "1,0"),
        good.replace("1,0,2", "1,no,2"),
    ):
        path.write_text(bad)
        with pytest.raises(InputError, match="manifest"):
            load_manifest(path)
