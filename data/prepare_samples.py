"""Rebuild the committed samples from the full sets, and print their sha256.

    python -m data.prepare_samples --root FOLDER_WITH_MNIST_AND_FASHION_MNIST [--out data]

The bytes repeat exactly with the same zlib; another build may compress the same arrays differently.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data.recipes import FOLDER, SAMPLES, load
from rvqvae.errors import InputError

SEED = 0
PER_CLASS = {
    "mnist_5000.npz": 500,
    "mnist_test_1000.npz": 100,
    "fashion_mnist_2500.npz": 250,
    "fashion_mnist_test_1000.npz": 100,
}


def draw(y: NDArray[np.int64], per_class: int, seed: int = SEED) -> NDArray[np.int64]:
    """Return sorted indices of `per_class` random rows of each label in `y` (N,)."""
    rng = np.random.default_rng(seed)
    rows = [rng.choice(np.flatnonzero(y == label), per_class, replace=False) for label in np.unique(y)]
    return np.sort(np.concatenate(rows))


def prepare(root: Path, out: Path) -> dict[str, str]:
    """Write the four samples to the folder `out`; return the sha256 of each file."""
    out.mkdir(parents=True, exist_ok=True)
    digests = {}
    for (name, train), file_name in SAMPLES.items():
        x, y = load(name, root, train)
        rows = draw(y, PER_CLASS[file_name])
        np.savez_compressed(out / file_name, x=x[rows], y=y[rows])
        digests[file_name] = hashlib.sha256((out / file_name).read_bytes()).hexdigest()
    return digests


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, required=True, help="folder in torchvision's layout")
    parser.add_argument("--out", type=Path, default=FOLDER, help="where to write (default: this folder)")
    arguments = parser.parse_args()
    try:
        digests = prepare(arguments.root, arguments.out)
    except InputError as error:
        parser.error(str(error))
    for file_name, digest in digests.items():
        print(f"{digest}  {file_name}")


if __name__ == "__main__":
    main()
