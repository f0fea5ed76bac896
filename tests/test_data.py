import hashlib
import shutil
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data import prepare_samples, recipes
from pipelines import prepare_domains
from rvqvae.errors import InputError

IMAGES, LABELS = "raw/train-images-idx3-ubyte", "raw/train-labels-idx1-ubyte"


def write_idx(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    header = struct.pack(f">I{array.ndim}I", 0x800 + array.ndim, *array.shape)
    path.write_bytes(header + array.astype(np.uint8).tobytes())


@pytest.fixture
def root(tmp_path):
    """A made-up root in torchvision's layout: 60 training and 30 test images of three labels."""
    rng = np.random.default_rng(0)
    for name in ("MNIST", "FashionMNIST"):
        for half, n in (("train", 60), ("t10k", 30)):
            write_idx(
                tmp_path / f"root/{name}/raw/{half}-images-idx3-ubyte", rng.integers(0, 256, (n, 28, 28))
            )
            write_idx(tmp_path / f"root/{name}/raw/{half}-labels-idx1-ubyte", np.arange(n) % 3)
    return tmp_path / "root"


@pytest.mark.parametrize(
    ("name", "train", "per_class"),
    [
        ("mnist", True, 500),
        ("mnist", False, 100),
        ("fashion_mnist", True, 250),
        ("fashion_mnist", False, 100),
    ],
)
def test_committed_samples(name, train, per_class):
    x, y = recipes.load(name, train=train)
    assert x.shape == (10 * per_class, 28, 28) and x.dtype == np.uint8 and y.dtype == np.int64
    np.testing.assert_array_equal(np.bincount(y), np.full(10, per_class))
    assert len(np.unique(x.reshape(len(x), -1), axis=0)) > 0.99 * len(x)
    assert abs(x.mean() / 255 - (0.1307 if name == "mnist" else 0.2860)) < 0.005


def test_readme_names_every_sample_and_its_checksum():
    readme = (recipes.FOLDER / "README.md").read_text()
    files = {path.name for path in recipes.FOLDER.glob("*.npz")} - {"judge_table.npz"}
    assert files == set(recipes.SHA256) == set(recipes.SAMPLES.values()) == set(prepare_samples.PER_CLASS)
    for file, digest in recipes.SHA256.items():
        size = (recipes.FOLDER / file).stat().st_size
        assert any(file in line and digest in line and f"{size:,}" in line for line in readme.splitlines())


def test_damaged_or_missing_sample_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(recipes, "FOLDER", tmp_path)
    with pytest.raises(InputError, match=r"mnist_5000\.npz cannot be read"):
        recipes.load("mnist")
    np.savez_compressed(tmp_path / "mnist_5000.npz", x=np.zeros((1, 28, 28), np.uint8), y=[0])
    with pytest.raises(InputError, match=r"mnist_5000\.npz is damaged.*sha256"):
        recipes.load("mnist")


def test_full_sets_from_a_root(root):
    x, y = recipes.load("fashion_mnist", root=str(root))
    assert x.shape == (60, 28, 28) and x.dtype == np.uint8 and y.dtype == np.int64
    np.testing.assert_array_equal(y, np.arange(60) % 3)
    content = (root / "FashionMNIST" / IMAGES).read_bytes()
    assert x.tobytes() == content[16:]
    assert len(recipes.load("mnist", root, train=False)[0]) == 30


def test_missing_roots_and_names_are_refused(root, tmp_path):
    with pytest.raises(InputError, match=r"name='cifar'.*mnist, fashion_mnist"):
        recipes.load("cifar")
    with pytest.raises(InputError, match=r"none.*does not hold mnist.*train-images"):
        recipes.load("mnist", tmp_path / "none")
    (root / "MNIST/raw/t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(InputError, match="lacks t10k-labels-idx1-ubyte"):
        recipes.load("mnist", root)


@pytest.mark.parametrize("file", [IMAGES, LABELS])
@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:3],
        lambda data: data[:8],
        lambda data: data[:-10],
        lambda data: data + b"more",
        lambda data: b"\x1f\x8b\x08\x00" + data[4:],  # still gzipped
        lambda data: b"\x00\x00\x0d" + data[3:],  # float, not uint8
        lambda data: data[:4] + struct.pack(">I", 59) + data[8:],
    ],
)
def test_damaged_idx_files_are_refused(root, file, damage):
    path = root / "MNIST" / file
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match=r"damaged.*fetch them again"):
        recipes.load("mnist", root)


