"""The scikit-learn estimator: its contract, its threshold, what it refuses."""

import copy
import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from data.recipes import load
from rvqvae import RobustVQVAE, contaminate
from rvqvae.errors import InputError

CLEAN = "the check's data are clean blobs, and it demands outliers among them: a clean set must stay whole"


def quick(contamination="auto", **changes):
    return RobustVQVAE(contamination, **({"epochs": 1, "prior_epochs": 1, "random_state": 0} | changes))


def failing(estimator):
    by_itself = estimator.contamination == "auto"
    return dict.fromkeys(["check_outliers_train", "check_outliers_fit_predict"], CLEAN) if by_itself else {}


def normal(n=300, d=6, n_out=0, seed=0):
    """``n`` rows, of which the last ``n_out`` lie far off."""
    x = np.random.default_rng(seed).normal(size=(n, d))
    x[n - n_out :, 0] += 50
    return x


def flat(images):
    """A backbone that costs nothing."""
    return torch.nn.functional.avg_pool2d(images.float(), 4).flatten(1)


@pytest.fixture(scope="module")
def mixed():
    """900 digits and clothes (N,1,28,28), 20 % clothes, and the truth."""
    digits, clothes = (load(name)[0][:, None] for name in ("mnist", "fashion_mnist"))
    made = contaminate(digits, clothes, 0.2, 0, total=900)
    return made.images, made.is_outlier


@pytest.fixture(scope="module")
def trained(mixed):
    return RobustVQVAE(epochs=4, prior_epochs=2, random_state=0).fit(mixed[0])


@pytest.fixture(scope="module")
def vectors():
    """Fitted to 300 rows, 30 of them outliers; never changed by a test."""
    return quick(prior_epochs=2).fit(normal(n_out=30))


# scikit-learn ------------------------------------------------------------------------------------------


@parametrize_with_checks([quick(0.1), quick()], expected_failed_checks=failing)
@pytest.mark.filterwarnings("ignore")  # of the checks, about what they try
def test_scikit_learn_agrees(estimator, check):
    check(estimator)


def test_only_two_checks_are_expected_to_fail():
    assert len(failing(quick())) == 2 and not failing(quick(0.1))


def test_in_a_pipeline():
    x = normal(n_out=30) * [1e3, 1, 1e-3, 1, 1, 1] + 5
    pipeline = make_pipeline(StandardScaler(), quick(0.1))
    assert np.array_equal(pipeline.fit_predict(x), np.where(np.arange(300) < 270, 1, -1))
    assert roc_auc_score(np.arange(300) >= 270, -pipeline.score_samples(x)) == 1


def test_grid_search():
    x, truth = normal(200, n_out=20), np.arange(200) >= 180
    order = np.random.default_rng(0).permutation(200)

    def accuracy(model, x, y):
        return ((model.predict(x) == -1) == y).mean()

    values = {"contamination": ["auto", 0.1, 0.5], "epochs": np.arange(1, 3), "channels": np.array([8])}
    search = GridSearchCV(quick(prior_epochs=0), values, scoring=accuracy, cv=2, error_score="raise")
    search.fit(x[order], truth[order])
    assert search.best_params_["contamination"] != 0.5 and search.best_score_ > 0.95
    assert search.best_estimator_.score_samples(x).shape == (200,)


def test_parameters_are_kept_as_they_were_given():
    model = quick(0.2, features=flat, device="cpu", directory="somewhere")
    assert clone(model).get_params() == model.get_params()
    assert set(RobustVQVAE().get_params()) == set(RobustVQVAE.__init__.__kwdefaults__) | {"contamination"}
    assert model.set_params(epochs=3, contamination="auto").epochs == 3
    with pytest.raises(ValueError, match="Invalid parameter"):
        model.set_params(epoch=3)


def test_copies_and_pickles_score_alike(vectors):
    x = normal(seed=1)
    expected = vectors.score_samples(x)
    for other in (copy.deepcopy(vectors), pickle.loads(pickle.dumps(vectors))):
        assert np.array_equal(other.score_samples(x), expected)
        assert np.array_equal(other.sample(3), vectors.sample(3))


