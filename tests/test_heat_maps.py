"""Heat maps: distances of patches, and the scale that inliers set."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from rvqvae.config import ModelConfig
from rvqvae.vqvae.heat_maps import BATCH, HeatMaps, _places
from rvqvae.vqvae.inference import error_maps
from rvqvae.vqvae.model import TwoCodebookVQVAE


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return TwoCodebookVQVAE((1, 16, 12), ModelConfig(channels=4, inlier_codes=8)).eval()


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (40, 1, 16, 12), dtype=np.uint8)


@pytest.fixture(scope="module")
def maps(model, images):
    return HeatMaps.fit(model, images, 0)


def test_patches_are_as_far_as_the_nearest_place(model, images, maps):
    """The twin: every place beside every other, in double precision."""
    errors, found = maps.parts(model, images[:3])
    places = (_places(images[:3], torch.device("cpu")) / maps.scale).double()
    far = (places[..., None, :] - maps.places.double()).norm(dim=-1).amin(-1)[:, None]
    whole = F.interpolate(far, (16, 12), mode="bilinear", align_corners=False)[:, 0]
    np.testing.assert_allclose(found, whole, atol=0.02)  # of places that were learned, 0 but for rounding
    np.testing.assert_array_equal(errors, error_maps(model, images[:3]))


def test_the_scale_is_what_inliers_stay_below(model, images, maps):
    parts = [part / float(usual) for part, usual in zip(maps.parts(model, images), maps.usual, strict=True)]
    shown = maps(model, images)
    np.testing.assert_allclose(shown, np.maximum(*parts), rtol=1e-6)
    assert shown.shape == (40, 16, 12) and shown.dtype == np.float32 and (shown >= 0).all()
    assert (shown > 1).mean() < 0.03


def test_a_map_depends_on_its_image_alone(model, images, maps):
    whole = maps(model, images[: BATCH + 3])
    np.testing.assert_allclose(maps(model, images[BATCH : BATCH + 3]), whole[BATCH:], atol=0.02)


def test_a_handful_of_inliers_is_enough(model, images):
    for n in (1, 2):
        assert np.isfinite(HeatMaps.fit(model, images[:n], 0)(model, images[:4])).all()
