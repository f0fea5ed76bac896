"""Groups that are foreign to the majority: two codebooks of small patches compete for each pair of groups.

Ours. The data fall into many small groups in feature space; those groups are nearly pure, but distance does
not tell which of them belong together (shoes lie as far from shirts as digits do). What tells is whether one
group's codebook of local patches can stand in for another's: shoes and shirts are drawn with the same strokes
and surfaces, digits and shirts are not. The log ratio of the coding errors, foreign codebook over own, taken
in the kinder of the two directions (a simple group is always coded well by a rich one, never the reverse),
links groups into parts; the part that holds the majority is the inliers', the rest is foreign.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import linkage, to_tree
from scipy.spatial.distance import squareform
from sklearn.cluster import KMeans, MiniBatchKMeans

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
LINK = 0.20
"""Above this mean gap a group is foreign.

Measured over 3 seeds at N up to 4,000, 8 clusterings: between MNIST, Fashion-MNIST and noise at rates
.05 to .45 the mean gap of the outliers is .228 to .72; of the classes of a clean set at most .143 (the
digit 1, trousers), of single classes with others as outliers at most .06. One clustering strays by .07, so
with 10 the digit 1 was once called foreign; with 20, in 27 sets of 1,500 to 10,000 images, nothing was.
With 4 x 4 patches, other numbers of codes or groups, the mean of both directions, or average linkage, the
two ranges overlap.
"""


def cluster(z: NDArray[np.floating], k: int, seed: int) -> NDArray[np.int64]:
    """k-means labels (N,) of ``z`` (N, d)."""
    method = KMeans if len(z) <= 20_000 else MiniBatchKMeans
    return method(k, n_init=1, random_state=seed).fit_predict(z).astype(np.int64)


def foreignness(images: NDArray[np.uint8], z: NDArray[np.floating], seed: int) -> NDArray[np.float64]:
    """(N,) gap between the majority and an image's group, averaged over REPEATS clusterings of ``z`` (N, d).

    ``images`` uint8 (N, C, H, W). Above LINK the image is foreign. One clustering errs now and then, when a
    group is mixed or its codebook poor; their mean seldom does.
    """
    return np.mean([_gaps(images, z, seed + 1000 * i) for i in range(REPEATS)], axis=0)


def _gaps(images: NDArray[np.uint8], z: NDArray[np.floating], seed: int) -> NDArray[np.float64]:
    """(N,) height in the single-linkage tree of groups at which an image parts from the majority."""
    k = int(np.clip(len(z) // PER_GROUP, 2, GROUPS))
    labels = cluster(z, k, seed)
    counts = np.bincount(labels, minlength=labels.max() + 1)
    kept = np.flatnonzero(counts >= SMALLEST)
    gap = np.zeros(len(counts))
    if len(kept) >= 2:
        affinity = patch_affinity(images, [np.flatnonzero(labels == g) for g in kept], seed)
        root = to_tree(linkage(squareform(affinity, checks=False), "single"))
        mass = counts[kept]
        while not root.is_leaf():
            parts = [np.array(side.pre_order()) for side in (root.left, root.right)]
            smaller, larger = sorted((0, 1), key=lambda i: mass[parts[i]].sum())
            # Where neither side holds most images, no side is foreign to a majority.
            if mass[parts[larger]].sum() <= 0.5 * len(z):
                break
            gap[kept[parts[smaller]]] = root.dist
            root = (root.left, root.right)[larger]
    return gap[labels]


def patch_affinity(
    images: NDArray[np.uint8], members: list[NDArray[np.int64]], seed: int
) -> NDArray[np.float64]:
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
    """Random patches with some contrast, (P, C * PATCH * PATCH) in [0, 1]; all of them where none has any."""
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