# layouts -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(12, 10), (12, 10, 3), (1, 12, 10), (3, 12, 10)])
def test_images_come_back_as_they_went_in(shape):
    images = np.random.default_rng(0).integers(0, 256, (60, *shape), np.uint8)
    model = quick(features=flat).fit(images)
    for made, n in ((model.sample(3), 3), (model.reconstruct(images), 60)):
        assert (made.shape, made.dtype) == ((n, *shape), np.uint8)
    assert model.anomaly_map(images).shape == (60, 12, 10) and model.anomaly_map(images).dtype == np.float32
    # Other layouts of the same images are understood, and given back as such.
    if shape == (12, 10):
        other = images[:, None]
    elif shape == (1, 12, 10):
        other = list(images[:, 0])
    else:
        other = np.moveaxis(images, -1 if shape[-1] == 3 else 1, 1 if shape[-1] == 3 else -1)
    assert model.reconstruct(other).shape == np.shape(other)
    assert np.array_equal(model.score_samples(other), model.score_samples(images))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_vectors_come_back_in_their_dtype(dtype):
    x = normal(60).astype(dtype)
    model = quick().fit(x)
    assert model.sample(3).dtype == model.reconstruct(x).dtype == dtype
    assert model.sample(3).shape == (3, 6)
    assert model.reconstruct(x.astype(np.float32)).dtype == np.float32


def test_read_only_arrays_are_welcome():
    images = np.random.default_rng(0).integers(0, 256, (60, 8, 8), np.uint8)
    for x in (images, normal(60).astype(np.float32)):
        x.flags.writeable = False
        quick(features=flat).fit(x).score_samples(x)


# what it finds -----------------------------------------------------------------------------------------


def test_clothes_among_digits(mixed, trained):
    _, truth = mixed
    assert roc_auc_score(truth, -trained.scores_) > 0.98
    assert roc_auc_score(truth, trained.outlier_probability_) > 0.98
    assert trained.verdict_ == "contaminated"
    low, high = trained.contamination_interval_
    assert low <= truth.mean() <= high and low <= trained.contamination_ <= high
    assert abs(trained.contamination_ - truth.mean()) < 0.02
    assert truth[trained.inlier_mask_].mean() < 0.01
    assert len(trained.history_) == 4


def test_new_images(trained):
    digits, clothes = (load(name, train=False)[0][:150] for name in ("mnist", "fashion_mnist"))
    truth = np.repeat([False, True], 150)
    assert roc_auc_score(truth, -trained.score_samples(np.r_[digits, clothes])) > 0.98
    assert (trained.predict(digits) == 1).mean() > 0.97 and (trained.predict(clothes) == -1).mean() > 0.9


def test_training_makes_reconstructions_better(mixed, trained):
    images, truth = mixed
    inliers = images[~truth][:200]
    untrained = copy.deepcopy(trained)
    torch.manual_seed(0)
    for module in untrained._model.decoder.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()

    def error(model):
        return np.square(model.reconstruct(inliers) / 255.0 - inliers / 255.0).mean()

    assert error(trained) < 0.5 * error(untrained)
    assert error(trained) < np.square(inliers / 255.0 - inliers.mean(0) / 255).mean()


def test_a_pasted_patch_shows_on_the_map(mixed, trained):
    images, truth = mixed
    digits = images[~truth][:50, 0].copy()
    before = trained.anomaly_map(digits)
    digits[:, 2:9, 18:25] = np.random.default_rng(0).integers(0, 2, (7, 7), np.uint8) * 255
    after = trained.anomaly_map(digits)
    assert (after >= 0).all() and (after.std((1, 2)) > 0).all()
    patch = np.zeros((28, 28), bool)
    patch[2:9, 18:25] = True
    assert (after[:, patch].mean(1) > 1.3 * after[:, ~patch].mean(1)).mean() > 0.9
    assert (after[:, patch] > 1).mean() > 0.6
    assert (before > 1).mean() < 0.05  # an inlier stays dark


def test_samples_are_inliers_and_follow_their_seed(trained):
    one, other = trained.sample(40, random_state=1), trained.sample(40, random_state=2)
    assert one.shape == (40, 1, 28, 28) and one.std() > 10
    assert np.array_equal(one, trained.sample(40, random_state=1)) and not np.array_equal(one, other)
    assert np.array_equal(trained.sample(4), trained.sample(4))
    assert np.array_equal(one, trained.sample(40, random_state=np.int64(1)))
    assert trained.sample(4, random_state=np.random.RandomState(0)).shape == (4, 1, 28, 28)
    assert not np.array_equal(one, trained.sample(40, random_state=1, temperature=0.5))


# scores ------------------------------------------------------------------------------------------------


