"""IMSAT and IMSATHash: that they learn, that only their arguments matter, and what they refuse."""

import json

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score
from sklearn.utils.estimator_checks import parametrize_with_checks

from data.recipes import load
from rvqvae.clustering import IMSAT, IMSATHash, hamming_distances, neighbour_distances
from rvqvae.errors import InputError
from rvqvae.family import PQVAE, VAE

QUICK = {"hidden": (16,), "epochs": 2, "random_state": 0}


def blobs(n=120, d=4, k=3, seed=0):
    draw = np.random.default_rng(seed)
    labels = draw.integers(k, size=n)
    return (4 * draw.normal(size=(k, d))[labels] + draw.normal(size=(n, d))).astype(np.float32), labels


@pytest.fixture(scope="module")
def digits():
    """Zeros, ones and twos (N, 28, 28)."""
    x, y = load("mnist")
    some = np.isin(y, (0, 1, 2))
    return x[some][:900], y[some][:900]


def clusters_of(x, **changes):
    options = {"n_clusters": 3, "hidden": (100, 100), "epochs": 50, "batch_size": 100, "random_state": 0}
    return IMSAT(**options | changes).fit_predict(x)


@pytest.fixture(scope="module")
def agreement(digits):
    x, y = digits
    return adjusted_rand_score(y, clusters_of(x))


# Learning


def test_clusters_of_digits_beat_k_means(digits, agreement):
    x, y = digits
    k_means = KMeans(3, n_init=10, random_state=0).fit_predict(x.reshape(len(x), -1))
    assert agreement > 0.85 > adjusted_rand_score(y, k_means) + 0.05


def test_without_augmentation_or_training_clusters_are_worse(digits, agreement):
    x, y = digits
    assert adjusted_rand_score(y, clusters_of(x, augmentations=())) < agreement - 0.05
    assert adjusted_rand_score(y, clusters_of(x, epochs=1)) < agreement - 0.1


def test_codes_of_a_class_are_nearer_to_each_other_than_to_others(digits):
    x, y = digits
    model = IMSATHash(n_bits=8, hidden=(100,), epochs=20, batch_size=100, random_state=0).fit(x[:600])
    bits, labels = model.transform(x[600:]), y[600:]
    assert bits.shape == (300, 8) and bits.dtype == np.uint8 and set(np.unique(bits)) == {0, 1}
    distances = hamming_distances(model.pack(x[600:]), model.pack(x[600:]))
    np.testing.assert_array_equal(distances, (bits[:, None] != bits).sum(2))
    same = labels[:, None] == labels
    assert distances[same].mean() < 0.6 * distances[~same].mean()
    assert 0.2 < bits.mean() < 0.8 and len(np.unique(bits, axis=0)) > 4


def test_labels_are_those_of_predict_and_find_blobs():
    x, y = blobs(k=4, seed=1)
    model = IMSAT(n_clusters=4, **QUICK | {"epochs": 120, "learning_rate": 1e-2}).fit(x)
    p = model.predict_proba(x)
    assert p.shape == (120, 4) and p.dtype == np.float32
    np.testing.assert_allclose(p.sum(1), 1, rtol=1e-5)
    np.testing.assert_array_equal(model.labels_, p.argmax(1))
    np.testing.assert_array_equal(model.labels_, model.predict(x))
    assert model.labels_.dtype == np.int64 and len(model.history_) == 120
    assert np.bincount(model.labels_).min() > 15 and adjusted_rand_score(y, model.labels_) > 0.7


def test_the_balance_decides_how_equal_unequal_groups_become():
    draw = np.random.default_rng(0)
    x = np.concatenate([draw.normal(size=(360, 3)), draw.normal(size=(40, 3)) + 12]).astype(np.float32)
    small = {
        balance: np.bincount(
            IMSAT(n_clusters=2, balance=balance, **QUICK | {"epochs": 60}).fit_predict(x), minlength=2
        ).min()
        for balance in (1.0, 4.0)
    }
    assert small[1.0] <= 60 and small[4.0] >= small[1.0] + 20


@parametrize_with_checks([IMSAT(n_clusters=3, **QUICK | {"epochs": 20}), IMSATHash(n_bits=4, **QUICK)])
@pytest.mark.filterwarnings("ignore")  # of the checks, about what they try
def test_scikit_learn_agrees(estimator, check):
    check(estimator)


# Only the arguments matter


@pytest.mark.parametrize(
    "change",
    [
        {"n_clusters": 4},
        {"balance": 2.0},
        {"hidden": (8,)},
        {"hidden": ()},
        {"augmentations": ()},
        {"augmentations": ("rpt",)},
        {"augmentations": ("vat", "affine")},
        {"information": 0.5},
        {"radius": 2.0},
        {"neighbour": 3},
        {"epochs": 3},
        {"batch_size": 20},
        {"learning_rate": 1e-2},
        {"weight_decay": 0.5},
        {"random_state": 1},
    ],
)
def test_every_argument_changes_something(change):
    x = np.random.default_rng(0).integers(0, 256, (60, 8, 8), dtype=np.uint8)
    base = {"n_clusters": 3, "learning_rate": 5e-2, **QUICK}
    one, other = (IMSAT(**options).fit(x).predict_proba(x) for options in (base, base | change))
    assert one.shape != other.shape or np.abs(one - other).max() > 1e-6


