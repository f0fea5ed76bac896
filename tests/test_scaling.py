"""Large sets: what is drawn, done in blocks or left uncompared must not change what small sets show."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from data.recipes import load
from pipelines import benchmark_scaling as scaling
from rvqvae import RobustVQVAE, detector
from rvqvae.config import ModelConfig
from rvqvae.detector import drawn
from rvqvae.io import duplicates
from rvqvae.membership import JointView, view
from rvqvae.membership.ellipsoid import _mahalanobis
from rvqvae.priors import groups as generation
from rvqvae.vqvae.model import TwoCodebookVQVAE


def blobs(n: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    outlier = rng.random(n) < 0.1
    return rng.normal(size=(n, 6)) + 9 * outlier[:, None], outlier


@pytest.fixture(scope="module")
def large():
    """An estimator that learned from 200 of 300 samples, and the samples."""
    x, outlier = blobs(300)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(detector, "LEARN", 200)
        patch.setattr(detector, "BLOCK", 64)
        model = RobustVQVAE(epochs=2, prior_epochs=1, random_state=0, device="cpu").fit(x)
    return model, x, outlier


def test_a_large_set_is_learned_from_a_part_and_scored_whole(large):
    model, x, outlier = large
    assert model.scores_.shape == (300,) and np.isfinite(model.scores_).all()
    assert model.scores_[outlier].max() < model.scores_[~outlier].min()
    np.testing.assert_allclose(model.scores_, model.score_samples(x), atol=1e-5)
    np.testing.assert_allclose(model.embedding_, model._scorer.vectors(x.astype(np.float32)), atol=1e-5)
    assert model.contamination_ == pytest.approx((~model.inlier_mask_).mean())
    assert model.sample(3, random_state=0).shape == (3, 6)


def test_the_part_is_another_for_another_seed(large):
    model, x, _ = large
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(detector, "LEARN", 200)
        patch.setattr(detector, "BLOCK", 1000)
        again, other = (
            RobustVQVAE(epochs=2, prior_epochs=1, random_state=seed, device="cpu").fit(x) for seed in (0, 1)
        )
    np.testing.assert_allclose(again.scores_, model.scores_, atol=1e-5)
    assert np.abs(other.scores_ - model.scores_).max() > 1e-3


def test_a_given_contamination_holds_for_the_whole_set():
    x, _ = blobs(300)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(detector, "LEARN", 200)
        model = RobustVQVAE(0.2, epochs=1, prior_epochs=0, random_state=0, device="cpu").fit(x)
    assert (~model.inlier_mask_).sum() == 60


@pytest.mark.parametrize("most", [1, 5, 10, 11])
def test_drawn_rows(most):
    rows = drawn(10, most, seed=3)
    assert len(rows) == min(most, 10) == len(set(rows.tolist())) and np.array_equal(rows, np.sort(rows))
    assert rows.min() >= 0 and rows.max() < 10


def test_views_are_projected_in_blocks(monkeypatch):
    rng = np.random.default_rng(0)
    views = [rng.normal(size=(50, 7)), rng.integers(0, 255, (50, 40)).astype(np.uint8)]
    joint = JointView.fit(views)
    whole = np.concatenate(
        [(v.astype(np.float32) - m) @ a for v, m, a in zip(views, joint.means, joint.axes, strict=True)], 1
    )
    for block in (1, 7, 50, 51):
        monkeypatch.setattr(view, "ROWS", block)
        np.testing.assert_allclose(joint(views), whole, atol=1e-4)
    assert JointView.fit(views)(views).shape == (50, 7 + 32)


def test_distances_in_blocks():
    z = np.random.default_rng(0).normal(size=(20_000, 3)).astype(np.float32)
    precision = np.diag([1.0, 2.0, 3.0])
    np.testing.assert_allclose(_mahalanobis(z, np.ones(3), precision), (z - 1.0) ** 2 @ [1, 2, 3], rtol=1e-5)
    assert _mahalanobis(z[:0], np.ones(3), precision).shape == (0,)


def test_groups_of_codes_in_blocks(monkeypatch):
    torch.manual_seed(0)
    model = TwoCodebookVQVAE((1, 28, 28), ModelConfig(channels=8, code_dim=4, inlier_codes=16))
    model.inlier_codebook.codewords.copy_(torch.randn(16, 4))
    codes = torch.randint(8, (60, 7, 7)) + 8 * (torch.arange(60) % 2)[:, None, None]
    whole = generation.code_groups(model, codes, 2, 0)
    assert len(set((whole ^ (torch.arange(60) % 2)).tolist())) == 1
    monkeypatch.setattr(generation, "BLOCK", 7)
    assert torch.equal(generation.code_groups(model, codes, 2, 0), whole)


def copied(side, strongest):
    """60 digits, and each again with noise up to ``strongest`` of its contrast."""
    rng = np.random.default_rng(side)
    images = load("mnist")[0][:60, :side, :side]
    noise = rng.normal(0, 1, images.shape) * images.std((1, 2), keepdims=True)
    strength = np.linspace(0, strongest, len(images))[:, None, None]
    return np.concatenate([images, np.clip(images + strength * noise, 0, 255).astype(np.uint8)])[:, None]


def slow_near_duplicates(images):
    """Every pair, one after the other."""

    def view(image):
        blocks = [
            [block.mean() for block in np.array_split(line, 8, axis=1)]
            for line in np.array_split(image[0].astype(float), 8)
        ]
        centred = np.array(blocks) - np.mean(blocks)
        return centred / max(np.linalg.norm(centred), 4)

    found = {}
    contrasts = images.std((1, 2, 3))
    good = np.flatnonzero(contrasts >= 1)
    views = {i: view(images[i]) for i in good}
    apart = {i: {j: np.linalg.norm(views[i] - views[j]) for j in good if j != i} for i in good}
    for i in good:
        for j in good[good < i]:
            reach = min(sorted(apart[i].values())[3], sorted(apart[j].values())[3])
            difference = np.sqrt(np.mean((images[i].astype(float) - images[j]) ** 2))
            relative = difference / min(contrasts[i], contrasts[j])
            if relative <= 0.08 or (apart[i][j] <= reach / 4 and relative <= 0.7):
                found.setdefault(i, j)
    return {int(i): int(j) for i, j in found.items()}


@pytest.mark.parametrize("strongest", [0.12, 1.2])
def test_near_duplicates_are_those_of_the_slow_twin(strongest):
    both = copied(16, strongest)
    found = duplicates.near_duplicates(both)
    assert found == slow_near_duplicates(both) and 20 < len(found) <= 60


def test_hardly_a_near_duplicate_is_lost_between_cells(monkeypatch):
    both = np.concatenate([load("mnist")[0][60:500, None, :16, :16], copied(16, 0.3)])
    found = duplicates.near_duplicates(both)
    monkeypatch.setattr(duplicates, "CELL", 64)
    monkeypatch.setattr(duplicates, "SAMPLE", 32)
    in_cells = duplicates.near_duplicates(both)
    assert len(found) > 50 and len(in_cells.items() & found.items()) >= 0.96 * len(found)
    assert len(in_cells.items() - found.items()) <= 1


# The benchmark


def test_a_set_is_made_in_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(scaling, "BLOCK", 30)
    outlier = scaling.write_set(tmp_path / "x.npz", 100, 0.1, None, 0)
    with np.load(tmp_path / "x.npz") as file:
        images = file["x"]
    assert images.shape == (100, 28, 28) and images.dtype == np.uint8 and outlier.sum() == 10
    # Clothes fill more of the image than digits.
    assert (images[outlier] > 30).mean() > 1.5 * (images[~outlier] > 30).mean()
    assert len(np.unique(images, axis=0)) == 100


def test_images_move_a_little_and_not_all_alike():
    images = load("mnist")[0][:20]
    moved = scaling.moved(images, np.random.default_rng(0))
    change = np.abs(moved.astype(int) - images).mean((1, 2))
    assert (change > 0).all() and len(set(change.tolist())) == 20
    assert moved.sum() == pytest.approx(images.sum(), rel=0.05)


def test_the_table_and_the_plot(tmp_path):
    stages = {"scan": 1.0, "scan to decode": 2.0}
    costs = [
        scaling.Cost(
            n, n / 10, n / 20, 1 + n / 1e5, 0.99, 0.1, stages | ({"score": 3.0} if n > 5000 else {}), 1
        )
        for n in (1000, 10_000)
    ]
    sheet = scaling.cost_sheet(costs)
    assert [line[0] for line in sheet.lines] == ["1,000", "10,000"] and sheet.lines[0][3] == "50.00"
    assert scaling.stage_sheet(costs).lines[-1] == ["score", "", "3.0"]
    scaling.scaling_figure(costs).savefig(tmp_path / "scaling.png")
    assert scaling.Cost(**json.loads(json.dumps(costs[0]._asdict()))) == costs[0]