def test_training_scores_are_those_of_new_samples(mixed, trained, vectors):
    for model, x in ((trained, mixed[0][:200]), (vectors, normal(n_out=30))):
        n = len(x)
        np.testing.assert_allclose(model.score_samples(x), model.scores_[:n], atol=1e-4)
        np.testing.assert_allclose(model.outlier_probability(x), model.outlier_probability_[:n], atol=1e-4)
        assert np.array_equal(model.predict(x) == 1, model.inlier_mask_[:n])
        assert model.contamination_ == (~model.inlier_mask_).mean()


def test_scores_do_not_depend_on_the_company(mixed, trained):
    images = mixed[0][:130]
    scores = trained.score_samples(images)
    order = np.random.default_rng(0).permutation(130)
    np.testing.assert_allclose(trained.score_samples(images[order]), scores[order], atol=1e-4)
    alone = np.concatenate([trained.score_samples(images[i : i + 1]) for i in range(6)])
    np.testing.assert_allclose(alone, scores[:6], atol=1e-4)


def test_score_threshold_probability_and_prediction_say_the_same(mixed, trained):
    x = mixed[0][:200]
    scores, decision = trained.score_samples(x), trained.decision_function(x)
    inlier = trained.predict(x) == 1
    assert scores.dtype == np.float64 and np.array_equal(decision, scores - trained.offset_)
    assert np.array_equal(inlier, scores >= trained.offset_)
    assert np.array_equal(inlier, trained.outlier_probability(x) <= trained.threshold_)
    assert {*trained.predict(x)} == {1, -1}