def test_the_seed_decides_and_the_global_generators_are_left_alone():
    x, _ = blobs()
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    one = IMSAT(n_clusters=3, **QUICK).fit(x).predict_proba(x)
    assert torch.equal(before, torch.random.get_rng_state())
    torch.manual_seed(5)
    np.testing.assert_array_equal(one, IMSAT(n_clusters=3, **QUICK).fit(x).predict_proba(x))


def test_rows_do_not_depend_on_each_other():
    x, _ = blobs()
    model = IMSAT(n_clusters=3, **QUICK | {"epochs": 10}).fit(x)
    whole, order = model.predict_proba(x), np.random.default_rng(0).permutation(len(x))
    np.testing.assert_allclose(model.predict_proba(x[order]), whole[order], atol=1e-5)
    np.testing.assert_allclose(
        np.concatenate([model.predict_proba(row[None]) for row in x]), whole, atol=1e-5
    )


def test_layouts_of_images_are_one_and_scale_and_shift_of_a_matrix_change_nothing():
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 9, 3), dtype=np.uint8)
    last = IMSAT(n_clusters=3, **QUICK).fit(images).predict_proba(images)
    first = images.transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(IMSAT(n_clusters=3, **QUICK).fit(first).predict_proba(first), last)
    flat = first.reshape(40, -1).astype(np.float64)
    for matrix in (flat, flat / 255 - 0.5):
        np.testing.assert_allclose(
            IMSAT(n_clusters=3, **QUICK).fit(matrix).predict_proba(matrix), last, atol=1e-3
        )


@pytest.mark.parametrize("n", [2, 3, 19, 20, 21, 41])
def test_any_number_of_samples(n):
    x, _ = blobs(n)
    model = IMSAT(n_clusters=2, batch_size=20, **QUICK).fit(x)
    assert model.labels_.shape == (n,) and np.isfinite(model.predict_proba(x)).all()


@pytest.mark.parametrize("shape", [(8, 8), (8, 9, 3), (1, 9, 8), (3, 8, 8)])
def test_images_of_any_layout_and_every_augmentation(shape):
    images = np.random.default_rng(0).integers(0, 256, (30, *shape), dtype=np.uint8)
    model = IMSAT(n_clusters=3, augmentations=("vat", "rpt", "affine"), **QUICK).fit(images)
    assert model.predict(images[:1]).shape == (1,)
    assert {"vat", "rpt", "affine"} <= set(model.history_[0])


def test_known_distances_save_the_search_and_change_nothing():
    x, _ = blobs()
    told = []
    known = neighbour_distances(torch.from_numpy(x), 10).numpy()
    made = IMSAT(n_clusters=3, progress=lambda *step: told.append(step), **QUICK).fit(x, distances=known)
    np.testing.assert_allclose(
        made.predict_proba(x), IMSAT(n_clusters=3, **QUICK).fit(x).predict_proba(x), atol=1e-4
    )
    assert {stage for stage, *_ in told} == {"train"}
    for wrong in (known[:-1], -known, known * np.nan):
        with pytest.raises(InputError, match=r"distances of shape .* do not fit 120 samples"):
            IMSATHash(n_bits=3, **QUICK).fit(x, distances=wrong)


def test_default_epochs_are_fewer_for_more_samples():
    settings = {n: IMSAT()._settings(n).epochs for n in (20, 250, 10_000, 70_000, 10**7)}
    assert list(settings.values()) == sorted(settings.values(), reverse=True)
    assert settings[20] <= 200 and settings[10**7] >= 10


def test_progress_tells_every_epoch():
    told = []
    IMSAT(n_clusters=3, progress=lambda *step: told.append(step), **QUICK).fit(blobs()[0])
    assert told == [("distances", 120, 120), ("train", 1, 2), ("train", 2, 2)]


# Saving


@pytest.mark.parametrize("made", [IMSAT(n_clusters=3, **QUICK), IMSATHash(n_bits=5, **QUICK)])
@pytest.mark.parametrize("images", [False, True])
def test_a_saved_model_says_the_same(made, images, tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (30, 8, 8), dtype=np.uint8) if images else blobs()[0]
    made.fit(x).save(tmp_path / "model")
    loaded = type(made).load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.predict_proba(x), made.predict_proba(x))
    keep = {k: v for k, v in made.get_params().items() if k != "device"}
    assert {k: v for k, v in loaded.get_params().items() if k != "device"} == keep
    assert sorted(p.name for p in (tmp_path / "model").iterdir()) == [
        "README.md",
        "model.json",
        "model.safetensors",
    ]
    other = IMSATHash if isinstance(made, IMSAT) else IMSAT
    with pytest.raises(InputError, match=f"holds a '{type(made).__name__}', not a {other.__name__}"):
        other.load(tmp_path / "model")


