import warnings

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from data.recipes import load
from rvqvae.errors import InputError
from rvqvae.features.patch_dictionary import LearnedFeatures
from rvqvae.features.pretrained import extract_features, extract_views


def noise(n, channels=1, height=28, width=28, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, channels, height, width), dtype=np.uint8)


def unit(features):
    return features / np.linalg.norm(features, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def digits():
    x, y = load("mnist")
    return x[:2000, None], y[:2000]


@pytest.fixture(scope="module")
def learned(digits):
    return LearnedFeatures.fit(digits[0], seed=0)


@pytest.mark.parametrize("shape", [(50, 1, 28, 28), (50, 3, 8, 8), (3, 3, 256, 200), (1, 1, 9, 40)])
def test_any_size_grey_or_colour(shape):
    x = noise(*shape)
    features = extract_features(x, LearnedFeatures.fit(x, seed=0))
    assert features.shape == (len(x), 800) and features.dtype == np.float32
    assert np.isfinite(features).all() and features.std() > 0


def test_same_seed_same_features(digits, learned):
    again, other = (LearnedFeatures.fit(digits[0], seed=seed) for seed in (0, 1))
    x = digits[0][:20]
    np.testing.assert_array_equal(extract_features(x, again), extract_features(x, learned))
    assert not np.allclose(extract_features(x, other), extract_features(x, learned))


def test_fit_leaves_the_global_random_states_alone(digits):
    torch.manual_seed(0)
    before = np.random.get_state()[1].copy(), torch.get_rng_state()
    LearnedFeatures.fit(digits[0][:100], seed=3)
    np.testing.assert_array_equal(before[0], np.random.get_state()[1])
    assert torch.equal(before[1], torch.get_rng_state())


def test_alone_or_in_a_batch_in_any_order(digits, learned):
    x = digits[0][:13]
    together = extract_features(x, learned, batch_size=5)
    np.testing.assert_allclose(extract_features(x, learned, batch_size=1), together, atol=1e-5)
    np.testing.assert_allclose(extract_features(x[::-1].copy(), learned)[::-1], together, atol=1e-5)


def test_rebuilt_from_its_state(digits, learned, tmp_path):
    torch.save(learned.state_dict(), tmp_path / "state.pt")
    rebuilt = LearnedFeatures.from_state(torch.load(tmp_path / "state.pt", weights_only=True))
    x = digits[0][:20]
    np.testing.assert_array_equal(extract_features(x, rebuilt), extract_features(x, learned))


def test_matches_the_paper_patch_by_patch(digits, learned):
    """Coates, Lee and Ng 2011, written out for one image without convolutions."""
    x = torch.tensor(digits[0][:1, :, :16, :16])  # at the working size, so nothing is resized
    patches = torch.nn.functional.unfold(x.double(), 6)[0].T
    centred = patches - patches.mean(1, keepdim=True)
    contrast = (centred.square().mean(1, keepdim=True) + 10).sqrt()
    white = (centred / contrast) @ learned.whiten.flatten(1).double().T - learned.shift
    distance = torch.cdist(white, learned.codes.double())
    active = (distance.mean(1, keepdim=True) - distance).clamp(min=0).T.reshape(200, 11, 11)
    halves = slice(0, 6), slice(5, 11)  # 11 places fall into two halves that share the middle one
    expected = torch.stack([active[:, r, c].mean((1, 2)) for r in halves for c in halves], 1).flatten()
    np.testing.assert_allclose(learned(x)[0], expected, atol=1e-3)


def test_patches_are_whitened(digits, learned):
    x = torch.tensor(digits[0][:500, :, 6:22, 6:22])
    patches = torch.nn.functional.unfold(x.float(), 6).transpose(1, 2).flatten(0, 1)
    patches = patches - patches.mean(1, keepdim=True)
    patches = patches / (patches.square().mean(1, keepdim=True) + 10).sqrt()
    raw, white = (
        torch.linalg.eigvalsh(torch.cov(p.T))[5:] for p in (patches, patches @ learned.whiten.flatten(1).T)
    )
    assert white[-1] / white.median() < 0.2 * raw[-1] / raw.median()


def test_brightness_and_contrast_hardly_matter(digits, learned):
    x = digits[0][:50]
    pale = (60 + 0.5 * x.astype(np.float32)).round().astype(np.uint8)
    cosine = (unit(extract_features(x, learned)) * unit(extract_features(pale, learned))).sum(1)
    assert cosine.mean() > 0.95


@pytest.mark.parametrize("value", [0, 128, 255])
@pytest.mark.parametrize("channels", [1, 3])
def test_constant_images(value, channels):
    x = np.full((60, channels, 28, 28), value, np.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        learned = LearnedFeatures.fit(x, seed=0)
    assert np.isfinite(extract_features(x, learned)).all()
    assert all(np.isfinite(view).all() for view in extract_views(x, learned))


def test_constant_image_among_others(digits, learned):
    assert np.isfinite(extract_features(np.zeros_like(digits[0][:2]), learned)).all()


def test_knows_digits_better_than_pixels_and_than_a_random_dictionary(digits, learned):
    x, y = digits
    test_x, test_y = load("mnist", train=False)
    codes = torch.randn(learned.codes.shape, generator=torch.Generator().manual_seed(0))
    codes *= learned.codes.norm(dim=1).mean() / codes.norm(dim=1, keepdim=True)
    untrained = LearnedFeatures(learned.whiten, learned.shift, codes)

    def accuracy(describe):
        train, test = describe(x), describe(test_x[:, None])
        draws = [few_labels(y, seed) for seed in range(10)]
        return np.mean([KNeighborsClassifier(1).fit(train[i], y[i]).score(test, test_y) for i in draws])

    trained, random, pixels = (
        accuracy(describe)
        for describe in (
            lambda images: unit(extract_features(images, learned)),
            lambda images: unit(extract_features(images, untrained)),
            lambda images: images.reshape(len(images), -1) / 255.0,
        )
    )
    assert trained > random + 0.01 and trained > pixels + 0.04


def few_labels(y, seed, per_class=5):
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.choice(np.flatnonzero(y == c), per_class, replace=False) for c in range(10)])


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (noise(60).astype(np.float32), "uint8"),
        (noise(60)[:, 0], "learned from uint8"),
        (noise(60, 2), "1 or 3"),
        (noise(0), "none 0"),
    ],
)
def test_bad_images(x, message):
    with pytest.raises(InputError, match=message):
        LearnedFeatures.fit(x, seed=0)


def test_other_channels_than_in_the_fit(learned):
    with pytest.raises(InputError, match="learned from 1 channels"):
        extract_features(noise(2, 3), learned)


def test_foreign_state(learned):
    with pytest.raises(InputError, match="need codes, shift, whiten"):
        LearnedFeatures.from_state({"codes": learned.codes})
