"""Sampling of one class or cluster at a time, and of what the model takes for inliers."""

import json

import numpy as np
import pytest
import torch

from rvqvae import RobustVQVAE
from rvqvae.config import ModelConfig, PriorConfig
from rvqvae.errors import InputError
from rvqvae.priors import GatedPixelCNN
from rvqvae.priors.conditional import BLOCK, MOST, Classes, accepted, fit_class_prior
from rvqvae.vqvae.model import TwoCodebookVQVAE

CENTRES = np.array([[6, 0, 0, 0], [0, 6, 0, 0], [0, 0, 6, 0]])
NAMES = np.array(["left", "middle", "right"])


def blobs(n=400, seed=0):
    """Rows (n, 4) around three centres, of which the last 20 lie far off, and the centre of each."""
    rng = np.random.default_rng(seed)
    of_row = rng.integers(3, size=n)
    x = CENTRES[of_row] + rng.normal(size=(n, 4))
    x[n - 20 :] += 40
    return x, of_row


def nearest(samples):
    return np.linalg.norm(samples[:, None] - CENTRES, axis=2).argmin(1)


@pytest.fixture(scope="module")
def data():
    return blobs()


@pytest.fixture(scope="module")
def plain(data):
    """Never changed by a test."""
    return RobustVQVAE(0.05, epochs=15, prior_epochs=12, random_state=0, inlier_codes=32).fit(data[0])


@pytest.fixture(scope="module")
def saved(plain, tmp_path_factory):
    plain.save(tmp_path_factory.mktemp("plain"))
    return tmp_path_factory.getbasetemp() / "plain0"


@pytest.fixture(scope="module")
def conditional(saved, data):
    """Conditioned on names; never changed by a test."""
    return RobustVQVAE.load(saved).condition_on(data[0], NAMES[data[1]])


# Classes


def test_samples_are_of_the_class_that_was_asked_for(conditional):
    assert conditional.classes_.tolist() == sorted(NAMES)
    for i, name in enumerate(NAMES):
        samples = conditional.sample(100, label=name)
        assert samples.shape == (100, 4)
        assert (nearest(samples) == i).mean() > 0.9


def test_without_a_label_every_class_comes_by_its_share(conditional, data):
    found = np.bincount(nearest(conditional.sample(600)), minlength=3) / 600
    assert np.abs(found - np.bincount(data[1][:380], minlength=3) / 380).max() < 0.08


@pytest.mark.parametrize("n", [1, 8, 9])
def test_samples_depend_on_seed_and_place_alone(conditional, n):
    first = conditional.sample(9, 3, label="left")
    np.testing.assert_allclose(conditional.sample(n, 3, label="left"), first[:n], atol=1e-5)
    assert not np.array_equal(conditional.sample(9, 4, label="left"), first)
    assert not np.array_equal(conditional.sample(9, 3, label="right"), first)


def test_clusters_are_found_where_there_are_no_labels(saved, data):
    model = RobustVQVAE.load(saved).condition_on(data[0], clusters=3)
    assert model.classes_.tolist() == [0, 1, 2]
    seen = set()
    for label in range(3):
        counts = np.bincount(nearest(model.sample(100, label=label)), minlength=3)
        assert counts.max() > 70
        seen.add(int(counts.argmax()))
    assert seen == {0, 1, 2}


def test_conditioning_leaves_all_but_the_prior_alone(plain, conditional, data):
    x = data[0]
    assert np.array_equal(conditional.score_samples(x), plain.score_samples(x))
    assert np.array_equal(conditional.reconstruct(x), plain.reconstruct(x))
    assert plain.classes_.size == 0


def test_labels_of_outliers_are_not_learned(saved, data):
    x, labels = data[0], NAMES[data[1]].astype(object)
    labels[380:] = "far"
    model = RobustVQVAE.load(saved).set_params(prior_epochs=1).condition_on(x, labels)
    assert "far" not in model.classes_
    with pytest.raises(
        InputError, match="'far' is not one of the classes that were kept: give one of 'left'"
    ):
        model.sample(1, label="far")


def test_classes_are_saved_and_come_back(conditional, tmp_path):
    conditional.save(tmp_path)
    loaded = RobustVQVAE.load(tmp_path)
    assert loaded.classes_.tolist() == conditional.classes_.tolist()
    for label in (None, "middle"):
        assert np.array_equal(loaded.sample(20, label=label), conditional.sample(20, label=label))
    facts = json.loads((tmp_path / "model.json").read_text())
    facts["fitted"]["classes"]["of_group"].append(0)
    (tmp_path / "model.json").write_text(json.dumps(facts))
    with pytest.raises(InputError, match="not a complete model"):
        RobustVQVAE.load(tmp_path)


def test_fitting_again_forgets_the_classes(conditional, data):
    model = RobustVQVAE(0.05, epochs=1, prior_epochs=1, random_state=0).fit(data[0][:100])
    model.condition_on(data[0][:100], data[1][:100])
    assert model.classes_.size == 3
    assert model.fit(data[0][:100]).classes_.size == 0


def test_groups_lie_within_classes_and_weights_set_their_share():
    model = TwoCodebookVQVAE((4,), ModelConfig(channels=4, inlier_codes=8)).eval()
    with torch.no_grad():
        model.inlier_codebook.codewords.normal_(generator=torch.Generator().manual_seed(0))
    x = torch.randn(300, 4, generator=torch.Generator().manual_seed(0))
    labels = np.array([5] * 200 + [7] * 99 + [9])
    weights = np.where(labels == 5, 1.0, 2.0)
    prior, classes = fit_class_prior(
        model, x, labels, PriorConfig(epochs=1, groups=6, channels=8), seed=0, weights=weights
    )
    assert classes == Classes((5, 7), (0, 0, 0, 0, 1, 1))  # one sample is no class
    share = np.bincount(classes.of_group, prior.class_share.numpy())
    np.testing.assert_allclose(share, [200 / 398, 198 / 398], rtol=1e-5)
    drawn = classes.draw(prior, 7, 50, seed=0)
    assert set(drawn.tolist()) == {4, 5} and classes.draw(prior, 7, 5, seed=0).equal(drawn[:5])