@pytest.mark.parametrize(
    "change",
    [
        {"shape": [5]},
        {"shape": "x"},
        {"params": {"hidden": [10**9]}},
        {"params": {"n_clusters": 7}},
        {"params": 3},
    ],
)
def test_a_damaged_model_is_refused(change, tmp_path):
    IMSAT(n_clusters=3, **QUICK).fit(blobs()[0]).save(tmp_path)
    facts = json.loads((tmp_path / "model.json").read_text())
    facts |= {k: facts[k] | v if isinstance(v, dict) else v for k, v in change.items()}
    (tmp_path / "model.json").write_text(json.dumps(facts))
    with pytest.raises(InputError, match="not a complete model"):
        IMSAT.load(tmp_path)
    with pytest.raises(InputError, match="not a model folder"):
        IMSAT.load(tmp_path / "nothing")


# Bad input


@pytest.mark.parametrize(
    "made, x, says",
    [
        (IMSAT(n_clusters=11), np.eye(10), "n_clusters=11 is more than the 10 samples"),
        (IMSAT(), np.ones((50, 3)), "all 50 samples are equal"),
        (IMSATHash(), np.full((50, 8, 8), 7, np.uint8), "all 50 samples are equal"),
        (IMSAT(), np.full((50, 3), np.nan), "NaN"),
        (IMSAT(), np.full((50, 3), 1e20), "out of range: scale"),
        (IMSAT(), np.ones((50, 8, 8)), "dtype float64"),
        (IMSATHash(), np.zeros((1, 8, 8), np.uint8), "1 sample is too few"),
        (IMSAT(augmentations=("affine",)), np.eye(10), "'affine' moves pixels"),
    ],
)
def test_bad_samples_are_named(made, x, says):
    with pytest.raises(ValueError, match=says):
        made.fit(x)


@pytest.mark.parametrize(
    "name, value",
    [
        ("n_clusters", 0), ("n_clusters", 2.5), ("balance", 0.5), ("epochs", 0), ("batch_size", 1),
        ("learning_rate", 0), ("learning_rate", "x"), ("information", -1), ("radius", np.nan),
        ("neighbour", 0), ("weight_decay", np.inf), ("hidden", (0,)), ("augmentations", ("cat",)),
        ("augmentations", "vat"), ("augmentations", ("vat", "vat")), ("random_state", -1),
    ],
)  # fmt: skip
def test_parameters_out_of_range_are_named(name, value):
    with pytest.raises(InputError, match=name):
        IMSAT(**{"n_clusters": 3} | {name: value}).fit(blobs()[0])


def test_other_samples_than_trained_on_are_refused():
    model = IMSAT(n_clusters=3, **QUICK).fit(
        np.random.default_rng(0).integers(0, 256, (30, 8, 8), dtype=np.uint8)
    )
    with pytest.raises(InputError, match=r"trained on \(1, 8, 8\): resize"):
        model.predict(np.zeros((2, 9, 8), np.uint8))
    with pytest.raises(InputError, match=r"trained on images.*give images"):
        model.predict(np.zeros((2, 64)))
    with pytest.raises(InputError, match="packed codes of one length"):
        hamming_distances(np.zeros((2, 1), np.uint8), np.zeros((2, 2), np.uint8))


# Going on


class Cut(Exception):
    pass


@pytest.mark.parametrize(
    "make",
    [
        lambda **given: IMSAT(n_clusters=3, hidden=(16,), epochs=4, batch_size=50, random_state=0, **given),
        lambda **given: VAE(latent_dim=2, hidden=(8,), epochs=4, batch_size=50, random_state=0, **given),
        lambda **given: PQVAE(
            latent_dim=4, hidden=(8,), n_codebooks=2, n_codes=8, epochs=4, random_state=0, **given
        ),
    ],
    ids=["IMSAT", "VAE", "PQVAE"],
)
def test_a_training_that_was_cut_short_goes_on(tmp_path, make):
    x, _ = blobs()

    def cut(stage, done, total):
        if stage == "train" and done == 2:
            raise Cut

    with pytest.raises(Cut):
        make(directory=tmp_path, progress=cut).fit(x)
    seen = []
    found = make(directory=tmp_path, progress=lambda *said: seen.append(said)).fit(x)
    whole = make().fit(x)
    assert [done for stage, done, _ in seen if stage == "train"] == [3, 4]
    assert found.history_ == whole.history_
    for one, other in zip(
        found.network_.state_dict().values(), whole.network_.state_dict().values(), strict=True
    ):
        assert torch.equal(one, other)
    with pytest.raises(InputError, match="another run"):
        make(directory=tmp_path).fit(x + 1)
