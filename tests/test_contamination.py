import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from rvqvae.contamination import contaminate
from rvqvae.errors import InputError

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