@pytest.mark.parametrize("n", [1, 511, 512, 513, 4095, 4096, 4097, 8193])
def test_batches_have_no_edges(vectors, n):
    x = normal(n, seed=3)
    scores, rows = vectors.score_samples(x), np.unique([0, n // 2, n - 1])
    assert scores.shape == (n,)
    np.testing.assert_allclose(scores[rows], vectors.score_samples(x[rows]), atol=1e-4)
    assert vectors.reconstruct(x).shape == x.shape


def test_fit_predict_is_what_the_fit_decided():
    x = normal(80, n_out=8)
    assert np.array_equal(quick(0.1).fit_predict(x), quick(0.1).fit(x).predict(x))


# the threshold -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.05, 0.1, 0.5])
def test_set_contamination_moves_the_threshold_only(vectors, share):
    x, model = normal(n_out=30), copy.deepcopy(vectors)
    assert model.set_contamination(share) is model
    assert (~model.inlier_mask_).sum() == round(share * 300)
    assert np.array_equal(model.scores_, vectors.scores_) and model.contamination == share
    assert np.array_equal(model.predict(x) == 1, model.inlier_mask_)
    assert np.array_equal(model.outlier_probability_ > model.threshold_, ~model.inlier_mask_)
    fitted = quick(share, prior_epochs=2).fit(x)
    for name in ("contamination_", "contamination_interval_", "verdict_"):
        assert getattr(fitted, name) == getattr(model, name)
    # But for the codebooks, whose say is bounded, a fit ranks alike.
    assert (fitted.inlier_mask_ == model.inlier_mask_).mean() >= 0.9
    assert not share or set(np.flatnonzero(~fitted.inlier_mask_)) & set(range(270, 300))


def test_a_wrong_share_changes_nothing(vectors):
    before = vectors.contamination, vectors.offset_
    for share in (-0.1, 0.6, float("nan"), None, "auto"):
        with pytest.raises(InputError, match="contamination="):
            vectors.set_contamination(share)
    assert (vectors.contamination, vectors.offset_) == before


# the same again ----------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_bits(mixed):
    images = mixed[0][:100]
    one, two = (quick(epochs=3).fit(images) for _ in range(2))
    assert np.array_equal(one.scores_, two.scores_) and one.offset_ == two.offset_
    assert np.array_equal(one.sample(5), two.sample(5))
    assert np.array_equal(one.reconstruct(images), two.reconstruct(images))


@pytest.mark.parametrize(
    "change",
    [
        {"contamination": 0.3},
        {"epochs": 3},
        {"prior_epochs": 3},
        {"batch_size": 16},
        {"learning_rate": 1e-3},
        {"channels": 16},
        {"code_dim": 8},
        {"inlier_codes": 32},
        {"outlier_codes": 8},
        {"random_state": 1},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_argument_matters(vectors, change):
    x = normal(n_out=30)
    other = quick(**({"prior_epochs": 2} | change)).fit(x)
    same_scores = np.array_equal(other.scores_, vectors.scores_) and other.offset_ == vectors.offset_
    assert not same_scores or not np.array_equal(other.sample(20), vectors.sample(20))


def test_features_device_and_progress_matter(mixed):
    images, told = mixed[0][:80], []
    plain = quick(0.1, features=flat, device="cpu", progress=lambda *step: told.append(step)).fit(images)
    other = quick(0.1, features=lambda x: flat(x).square()).fit(images)
    assert not np.array_equal(plain.scores_, other.scores_)
    assert plain.fit_prior()
    assert told == [("features", 0, 80), ("features", 80, 80), ("train", 1, 1), ("prior", 1, 1)]
    with pytest.raises(InputError, match="device='nowhere' cannot be used"):
        quick(device="nowhere").fit(normal())


def test_a_fit_cut_short_goes_on_from_where_it_was(tmp_path):
    x, told = normal(n_out=30), []

    def cut(stage, done, total):
        told.append((stage, done))
        if (stage, done) == ("train", 2):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quick(epochs=4, directory=tmp_path, progress=cut).fit(x)
    told.clear()
    resumed = quick(epochs=4, directory=tmp_path, progress=lambda *step: told.append(step[:2])).fit(x)
    assert [done for stage, done in told if stage == "train"] == [3, 4]
    whole = quick(epochs=4).fit(x)
    assert np.array_equal(resumed.scores_, whole.scores_) and resumed.history_ == whole.history_
    assert np.array_equal(resumed.sample(5), whole.sample(5))
    with pytest.raises(InputError, match="holds another run"):
        quick(epochs=4, directory=tmp_path).fit(x[::-1])


# features ----------------------------------------------------------------------------------------------


def test_learned_features(mixed, tmp_path):
    images, truth = mixed
    model = quick(0.2, features="learned").fit(images[:300])
    assert roc_auc_score(truth[:300], -model.scores_) > 0.8
    model.save(tmp_path)
    loaded = RobustVQVAE.load(tmp_path)
    assert loaded.features == "learned"
    assert np.array_equal(loaded.score_samples(images[:50]), model.score_samples(images[:50]))


def test_a_function_as_backbone_cannot_be_saved(mixed, tmp_path):
    model = quick(features=flat).fit(mixed[0][:80])
    assert np.isfinite(model.score_samples(mixed[0][:5])).all()
    with pytest.raises(InputError, match="is a function, which a model folder cannot hold"):
        model.save(tmp_path / "model")
    assert not (tmp_path / "model").exists()


# bad input ---------------------------------------------------------------------------------------------


def test_before_training():
    for method in ("score_samples", "predict", "reconstruct", "anomaly_map", "outlier_probability"):
        with pytest.raises(NotFittedError):
            getattr(RobustVQVAE(), method)(normal())
    for job in (lambda m: m.sample(1), lambda m: m.save("nowhere"), lambda m: m.set_contamination(0.1)):
        with pytest.raises(NotFittedError):
            job(RobustVQVAE())


@pytest.mark.parametrize(
    "change, says",
    [
        ({"n": 0}, "n=0 is out of range"),
        ({"n": -1}, "n=-1 is out of range"),
        ({"temperature": 0}, "temperature=0 is out of range"),
        ({"temperature": -1.0}, "temperature=-1.0 is out of range"),
        ({"top_p": 0}, "top_p=0 is out of range"),
        ({"random_state": -1}, "random_state=-1 is out of range"),
    ],
)
def test_samples_that_cannot_be_had(vectors, change, says):
    with pytest.raises(InputError, match=says):
        vectors.sample(**({"n": 1} | change))


def test_without_a_prior_nothing_is_sampled():
    with pytest.raises(InputError, match="prior_epochs=0 leaves out"):
        quick(prior_epochs=0).fit(normal(60)).sample(1)


@pytest.mark.parametrize(
    "change, says",
    [
        ({"contamination": "some"}, "contamination='some' is out of range"),
        ({"contamination": 0.51}, "contamination=0.51 is out of range"),
        ({"contamination": None}, "contamination=None is out of range"),
        ({"contamination": float("nan")}, "contamination=nan is out of range"),
        ({"epochs": -1}, "epochs=-1 is out of range"),
        ({"caution": 0}, "caution=0 is out of range"),
        ({"epochs": 1.5}, "epochs=1.5 is out of range: it must be a whole number"),
        ({"prior_epochs": -1}, "prior_epochs=-1 is out of range"),
        ({"batch_size": 0}, "batch_size=0 is out of range"),
        ({"batch_size": "8"}, "batch_size='8' is out of range"),
        ({"learning_rate": 0}, "learning_rate=0 is out of range"),
        ({"learning_rate": "fast"}, "learning_rate='fast' is out of range"),
        ({"channels": 3}, "channels=3 is out of range"),
        ({"code_dim": 0}, "code_dim=0 is out of range"),
        ({"inlier_codes": 1}, "inlier_codes=1 is out of range"),
        ({"outlier_codes": 1}, "outlier_codes=1 is out of range"),
        ({"random_state": -1}, "random_state=-1 is out of range"),
        ({"random_state": 2**31}, "random_state=2147483648 is out of range"),
        ({"features": None}, "features=None is neither"),
    ],
    ids=lambda value: "" if isinstance(value, str) else str(value),
)
def test_arguments_out_of_range(change, says):
    with pytest.raises(InputError, match=says):
        quick(**change).fit(normal(60))


@pytest.mark.parametrize(
    "value, says", [(np.nan, "NaN"), (np.inf, "infinity"), (-1e39, "-?1e[+]39 is out of")]
)
def test_values_that_are_none(vectors, value, says):
    x = normal(60)
    x[3, 2] = value
    for job in (quick().fit, vectors.score_samples):
        with pytest.raises(ValueError, match=says):
            job(x)


def test_images_of_another_kind(trained, vectors):
    for shape in ((2, 32, 28), (2, 28, 28, 3), (2, 3, 28, 28)):
        with pytest.raises(InputError, match=r"do not fit this model.*resize or convert"):
            trained.predict(np.zeros(shape, np.uint8))
    for x in (np.zeros((2, 784)), np.zeros((28, 28), np.uint8)):
        with pytest.raises(InputError, match=r"trained on images.*give images"):
            trained.predict(x)
    with pytest.raises(InputError, match="do not fit this model"):
        vectors.predict(np.zeros((2, 8, 8), np.uint8))
    with pytest.raises(InputError, match="anomaly_map is for images"):
        vectors.anomaly_map(normal(5))
    for job in (quick().fit, trained.predict):
        with pytest.raises(InputError, match="float images have no agreed range"):
            job(np.zeros((60, 28, 28)))
        with pytest.raises(InputError, match="differ in shape"):
            job([np.zeros((28, 28), np.uint8), np.zeros((29, 28), np.uint8)])
        with pytest.raises(InputError, match="empty"):
            job(np.zeros((0, 28, 28), np.uint8))


@pytest.mark.parametrize("share", [0.52, 0.6, 1.0])
def test_one_sample_over_and_over(mixed, share):
    images = mixed[0][:100].copy()
    images[: round(100 * share)] = images[0]
    x = normal(100)
    x[: round(100 * share)] = x[0]
    for samples in (images, x, np.r_[x, normal(5, seed=1)] if share > 0.6 else x):
        with pytest.raises(InputError, match=r"samples are identical, more than half.*keep one of each"):
            quick(features=flat).fit(samples)


def test_one_image_over_and_over_among_what_may_belong(mixed):
    """Not half of the set, but half of it without what is foreign to it."""
    images, truth = mixed
    digits, clothes = images[~truth], images[truth]
    some = np.r_[digits[:250], np.repeat(digits[:1], 250, 0), clothes[:180]]
    try:
        model = quick(features=flat).fit(some)
    except InputError as error:
        assert "identical" in str(error)
    else:
        assert np.abs(model.scores_).max() < 1e3 and np.isfinite(model.scores_).all()


def test_blank_images_are_refused():
    for level in (0, 255):
        with pytest.raises(InputError, match="60 of 60 samples are identical"):
            quick().fit(np.full((60, 28, 28), level, np.uint8))


@pytest.mark.parametrize("n", [3, 10, 49])
def test_few_samples_are_ranked_and_nothing_is_claimed(n):
    images = load("mnist")[0][:n]
    for x in (images, normal(n)):
        model = quick(features=flat).fit(x)
        assert model.verdict_ == "undecided" and model.contamination_interval_ == (0, 0.5)
        assert np.isfinite(model.scores_).all()


def test_a_single_image():
    with pytest.raises(InputError, match="1 sample is too few"):
        quick(features=flat).fit(np.zeros((1, 8, 8), np.uint8))
