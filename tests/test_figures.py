import numpy as np
import pytest
import torch
from PIL import Image

from pipelines.generation.figures import PANELS, curves_figure, score_histogram
from pipelines.heat_maps import VISIBLE, plant
from rvqvae import figures


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (20, 1, 9, 12), dtype=np.uint8)


def patches(figure):
    return [len(axes.patches) for axes in figure.axes]


def texts(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_grid_keeps_every_image_row_by_row(images):
    picture = figures.image_grid(images, columns=8)
    assert picture.dtype == np.uint8 and picture.shape == (2 + 3 * 11, 2 + 8 * 14, 3)
    for index, image in enumerate(images):
        row, column = divmod(index, 8)
        cell = picture[2 + row * 11 : 11 + row * 11, 2 + column * 14 : 14 + column * 14]
        assert (cell == image[0][..., None]).all()
    assert (picture[-11:, -13:] == 255).all()


def test_grid_takes_colour_and_tensors(images):
    colour = torch.as_tensor(images).expand(-1, 3, -1, -1).clone()
    colour[:, 1:] = 0
    picture = figures.image_grid(colour, columns=4)
    assert (picture[2:11, 2:14, 0] == images[0, 0]).all() and not picture[2:11, 2:14, 1:].any()


@pytest.mark.parametrize(
    "wrong", [np.zeros((2, 1, 4, 4)), np.zeros((4, 4), np.uint8), np.zeros((0, 1, 4, 4), np.uint8)]
)
def test_grid_refuses_what_is_no_image_batch(wrong):
    with pytest.raises(ValueError, match="uint8"):
        figures.image_grid(wrong)


def test_png_is_whole_and_replaces_the_old_one(tmp_path, images):
    path = tmp_path / "new" / "grid.png"
    for columns in (4, 5):
        picture = figures.image_grid(images, columns)
        figures.save_png(path, picture)
        assert (np.asarray(Image.open(path)) == picture).all()
    with pytest.raises(TypeError):
        figures.save_png(path, np.zeros((3, 3), dtype=complex))
    assert [p.name for p in path.parent.iterdir()] == ["grid.png"]


def test_generation_figure_frames_flagged_images(images, tmp_path):
    flags = np.arange(20) % 7 == 0
    figure = figures.generation_figure(
        {"robust": images, "plain": images}, {"robust": "purity 0.98"}, {"plain": flags}, note="framed"
    )
    figure.savefig(tmp_path / "figure.png")
    assert patches(figure) == [0, flags.sum()]
    assert texts(figure) == ["robust", "purity 0.98", "plain"]
    assert [axes.get_images()[0].get_array().shape[0] for axes in figure.axes] == [2 + 2 * 11] * 2


def test_marks_must_match_the_images(images):
    with pytest.raises(ValueError, match="20 images need 20 marks"):
        figures.generation_figure({"robust": images}, flagged={"robust": np.zeros(3, bool)})


@pytest.mark.parametrize(
    "scores", [np.random.default_rng(0).normal(size=500), np.zeros(5), [np.nan, 1.0, np.inf]]
)
def test_histogram_counts_every_finite_score(scores, tmp_path):
    figure = score_histogram(scores, threshold=0.1)
    figure.savefig(tmp_path / "figure.png")
    heights = [bar.get_height() for bar in figure.axes[0].patches]
    assert sum(heights) == np.isfinite(scores).sum()


def test_histogram_separates_the_truth():
    figure = score_histogram([0.0, 1.0, 2.0], [True, False, False])
    assert [t.get_text() for t in figure.axes[0].get_legend().get_texts()] == ["inliers (2)", "outliers (1)"]


def test_curves_are_grouped_and_gaps_allowed(tmp_path):
    history = [
        {
            "epoch": 1,
            "loss": 1.0,
            "inliers": 9,
            "outliers": 1,
            "inlier_perplexity": 3.0,
            "outlier_dead_share": 0.1,
        },
        {"epoch": 2, "loss": 0.5, "inliers": 8, "outliers": 2, "seconds": 3.0},
    ]
    figure = curves_figure(history)
    figure.savefig(tmp_path / "figure.png")
    assert [axes.get_title(loc="left") for axes in figure.axes] == list(PANELS)
    assert [len(axes.lines) for axes in figure.axes] == [1, 2, 1, 1]
    assert list(figure.axes[0].lines[0].get_xdata()) == [1, 2]
    curves_figure([])


def test_planted_defects_are_where_their_masks_say():
    images = np.random.default_rng(0).integers(0, 256, (9, 3, 32, 24), dtype=np.uint8)
    planted = plant(images, 0)
    changed = (planted.images != images).any(1)
    assert planted.kinds.tolist() == ["spot", "scratch", "square"] * 3
    assert planted.masks.any((1, 2)).all() and (planted.masks <= changed).all()
    far = np.abs(planted.images.astype(int) - images).max(1) > VISIBLE
    assert np.array_equal(planted.masks, far)
    assert not plant(np.zeros((3, 1, 32, 32), np.uint8), 0).masks[2].any()  # black on black
