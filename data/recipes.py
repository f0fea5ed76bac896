"""MNIST and Fashion-MNIST: the small committed samples, or the full sets from a torchvision folder."""

from __future__ import annotations

import hashlib
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torchvision import datasets

from rvqvae.errors import InputError

FOLDER = Path(__file__).parent
SAMPLES = {
    ("mnist", True): "mnist_5000.npz",
    ("mnist", False): "mnist_test_1000.npz",
    ("fashion_mnist", True): "fashion_mnist_2500.npz",
    ("fashion_mnist", False): "fashion_mnist_test_1000.npz",
}
SHA256 = {
    "mnist_5000.npz": "ffc81c7501a162ac770d319276f12df169b808da2b2043d0469bfbc7b78c3aee",
    "mnist_test_1000.npz": "b3f3ec65a1fa10ca4c44a1df4489edfdc224eb5801fe5f4bf263e26d89a0e96a",
    "fashion_mnist_2500.npz": "468808cb1dd8bae5046481aa94b55d6e444b2042d410ed951c0dc7e5c7c528e2",
    "fashion_mnist_test_1000.npz": "6472bdb5e41f7a46ae8ec2f5f00de841c73932cbb040169ce70f5cd4dd66ae51",
}
_CLASSES = {"mnist": datasets.MNIST, "fashion_mnist": datasets.FashionMNIST}


def load(
    name: str, root: str | Path | None = None, train: bool = True
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return images x, uint8 (N,28,28), and labels y, int64 (N,), of ``mnist`` or ``fashion_mnist``.

    Without `root`, the committed sample of the training or test half; with it, the whole half from
    torchvision's folder layout (``root/MNIST/raw/...``), nothing is downloaded. InputError for an
    unknown name, and for missing or damaged files.
    """
    if name not in _CLASSES:
        raise InputError(f"name={name!r} is not a data set: choose from {', '.join(_CLASSES)}")
    return _load_sample(SAMPLES[name, train]) if root is None else _load_full(name, Path(root), train)


def _load_sample(file_name: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    path = FOLDER / file_name
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}: check the sample out again") from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != SHA256[file_name]:
        raise InputError(
            f"{path} is damaged: its sha256 is {digest}, not {SHA256[file_name]}: check it out again"
        )
    with np.load(BytesIO(content), allow_pickle=False) as arrays:
        return arrays["x"], arrays["y"]


def _load_full(name: str, root: Path, train: bool) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    dataset_class = _CLASSES[name]
    raw = root / dataset_class.__name__ / "raw"
    needed = [
        raw / f"{half}-{kind}-ubyte" for half in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")
    ]
    missing = [file.name for file in needed if not file.is_file()]
    if missing:
        raise InputError(
            f"root={str(root)!r} does not hold {name} as torchvision stores it: {raw} lacks "
            + ", ".join(missing)
        )
    try:
        dataset = dataset_class(root, train=train, download=False)
        x, y = dataset.data.numpy(), dataset.targets.numpy()
        if len(x) != len(y) or x.shape[1:] != (28, 28):
            raise ValueError(f"images of shape {x.shape} and labels of shape {y.shape} do not match")
    except Exception as error:
        # torchvision's idx reader raises assertions, ValueError, RuntimeError, KeyError... on damaged files.
        reason = str(error) or type(error).__name__
        raise InputError(f"the files in {raw} are damaged ({reason}): fetch them again") from error
    return x, y