def test_images_without_their_labels_are_refused(root):
    write_idx(root / "MNIST" / LABELS, np.zeros(59))
    with pytest.raises(InputError, match=r"damaged.*do not match"):
        recipes.load("mnist", root)


def test_samples_are_rebuilt_byte_for_byte(root, tmp_path, monkeypatch):
    monkeypatch.setattr(prepare_samples, "PER_CLASS", dict.fromkeys(prepare_samples.PER_CLASS, 5))
    first = prepare_samples.prepare(root, tmp_path / "a")
    assert first == prepare_samples.prepare(root, tmp_path / "b")
    assert first == {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in (tmp_path / "a").iterdir()
    }
    x, y = recipes.load("mnist", root)
    with np.load(tmp_path / "a" / "mnist_5000.npz") as sample:
        rows = prepare_samples.draw(y, 5)
        np.testing.assert_array_equal(sample["x"], x[rows])
        np.testing.assert_array_equal(np.bincount(sample["y"]), [5, 5, 5])


def test_command_prints_checksums_or_one_line(root, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(prepare_samples, "PER_CLASS", dict.fromkeys(prepare_samples.PER_CLASS, 5))
    monkeypatch.setattr(sys, "argv", ["prepare_samples", "--root", str(root), "--out", str(tmp_path / "out")])
    prepare_samples.main()
    digest = hashlib.sha256((tmp_path / "out/mnist_5000.npz").read_bytes()).hexdigest()
    assert f"{digest}  mnist_5000.npz" in capsys.readouterr().out
    shutil.rmtree(root)
    with pytest.raises(SystemExit, match="2"):
        prepare_samples.main()
    assert "does not hold mnist" in capsys.readouterr().err


def test_a_domain_of_pictures(tmp_path, monkeypatch):
    folder = tmp_path / "package" / "birds"
    folder.mkdir(parents=True)
    for shade in (10, 10, 90, 200):  # two of them equal
        picture = np.full((20, 30, 4), shade, np.uint8)
        picture[5:15, 5:15], picture[..., 3] = 255 - shade, 255
        picture[:2, :, 3] = 0
        Image.fromarray(picture).save(folder / f"{len(list(folder.iterdir()))}.png")
    Image.fromarray(np.zeros((20, 20), np.uint8)).save(folder / "blank.png")
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(folder / "small.png")
    (folder / "broken.png").write_bytes(b"no picture")
    pictures = prepare_domains.Pictures(("package/**/*.png",), side=16)
    monkeypatch.setitem(prepare_domains.DOMAINS, "birds", pictures)
    images, kinds = prepare_domains.domain("birds", tmp_path)
    assert images.shape == (3, 16, 16, 3) and images.dtype == np.uint8
    assert (images[:, 0] == 255).all()  # padded, and transparent, is white
    assert kinds.tolist() == [0, 0, 0]
    again, _ = prepare_domains.domain("birds", tmp_path)
    assert (again == images).all()


def test_tiles_of_a_picture(tmp_path):
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (130, 200, 3)).astype(np.uint8)
    Image.fromarray(picture).save(tmp_path / "large.png")
    tiles = prepare_domains.Tiles(("*.png",), each=4, least=100)
    drawn = list(tiles(tmp_path, rng))
    whole = {(x, y): picture[y : y + 64, x : x + 64] for x in (0, 64, 128) for y in (0, 64)}
    assert len(drawn) == 4 and {kind for _, kind in drawn} == {"large"}
    assert all(any((np.asarray(tile) == part).all() for part in whole.values()) for tile, _ in drawn)


def test_no_picture_where_no_package_is(tmp_path):
    with pytest.raises(SystemExit, match=r"faces.*--list"):
        prepare_domains.domain("faces", tmp_path)