def test_weights_count_in_the_prior_of_a_fit(data, monkeypatch):
    seen = {}

    def spy(*arguments, weights, **options):
        seen["weights"] = weights
        return fit(*arguments, weights=weights, **options)

    from rvqvae import estimator

    fit = estimator.fit_code_prior
    monkeypatch.setattr(estimator, "fit_code_prior", spy)
    model = RobustVQVAE(0.05, epochs=1, prior_epochs=1, random_state=0).fit(data[0][:100])
    assert model.fit_prior() and not model.fit_prior()
    kept = model.outlier_probability_[model.inlier_mask_]
    assert np.array_equal(seen["weights"], 1 - kept)


# Rejection


def numbers(n, seed):
    """Stands for a model: numbers in [0, 1), each its own probability of being an outlier."""
    return np.random.default_rng(seed).random((n, 1))


def own(samples):
    return samples[:, 0]


@pytest.mark.parametrize("limit", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("n", [1, BLOCK, BLOCK + 1, 700])
def test_all_that_pass_are_kept_in_order(n, limit):
    found = accepted(numbers, own, n, limit, 0)
    assert found.shape == (n, 1) and found.max() <= limit
    assert np.array_equal(found[:20], accepted(numbers, own, 20, limit, 0)[:n])
    assert not np.array_equal(found, accepted(numbers, own, n, limit, 1))
    assert len(np.unique(found)) == n


def test_rejection_gives_up_with_a_clear_error():
    drawn = []

    def drawing(n, seed):
        drawn.append(n)
        return numbers(n, seed)

    with pytest.raises(InputError, match=r"of 5,120 samples .* at most 1e-05.*raise max_outlier_probability"):
        accepted(drawing, own, 10, 1e-5, 0)
    assert sum(drawn) == MOST * BLOCK


def test_an_estimator_rejects_its_own_doubts(plain):
    free = plain.outlier_probability(plain.sample(300, 1))
    limit = float(np.quantile(free, 0.5))
    kept = plain.sample(300, 1, max_outlier_probability=limit)
    # Of what comes back in double precision the last digits differ.
    assert plain.outlier_probability(kept).max() <= limit * (1 + 1e-4) < free.max()
    np.testing.assert_allclose(kept[:5], plain.sample(5, 1, max_outlier_probability=limit), atol=1e-5)


def test_rejection_and_labels_go_together(conditional):
    free = conditional.outlier_probability(conditional.sample(100, label="left"))
    kept = conditional.sample(50, label="left", max_outlier_probability=float(np.quantile(free, 0.7)))
    assert (nearest(kept) == 0).mean() > 0.9


# Bad input


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "one of them"),
        ({"labels": [0] * 400, "clusters": 2}, "one of them"),
        ({"labels": [0] * 5}, r"\(5,\) do not fit 400"),
        ({"labels": [0.5] * 400}, "neither whole numbers nor strings"),
        ({"labels": [None] * 400}, "neither whole numbers nor strings"),
        ({"labels": list(range(400))}, "no class has 2 inliers"),
        ({"clusters": 1}, "clusters=1 is out of range"),
        ({"clusters": 300}, "it must be from 2 to 190"),
        ({"clusters": 2.5}, "clusters=2.5"),
    ],
)
def test_what_cannot_be_conditioned_on(saved, data, arguments, message):
    model = RobustVQVAE.load(saved)
    with pytest.raises(InputError, match=message):
        model.condition_on(data[0], **arguments)
    assert model.sample(2).shape == (2, 4) and model.classes_.size == 0


def test_what_cannot_be_sampled(plain, conditional):
    with pytest.raises(InputError, match="call condition_on first"):
        plain.sample(1, label=0)
    with pytest.raises(InputError, match="label=0 is not one of"):
        conditional.sample(1, label=0)
    for limit in (0, -1, 1.5, float("nan")):
        with pytest.raises(InputError, match="max_outlier_probability"):
            plain.sample(1, max_outlier_probability=limit)
    for n in (0, -3):
        with pytest.raises(InputError, match=f"n={n}"):
            plain.sample(n, max_outlier_probability=0.5)


def test_a_model_without_a_prior_says_so(data):
    model = RobustVQVAE(0.05, epochs=1, prior_epochs=0, random_state=0).fit(data[0][:100])
    with pytest.raises(InputError, match="no prior to condition"):
        model.condition_on(data[0][:100], data[1][:100])


def test_stored_classes_must_fit_the_prior():
    prior = GatedPixelCNN(4, PriorConfig(channels=4, layers=1), 3)
    good = {"names": ["a", "b"], "of_group": [0, 0, 1]}
    assert Classes.read(good, prior) == Classes(("a", "b"), (0, 0, 1))
    assert Classes.read(None, prior) is None
    for bad in (good | {"of_group": [0, 1]}, good | {"of_group": [0, 0, 2]}, good | {"names": ["a"]}):
        with pytest.raises(ValueError, match="classes"):
            Classes.read(bad, prior)
    with pytest.raises(ValueError, match="classes"):
        Classes.read(good, None)
