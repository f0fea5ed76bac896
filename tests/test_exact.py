"""Exact duplicates: equal in every undamaged value, else near at most; and what the reviewer says of them."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images
from test_sources import encode, save

from rvqvae.commands.main import main
from rvqvae.io.duplicates import near_duplicates, same_picture
from rvqvae.io.ledger import Entry
from rvqvae.io.manifest import Row, write_manifest
from rvqvae.io.pictures import fingerprint
from rvqvae.io.reading import read_source
from rvqvae.io.sources import open_source

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (4, 10, 12), dtype=np.uint8)


def statuses(path: Path) -> list[str]:
    return [entry.status for entry in read_source(path).entries]


def icon(seed: int, ink: int) -> np.ndarray:
    """A drawing in one tone on nothing, (16,16,4)."""
    drawing = np.full((16, 16, 4), ink, np.uint8)
    drawing[..., 3] = 255 * (np.random.default_rng(seed).random((16, 16)) < 0.2)
    return drawing


def test_transparent_drawings_in_white_and_black(tmp_path):
    for i in range(40):
        save(tmp_path / f"d{i:03}.png", encode(icon(i, 255 if i % 4 == 0 else 0)))
    found = read_source(tmp_path)
    assert {entry.status for entry in found.entries} == {"ok"}
    assert (found.images.std(axis=(1, 2, 3)) > 20).all()
    assert not any(entry.reason for entry in found.entries)


def test_equal_colours_with_other_transparency_are_not_equal(tmp_path):
    drawing = icon(0, 144)  # The tone of the background: all that is seen is a plain square.
    save(tmp_path / "a.png", encode(drawing))
    save(tmp_path / "b.png", encode(np.where(drawing[..., 3:] > 0, 0, drawing) + np.uint8([144] * 3 + [0])))
    assert statuses(tmp_path) == ["ok", "ok"]


def test_what_lies_under_transparency_counts(tmp_path):
    clear = np.zeros((10, 12, 4), np.uint8)
    save(tmp_path / "a.png", encode(clear))
    clear[2, 3, 0] = 9
    save(tmp_path / "b.png", encode(clear))
    assert statuses(tmp_path) == ["ok", "ok"]


@pytest.mark.parametrize("format", ["TIFF", "GIF", "PNG", "WEBP"])
def test_every_frame_counts(tmp_path, format):
    options = {"save_all": True} | ({"lossless": True} if format == "WEBP" else {})
    for i in range(4):
        frames = [Image.fromarray(GREY[0]), Image.fromarray(GREY[1 + i % 3])]
        save(
            tmp_path / f"{i}.{format.lower()}", encode(frames[0], format, append_images=frames[1:], **options)
        )
    assert statuses(tmp_path) == ["ok", "ok", "ok", "duplicate"]
    near = [entry.reason for entry in read_source(tmp_path).entries[1:3]]
    assert near == [f"near duplicate of 0.{format.lower()}"] * 2


def test_every_bit_counts(tmp_path):
    """Two pictures of 16 bits that differ by less than a grey level."""
    deep = GREY[0].astype(np.uint16) * 257
    formats = {"a.png": "PNG", "b.png": "PNG", "c.tiff": "TIFF", "d.pgm": "PPM"}
    for name, format in formats.items():
        save(tmp_path / name, encode(deep ^ 1 if name == "b.png" else deep, format))
    assert statuses(tmp_path) == ["ok", "ok", "duplicate", "duplicate"]


def sixteen_bits(values: np.ndarray) -> bytes:
    """A PNG in colours of 16 bits, which Pillow reads but does not write."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, _ = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    )


def test_colours_whose_low_bits_pillow_drops(tmp_path):
    values = RNG.integers(0, 2**16, (10, 12, 3)).astype(np.uint16)
    for i, one in enumerate((values, values ^ 1)):
        save(tmp_path / f"{i}.png", sixteen_bits(one))
    assert statuses(tmp_path) == ["ok", "ok"]


def test_the_same_values_in_another_form_are_equal(tmp_path):
    """Grey as L, RGB, palette, opaque RGBA, in any format that keeps values; not with 16 bits, or turned."""
    colour = np.repeat(GREY[0][..., None], 3, 2)
    palette = Image.fromarray(GREY[0]).convert("P")
    turned = Image.Exif()
    turned[0x0112] = 6
    contents = {
        "a.png": encode(GREY[0]),
        "b.bmp": encode(colour, "BMP"),
        "c.png": encode(palette),
        "d.png": encode(np.dstack([colour, np.full((10, 12), 255, np.uint8)])),
        "e.tiff": encode(colour, "TIFF", compression="tiff_lzw"),
        "f.pgm": encode(GREY[0], "PPM"),
        "g.png": encode(np.rot90(GREY[0]).copy(), exif=turned),
        "h.png": encode(GREY[0].astype(np.uint16) * 257),
    }
    for name, content in contents.items():
        save(tmp_path / name, content)
    with open_source(tmp_path) as source:
        prints = {name: fingerprint(source, name) for name in source.names}
    assert len({one for name, one in prints.items() if name != "h.png"}) == 1
    assert prints["h.png"] != prints["a.png"]
    assert statuses(tmp_path) == ["ok"] + 6 * ["duplicate"] + ["ok"]


