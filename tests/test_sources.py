import hashlib
import io
import os
import random
import re
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

import rvqvae
from rvqvae.errors import InputError
from rvqvae.io.duplicates import near_duplicates
from rvqvae.io.ledger import Entry
from rvqvae.io.pictures import BACKGROUND
from rvqvae.io.reading import Inventory, read_source

ROOT = Path(__file__).parents[1]
RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (4, 10, 12), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (4, 10, 12, 3), dtype=np.uint8)


def encode(array: np.ndarray | Image.Image, format: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    picture = array if isinstance(array, Image.Image) else Image.fromarray(array)
    picture.save(buffer, format, **options)
    return buffer.getvalue()


def save(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def by_path(inventory: Inventory) -> dict[str, Entry]:
    return {entry.path: entry for entry in inventory.entries}


def snapshot(folder: Path) -> dict[str, tuple]:
    return {
        str(path): (path.lstat().st_mtime_ns, path.read_bytes() if path.is_file() else None)
        for path in sorted(folder.rglob("*"))
    }


def equal(one: Inventory, other: Inventory) -> bool:
    return (
        one.entries == other.entries
        and one.side == other.side
        and np.array_equal(one.images, other.images)
        and np.array_equal(one.rows, other.rows)
    )


def huge_png(side: int) -> bytes:
    """A PNG whose header tells of more pixels than anyone would decode."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"0"))
        + chunk(b"IEND", b"")
    )


def test_entries_images_and_rows_belong_together(tmp_path):
    save(tmp_path / "b.png", encode(GREY[1]))
    save(tmp_path / "a" / "c.png", encode(GREY[0]))
    save(tmp_path / "aa.png", b"garbage")
    save(tmp_path / "metadata.csv", b"file_name,label\n")
    inventory = read_source(tmp_path)
    assert [entry.path for entry in inventory.entries] == ["a/c.png", "aa.png", "b.png"]
    assert [entry.status for entry in inventory.entries] == ["ok", "unreadable", "ok"]
    assert inventory.entries[0].sha256 == hashlib.sha256(encode(GREY[0])).hexdigest()
    np.testing.assert_array_equal(inventory.images, GREY[:2, None])
    np.testing.assert_array_equal(inventory.rows, [0, 2])
    assert inventory.side == ((10, 12), 1, None)


def test_one_image(tmp_path):
    save(tmp_path / "a.png", encode(COLOUR[0]))
    inventory = read_source(tmp_path)
    np.testing.assert_array_equal(inventory.images, COLOUR[:1].transpose(0, 3, 1, 2))
    assert len(inventory.entries) == 1


BAD = {
    "empty.png": (b"", "it is empty"),
    "garbage.jpg": (b"not a picture", "not an image"),
    "text.gif": ("<html>é</html>".encode(), "not an image"),
    "truncated.png": (encode(GREY[0])[:-40], "."),
    "truncated.jpg": (encode(np.tile(COLOUR[0], (9, 9, 1)), "JPEG")[:900], "truncated"),
    "truncated.webp": (encode(COLOUR[0], "WEBP", lossless=True)[:-99], "."),
    "damaged.png": (encode(GREY[0]).replace(b"IDAT", b"IDAX"), "."),
    "bomb.png": (huge_png(30_000), "900,000,000 pixels.*RVQVAE_MAX_PIXELS=900000000"),
    "large.png": (huge_png(12_000), "144,000,000 pixels.*limit of 89,478,485"),
    "small.png": (encode(np.zeros((7, 30), np.uint8)), "height 7 and width 30 must be at least 8"),
    "float.tiff": (encode(np.full((10, 10), np.nan, np.float32), "TIFF"), "not finite numbers"),
    "script.png": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 50 50\n", "not an image"),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("archived", [False, True])
def test_bad_files_are_named_and_the_rest_is_read(tmp_path, name, archived):
    content, reason = BAD[name]
    save(tmp_path / "in" / "good.png", encode(GREY[0]))
    save(tmp_path / "in" / name, content)
    source = tmp_path / "in"
    if archived:
        source = tmp_path / "in.zip"
        with zipfile.ZipFile(source, "w") as archive:
            for file in (tmp_path / "in").iterdir():
                archive.write(file, file.name)
    inventory = read_source(source)
    bad = by_path(inventory)[name]
    assert bad.status == "unreadable"
    assert bad.sha256 == ("" if not content else hashlib.sha256(content).hexdigest())
    assert re.search(reason, bad.reason)
    assert "\n" not in bad.reason
    np.testing.assert_array_equal(inventory.images, GREY[:1, None])


def test_what_cannot_be_opened_is_named(tmp_path, monkeypatch):
    save(tmp_path / "good.png", encode(GREY[0]))
    save(tmp_path / "secret.png", encode(GREY[1]))
    save(tmp_path / "closed" / "a.png", encode(GREY[2]))
    (tmp_path / "nowhere.png").symlink_to("absent")
    (tmp_path / "itself.png").symlink_to("itself.png")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    scandir = os.scandir

    def refuse(path, *rest):
        if "secret" in str(path) or "closed" in str(path):
            raise PermissionError(13, "Permission denied", str(path))
        return (scandir if not rest else io.open)(path, *rest)

    # The test may run as root, whom no permission stops.
    monkeypatch.setattr("rvqvae.io.sources.open", refuse, raising=False)
    monkeypatch.setattr("rvqvae.io.sources.os.scandir", refuse)
    entries = by_path(read_source(tmp_path))
    assert {path: entry.reason for path, entry in entries.items()} == {
        "closed/": "the folder cannot be listed",
        "good.png": "",
        "itself.png": os.strerror(40),
        "nowhere.png": "No such file or directory",
        "pipe.png": "it is not a regular file",
        "secret.png": "Permission denied",
    }
    assert {path for path, entry in entries.items() if entry.status == "ok"} == {"good.png"}
    assert not entries["secret.png"].sha256


def test_links_are_followed_once(tmp_path):
    save(tmp_path / "in" / "real" / "a.png", encode(GREY[0]))
    save(tmp_path / "outside" / "b.png", encode(GREY[1]))
    (tmp_path / "in" / "real" / "loop").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "alias").symlink_to("real")
    (tmp_path / "in" / "beyond").symlink_to(tmp_path / "outside")
    (tmp_path / "outside" / "back").symlink_to(tmp_path / "outside")
    (tmp_path / "in" / "file.png").symlink_to(tmp_path / "outside" / "b.png")
    inventory = read_source(tmp_path / "in", deduplicate=False)
    assert [entry.path for entry in inventory.entries] == ["beyond/b.png", "file.png", "real/a.png"]
    assert len(inventory.images) == 3


def test_content_counts_not_the_suffix(tmp_path):
    save(tmp_path / "a.jpg", encode(GREY[0]))
    save(tmp_path / "without", encode(GREY[1]))
    save(tmp_path / ".hidden" / "b.png", encode(GREY[2]))
    save(tmp_path / "__MACOSX" / "b.png", encode(GREY[2]))
    inventory = read_source(tmp_path)
    assert [(entry.path, entry.status) for entry in inventory.entries] == [("a.jpg", "ok")]


def test_modes(tmp_path):
    clear = np.zeros((10, 12, 4), np.uint8)
    save(tmp_path / "cmyk.jpg", encode(Image.fromarray(COLOUR[0]).convert("CMYK"), "JPEG", quality=100))
    save(tmp_path / "clear.png", encode(clear))
    save(tmp_path / "bits.png", encode(Image.fromarray(GREY[0] > 99)))
    save(tmp_path / "deep.png", encode(GREY[1].astype(np.uint16) * 257))
    save(
        tmp_path / "two.gif",
        encode(Image.fromarray(GREY[2]), "GIF", save_all=True, append_images=[Image.new("L", (12, 10))]),
    )
    inventory = read_source(tmp_path)
    images = dict(zip(by_path(inventory), inventory.images, strict=True))
    assert inventory.images.shape == (5, 3, 10, 12)
    assert (images["clear.png"] == BACKGROUND).all()
    np.testing.assert_array_equal(images["bits.png"][2], 255 * (GREY[0] > 99))
    np.testing.assert_array_equal(images["deep.png"][1], GREY[1])
    np.testing.assert_array_equal(images["two.gif"][0], GREY[2])
    assert np.abs(images["cmyk.jpg"].transpose(1, 2, 0).astype(int) - COLOUR[0]).mean() < 30


def test_colour_only_if_a_pixel_is(tmp_path):
    for i in range(40):  # More than are looked at one by one.
        save(tmp_path / f"{i:02}.png", encode(np.repeat(RNG.integers(0, 256, (10, 12, 1), np.uint8), 3, 2)))
    assert read_source(tmp_path).side.channels == 1
    assert read_source(tmp_path, channels=3).images.shape[1] == 3
    save(tmp_path / "99.png", encode(COLOUR[0]))
    assert read_source(tmp_path).side.channels == 3
    assert read_source(tmp_path, channels=1).images.shape[1] == 1


@pytest.mark.parametrize(
    ("shapes", "side"),
    [
        ([(30, 20), (30, 20)], (30, 20)),
        ([(64, 64)], (64, 64)),
        ([(64, 65)], (64, 64)),
        ([(30, 20), (20, 30)], (64, 64)),
        ([(500, 900)], (64, 64)),
    ],
)
def test_default_size(tmp_path, shapes, side):
    for i, shape in enumerate(shapes):
        save(tmp_path / f"{i}.png", encode(RNG.integers(0, 256, shape, np.uint8)))
    assert read_source(tmp_path).images.shape[2:] == side
    assert read_source(tmp_path, size=16).images.shape[2:] == (16, 16)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_rotated_pictures_keep_their_upright_size(tmp_path, format):
    exif = Image.Exif()
    exif[0x0112] = 6
    save(tmp_path / f"a.{format.lower()}", encode(np.zeros((10, 12), np.uint8), format, exif=exif))
    assert read_source(tmp_path).side.size == (12, 10)


def test_damaged_exif_does_not_spoil_a_picture(tmp_path):
    save(tmp_path / "a.png", encode(GREY[0], exif=b"Exif\0\0nonsense"))
    np.testing.assert_array_equal(read_source(tmp_path).images[0, 0], GREY[0])


def test_later_images_are_decoded_alike(tmp_path):
    save(tmp_path / "one" / "a.png", encode(GREY[0]))
    save(tmp_path / "two" / "a.png", encode(np.tile(COLOUR[0], (3, 3, 1))))
    side = read_source(tmp_path / "one").side
    later = read_source(tmp_path / "two", **side._asdict())
    assert later.side == side
    assert later.images.shape == (1, 1, 10, 12)


def test_exact_duplicates(tmp_path):
    save(tmp_path / "b.png", encode(GREY[0]))
    save(tmp_path / "c" / "copy.png", encode(GREY[0]))
    save(tmp_path / "d.bmp", encode(np.repeat(GREY[0][..., None], 3, 2), "BMP"))  # other bytes, same pixels
    save(tmp_path / "e.bmp", encode(np.repeat(GREY[0][..., None], 3, 2), "BMP"))
    save(tmp_path / "f.png", encode(GREY[1]))
    for name in ("g.png", "h.png"):
        save(tmp_path / name, encode(GREY[2])[:-40])
    inventory = read_source(tmp_path)
    assert [(entry.path, entry.status) for entry in inventory.entries] == [
        ("b.png", "ok"), ("c/copy.png", "duplicate"), ("d.bmp", "duplicate"), ("e.bmp", "duplicate"),
        ("f.png", "ok"), ("g.png", "unreadable"), ("h.png", "unreadable"),
    ]  # fmt: skip
    assert {e.reason for e in inventory.entries if e.status == "duplicate"} == {"exact duplicate of b.png"}
    assert inventory.entries[5].reason == inventory.entries[6].reason
    np.testing.assert_array_equal(inventory.images, GREY[:2, None])
    everything = read_source(tmp_path, deduplicate=False)
    assert [entry.status for entry in everything.entries] == ["ok"] * 5 + ["unreadable"] * 2
    assert not any("duplicate" in entry.reason for entry in everything.entries)


def test_large_pictures_that_differ_in_a_pixel_are_not_exact_duplicates(tmp_path):
    large = np.tile(GREY[0], (40, 40))
    save(tmp_path / "a.png", encode(large))
    large[200, 200] ^= 1
    save(tmp_path / "b.png", encode(large))
    inventory = read_source(tmp_path)
    assert [entry.status for entry in inventory.entries] == ["ok", "ok"]
    assert inventory.entries[1].reason == "near duplicate of a.png"


def test_photos_compressed_or_resized_are_near_duplicates(tmp_path):
    for i, photo in enumerate(load_sample_images().images):
        picture = Image.fromarray(photo)
        save(tmp_path / f"{i}-a.png", encode(picture))
        save(tmp_path / f"{i}-b.jpg", encode(picture, "JPEG", quality=90))
        save(tmp_path / f"{i}-c.jpg", encode(picture.resize((320, 213)), "JPEG", quality=90))
        save(tmp_path / f"{i}-d.png", encode(picture.resize((900, 600))))
        save(tmp_path / f"{i}-e.png", encode(picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)))
    inventory = read_source(tmp_path)
    assert {entry.status for entry in inventory.entries} == {"ok"}
    assert [entry.reason for entry in inventory.entries] == [
        reason
        for i in (0, 1)
        for reason in ("", *[f"near duplicate of {i}-a.png"] * 3, "")
    ]  # fmt: skip


def test_distinct_digits_and_clothes_are_not():
    sets = [np.load(ROOT / "data" / name)["x"] for name in ("mnist_5000.npz", "fashion_mnist_2500.npz")]
    assert not near_duplicates(np.concatenate(sets)[:, None])


def test_compressed_digits_and_clothes_are_near_duplicates():
    for name in ("mnist_5000.npz", "fashion_mnist_2500.npz"):
        images = np.load(ROOT / "data" / name)["x"][:200]
        again = [np.asarray(Image.open(io.BytesIO(encode(image, "JPEG", quality=90)))) for image in images]
        found = near_duplicates(np.concatenate([images, again])[:, None])
        assert len(found) >= 190
        assert all(late == early + 200 for late, early in found.items())


def test_near_duplicates_of_extreme_sets():
    assert near_duplicates(GREY[:1, None]) == {}
    assert near_duplicates(np.full((50, 3, 8, 8), 7, np.uint8)) == {}
    still = np.clip(100 + 0.4 * GREY[0] + RNG.integers(0, 3, (500, 1, 10, 12)), 0, 255).astype(np.uint8)
    found = near_duplicates(still)
    assert len(found) == 499 and all(early < late for late, early in found.items())


def mixed_folder(path: Path) -> None:
    for i in range(70):
        image = RNG.integers(0, 256, (20 + i % 3, 30, 3), np.uint8)
        save(path / f"{i % 7}" / f"{i}.png", encode(image))
        if i % 5 == 0:
            save(path / "copies" / f"{i}.png", encode(image))
    for name, (content, _) in BAD.items():
        save(path / name, content)


@pytest.mark.filterwarnings("error")
def test_workers_store_and_archive_make_no_difference(tmp_path):
    mixed_folder(tmp_path / "in")
    before = snapshot(tmp_path / "in")
    one = read_source(tmp_path / "in", workers=1)
    assert len(one.images) == 70 and sum(entry.status == "duplicate" for entry in one.entries) == 14
    assert equal(one, read_source(tmp_path / "in", workers=4))
    stored = read_source(tmp_path / "in", workers=4, store=tmp_path / "store.npy")
    assert equal(one, stored)
    assert isinstance(stored.images, np.memmap)
    np.testing.assert_array_equal(np.load(tmp_path / "store.npy"), one.images)
    files = [path for path in (tmp_path / "in").rglob("*") if path.is_file()]
    random.Random(0).shuffle(files)
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        archive.mkdir("folder.png")
        for file in files:
            archive.write(file, file.relative_to(tmp_path / "in"))
    assert equal(one, read_source(tmp_path / "in.zip"))
    assert snapshot(tmp_path / "in") == before
    assert {path.name for path in tmp_path.iterdir()} == {"in", "in.zip", "store.npy"}


def test_the_order_of_the_file_system_makes_no_difference(tmp_path, monkeypatch):
    mixed_folder(tmp_path)
    (tmp_path / "link").symlink_to("3")
    one = read_source(tmp_path)
    scandir = os.scandir

    class Reversed:
        def __init__(self, path):
            with scandir(path) as items:
                self.items = sorted(items, key=lambda item: item.name, reverse=True)

        def __enter__(self):
            return self.items

        def __exit__(self, *error):
            pass

    monkeypatch.setattr("rvqvae.io.sources.os.scandir", Reversed)
    assert equal(one, read_source(tmp_path))


def test_names_of_any_bytes(tmp_path):
    names = [
        "new\nline.png",
        'quo"te.png',
        "com,ma.png",
        "<b>&amp;.png",
        os.fsdecode(b"\xff\xfe.png"),
        "é.png",
    ]
    for i, name in enumerate(names):
        save(tmp_path / name, encode(np.roll(GREY[0], i)))
    assert [entry.path for entry in read_source(tmp_path).entries] == sorted(names)


@pytest.mark.parametrize("array", [GREY, COLOUR, COLOUR.transpose(0, 3, 1, 2), GREY[:, None]])
def test_npz(tmp_path, array):
    np.savez(tmp_path / "a.npz", x=np.concatenate([array, array[:1]]), y=[0] * 5)
    inventory = read_source(tmp_path / "a.npz")
    assert [entry.path for entry in inventory.entries] == [f"x[{i}]" for i in range(5)]
    assert inventory.entries[1].sha256 == hashlib.sha256(array[1].tobytes()).hexdigest()
    assert inventory.entries[4][2:4] == ("duplicate", "exact duplicate of x[0]")
    np.testing.assert_array_equal(inventory.images, rvqvae.load_images(tmp_path / "a.npz").images[:4])


def test_progress_counts_to_the_end(tmp_path):
    for i in range(40):
        save(tmp_path / f"{i}.png", encode(np.roll(GREY[0], i)))
    seen: list[tuple[str, int, int]] = []
    read_source(tmp_path, progress=lambda *state: seen.append(state))
    assert seen == [(stage, done, 40) for stage in ("scan", "decode") for done in (16, 32, 40)]


def test_a_full_disk_leaves_nothing_behind(tmp_path, monkeypatch):
    save(tmp_path / "in" / "a.png", encode(GREY[0]))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("rvqvae.io.reading._write_header", full)
    with pytest.raises(InputError, match="No space left"):
        read_source(tmp_path / "in", store=tmp_path / "store.npy")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_sources_without_a_good_image_are_refused(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_source(tmp_path / "nowhere")
    with pytest.raises(InputError, match="holds no images"):
        read_source(tmp_path)
    save(tmp_path / "a.png", b"")
    with pytest.raises(InputError, match=r"none of the 1 .*a\.png, for one, because it is empty"):
        read_source(tmp_path)
    save(tmp_path / "b.png", encode(GREY[0])[:-40])
    with pytest.raises(InputError, match=r"none of the 2 "):
        read_source(tmp_path, store=tmp_path / "store.npy")
    assert not (tmp_path / "store.npy").exists()


@pytest.mark.parametrize(
    "options", [{"size": 7}, {"size": 257}, {"size": (8, 400)}, {"channels": 2}, {"workers": 0}]
)
def test_arguments_out_of_range(tmp_path, options):
    save(tmp_path / "a.png", encode(GREY[0]))
    with pytest.raises(InputError, match="out of range"):
        read_source(tmp_path, **options)
