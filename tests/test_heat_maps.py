"""Heat maps: distances of patches, and the scale that inliers set."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from rvqvae.vqvae.heat_maps import BATCH, HeatMaps, _places


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (40, 1, 16, 12), dtype=np.uint8)


@pytest.fixture(scope="module")
def maps(images):
    return HeatMaps.fit(images, 0)


def test_patches_are_as_far_as_the_nearest_place(images, maps):
    """The twin: every place beside every other, in double precision."""
    found = maps(images[:3]) * float(maps.usual)
    places = (_places(images[:3], torch.device("cpu")) / maps.scale).double()
    far = (places[..., None, :] - maps.places.double()).norm(dim=-1).amin(-1)[:, None]
    whole = F.interpolate(far, (16, 12), mode="bilinear", align_corners=False)[:, 0]
    np.testing.assert_allclose(found, whole, atol=0.02)  # of places that were learned, 0 but for rounding


def test_the_scale_is_what_inliers_stay_below(images, maps):
    shown = maps(images)
    assert shown.shape == (40, 16, 12) and shown.dtype == np.float32 and (shown >= 0).all()
    assert (shown > 1).mean() < 0.03


def test_a_map_depends_on_its_image_alone(images, maps):
    whole = maps(images[: BATCH + 3])
    np.testing.assert_allclose(maps(images[BATCH : BATCH + 3]), whole[BATCH:], atol=0.02)


def test_a_handful_of_inliers_is_enough(images):
    for n in (1, 2):
        assert np.isfinite(HeatMaps.fit(images[:n], 0)(images[:4])).all()