def test_a_third_file_is_compared_with_every_one_before_it(tmp_path):
    large = np.tile(GREY[0], (40, 40))
    save(tmp_path / "a.png", encode(large))
    large[200, 200] ^= 1
    save(tmp_path / "b.png", encode(large))
    save(tmp_path / "c.bmp", encode(large, "BMP"))
    entries = read_source(tmp_path).entries
    assert entries[2][2:4] == ("duplicate", "exact duplicate of b.png")


# Class folders


def conflict(path: str) -> str:
    return f"label conflict: the same image in another class folder is {path}"


def test_the_same_image_in_two_classes_is_a_conflict(tmp_path):
    for i, folder in enumerate(("cat", "dog", "dog", "cat")):
        save(tmp_path / folder / f"{i}.png", encode(GREY[i]))
    save(tmp_path / "dog" / "0.png", encode(GREY[0]))  # equal byte for byte
    save(tmp_path / "cat" / "1.bmp", encode(GREY[1], "BMP"))  # equal in its values
    save(tmp_path / "dog" / "4.bmp", encode(GREY[2], "BMP"))  # in the same class
    found = read_source(tmp_path)
    assert [(entry.path, entry.status, entry.reason) for entry in found.entries if entry.reason] == [
        ("cat/0.png", "ok", conflict("dog/0.png")),
        ("cat/1.bmp", "ok", conflict("dog/1.png")),
        ("dog/0.png", "ok", conflict("cat/0.png")),
        ("dog/1.png", "ok", conflict("cat/1.bmp")),
        ("dog/4.bmp", "duplicate", "exact duplicate of dog/2.png"),
    ]
    assert len(found.images) == 6


def test_splits_and_loose_images_are_no_classes(tmp_path):
    for name in ("a/train/cat/0.png", "a/test/cat/0.png", "b/0.png", "b/sub/0.png"):
        save(tmp_path / name, encode(GREY[0]))
    for folder in ("a", "b"):
        assert statuses(tmp_path / folder) == ["ok", "duplicate"]


# Near duplicates in colour


def test_textures_on_one_colour_are_not_near_duplicates():
    textures = RNG.integers(0, 12, (6, 1, 32, 32), np.uint8)
    red = np.concatenate([240 + textures, np.zeros((6, 2, 32, 32), np.uint8)], 1)
    assert near_duplicates(textures) == near_duplicates(red) == {}
    assert not same_picture(red[0], red[1])


def test_compressed_photos_on_one_colour_still_are():
    photos = [Image.fromarray(photo).resize((64, 64)) for photo in load_sample_images().images]
    again = [Image.open(io.BytesIO(encode(photo, "JPEG", quality=95, subsampling=0))) for photo in photos]
    images = np.stack([np.asarray(photo).transpose(2, 0, 1) for photo in [*photos, *again]])
    assert near_duplicates(images) == {2: 0, 3: 1}
    assert same_picture(images[0], images[2]) and not same_picture(images[0], images[1])


# The reviewer


def test_what_the_reviewer_keeps_is_kept(tmp_path, capsys):
    """Exact duplicates are copied if the manifest says so; what is no image is named."""
    for name in ("a.png", "b.png", "sub/c.png"):
        save(tmp_path / "in" / name, encode(GREY[0]))
    save(tmp_path / "in" / "bad.png", b"no image")
    found = read_source(tmp_path / "in")
    assert [entry.status for entry in found.entries] == ["ok", "duplicate", "unreadable", "duplicate"]
    kept = {"a.png": True, "b.png": True, "bad.png": True, "sub/c.png": False}

    def row(entry: Entry) -> Row:
        return Row(entry.path, entry.sha256, entry.status, 0.0, 0.5, kept[entry.path], entry.reason)

    write_manifest(tmp_path / "reviewed.csv", map(row, found.entries))
    command = ["clean", str(tmp_path / "in"), "--manifest", str(tmp_path / "reviewed.csv"), "--copy"]
    for _ in range(2):  # The second time the copy is there, and allowed to be.
        assert main([*command, "--out", str(tmp_path / "out")]) == 0
        said = capsys.readouterr().out
        assert "2 images are in" in said
        assert "1 of them are exact duplicates, kept because the manifest says so." in said
        assert "1 that the manifest keeps cannot be read as images, and are not copied: bad.png." in said
    copied = tmp_path / "out" / "clean"
    assert {p.relative_to(copied).as_posix() for p in copied.rglob("*.png")} == {"a.png", "b.png"}
