"""Groups that are foreign to the majority: two codebooks of small patches compete for each pair of groups.

Ours. The data fall into many small groups in feature space; those groups are nearly pure, but distance does
not tell which of them belong together (shoes lie as far from shirts as digits do). What tells is whether one
group's codebook of local patches can stand in for another's: shoes and shirts are drawn with the same strokes
and surfaces, digits and shirts are not. The log ratio of the coding errors, foreign codebook over own, taken
in the kinder of the two directions (a simple group is always coded well by a rich one, never the reverse),
links groups into parts; the part that holds the majority is the inliers', the rest is foreign.

Colour images are coded by their brightness, stretched to its full range image by image: coded in colour, a
codebook tells hues, not strokes (clothes among digits in random hues, rates .1 to .45: AUROC .05 to .24 in
colour, .998 to .999 so). Grey ones are coded as they are: stretched, they lose what sets clothes apart
(digits among clothes, rate .05: .918 against .999).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import MiniBatchKMeans

from rvqvae.membership.groups import Vector, cluster, members, part_from_majority

PATCH = 3
CODES = 32
IMAGES = 150
"""Images of a group that train, and others that test, its codebook."""
PATCHES = 30
"""Patches of an image."""
FLAT = 0.05
"""Patches with a smaller standard deviation (of 1) hold nothing to tell groups apart."""
SMALLEST = 16
"""A group with fewer images cannot carry a codebook."""
GROUPS = 20
REPEATS = 20
PER_GROUP = 120
"""Images to a group in small sets: with 80 the codebooks of 1,500 images are too poor to tell (.165 against
.115), with 120 they are not (.265 against .137; 800 images: .254 against .152); 400 images are too few.
"""
MOST = 0.45
"""Share of the data that counts as the majority: a group of its own may have parted before the outliers do.

With one half, 900 digits among 1,100 clothes go unseen in one draw of two, as bags part first (mean gap over
LINK: outliers .93, inliers at most .33; with .45: 1.12 and .54).
"""
LINK = 0.20
"""Above this mean gap a group is foreign.

Measured over 3 seeds at N up to 4,000, 8 clusterings: between MNIST, Fashion-MNIST and noise at rates
.05 to .45 the mean gap of the outliers is .228 to .72; of the classes of a clean set at most .143 (the
digit 1, trousers), of single classes with others as outliers at most .06. One clustering strays by .07, so
with 10 the digit 1 was once called foreign; with 20, in 27 sets of 1,500 to 10,000 images, nothing was.
With 4 x 4 patches, other numbers of codes or groups, the mean of both directions, or average linkage, the
two ranges overlap.
"""
LINK_COLOUR = 0.16
"""The same for stretched brightness: outliers .18 to .27, digits and clothes in random hues at most .12."""


def foreignness(images: NDArray[np.uint8], z: NDArray[np.floating], seed: int) -> Vector:
    """(N,) gap between the majority and an image's group, averaged over REPEATS clusterings, over the limit.

    ``images`` uint8 (N, C, H, W), ``z`` (N, d). Above 1 the image is foreign. One clustering errs now and
    then, when a group is mixed or its codebook poor; their mean seldom does.
    """
    limit = LINK if images.shape[1] == 1 else LINK_COLOUR
    return np.mean([_gaps(images, z, seed + 1000 * i) for i in range(REPEATS)], axis=0) / limit


def brightness(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Colour (N, 3, H, W) to its luma (N, 1, H, W), stretched between the 2nd and 98th percentile of each."""
    luma = np.einsum("c,nchw->nhw", np.array([0.299, 0.587, 0.114], np.float32), images)[:, None]
    low, high = np.percentile(luma, np.array([2.0, 98.0]), axis=(2, 3), keepdims=True)
    # A range below 16 levels is noise rather than contrast.
    return (np.clip((luma - low) / np.maximum(high - low, 16), 0, 1) * 255).astype(np.uint8)


def _gaps(images: NDArray[np.uint8], z: NDArray[np.floating], seed: int) -> Vector:
    """(N,) height in the single-linkage tree of groups at which an image parts from the majority."""
    k = int(np.clip(len(z) // PER_GROUP, 2, GROUPS))
    labels, _ = cluster(z, k, seed)
    kept, rows = members(labels, k, SMALLEST)
    gap = np.zeros(k)
    if len(kept) >= 2:
        mass = np.array([len(r) for r in rows])
        gap[kept], _ = part_from_majority(patch_gap(images, rows, seed), mass, len(z), MOST)
    return gap[labels]


def patch_gap(images: NDArray[np.uint8], members: list[NDArray[np.int64]], seed: int) -> Vector:
    """(G, G) log ratio of coding errors, foreign codebook over own, in the kinder direction; 0 = the same."""
    rng = np.random.default_rng(seed)
    tests, books = [], []
    for rows in members:
        rows = rng.permutation(rows)
        half = len(rows) // 2
        train, test = (_patches(images[r[:IMAGES]], rng) for r in (rows[:half], rows[half:]))
        size = max(1, min(CODES, len(train) // 3))
        book = MiniBatchKMeans(size, n_init=1, random_state=seed, batch_size=2048, max_iter=20).fit(train)
        tests.append(test)
        books.append(book.cluster_centers_)
    error = np.array([[_coding_error(test, book) for book in books] for test in tests])
    ratio = np.log(error / error.diagonal()[:, None])
    return np.asarray(np.maximum(np.minimum(ratio, ratio.T), 0))


def _patches(images: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.float32]:
    """Random patches with some contrast, (P, PATCH * PATCH) in [0, 1]; all of them where none has any."""
    images = images if images.shape[1] == 1 else brightness(images)
    windows = np.lib.stride_tricks.sliding_window_view(images, (PATCH, PATCH), axis=(2, 3))
    n, _, rows, columns = windows.shape[:4]
    where = (
        np.arange(n)[:, None],
        slice(None),
        rng.integers(0, rows, (n, PATCHES)),
        rng.integers(0, columns, (n, PATCHES)),
    )
    patches = windows[where].reshape(n * PATCHES, -1).astype(np.float32) / 255
    lively = patches.std(1) > FLAT
    return np.asarray(patches[lively] if lively.sum() >= 3 * SMALLEST else patches)


def _coding_error(patches: NDArray[np.float32], book: NDArray[np.float32]) -> float:
    nearest = (2 * patches @ book.T - np.square(book).sum(1)).max(1)
    return float(np.maximum(np.square(patches).sum(1) - nearest, 0).mean()) + 1e-6
