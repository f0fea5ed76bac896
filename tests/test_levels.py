"""One scale for values of more than 8 bits, found from the set; large and damaged JPEGs."""

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_sample_images
from test_exact import sixteen_bits
from test_sources import encode, save

from rvqvae.commands.main import main
from rvqvae.commands.read import model_metadata
from rvqvae.errors import InputError
from rvqvae.io.levels import common_levels, to_grey
from rvqvae.io.pictures import Side
from rvqvae.io.reading import load_images, read_source

RNG = np.random.default_rng(0)
DIGITS = np.load(Path(__file__).parents[1] / "data" / "mnist_5000.npz")["x"][:40]


def store(folder: Path, images: np.ndarray) -> Path:
    for i, image in enumerate(images):
        save(folder / f"{i:03}.tiff", encode(image, "TIFF"))
    return folder


@pytest.mark.parametrize("shift", [0, 4, 8])
def test_digits_of_8_bits_in_files_of_16(tmp_path, shift):
    found = read_source(store(tmp_path, DIGITS.astype(np.uint16) << shift))
    assert found.side.levels == (0, 2 ** (8 + shift) - 1)
    assert np.abs(found.images[:, 0].astype(int) - DIGITS).max() <= 1
    if not shift:
        np.testing.assert_array_equal(found.images[:, 0], DIGITS)


def test_a_hundred_pictures_of_few_values_differ(tmp_path):
    images = RNG.integers(0, 121, (100, 12, 12)).astype(np.uint16)
    found = read_source(store(tmp_path, images))
    assert {entry.status for entry in found.entries} == {"ok"}
    assert found.side.levels == (0, 127) and found.images.max() > 230


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.uint32, np.float32])
def test_other_values_are_read(tmp_path, dtype):
    """Signed ones, and those of 32 bits, with the true reason where that cannot be."""
    values = RNG.integers(-1000, 3001, (4, 12, 12)) if dtype != np.uint32 else RNG.integers(
        2**31, 2**32, (4, 12, 12)
    )  # fmt: skip
    values = values.astype(dtype)
    for i, one in enumerate(values):
        save(tmp_path / f"{i}.tiff", tiff_of(one))
    found = read_source(tmp_path)
    low, high = found.side.levels
    if dtype == np.uint32:
        assert (low, high) in {(0, 2**32 - 1), (values.min(), values.max())}
    else:
        assert (low, high) == (values.min(), values.max())
    np.testing.assert_array_equal(found.images[:, 0], to_grey(values, (low, high)))
    assert found.images.std() > 50


def tiff_of(*pages: np.ndarray, photometric: int = 1) -> bytes:
    """Uncompressed pages (H, W) or (H, W, 3) of one strip, of a dtype that Pillow reads but may not write."""
    import struct

    content = b"II*\0" + struct.pack("<I", 8)
    for page in pages:
        values = np.atleast_3d(page)
        (height, width, n), depth = values.shape, 8 * values.dtype.itemsize
        bits = struct.pack("<3H", *[depth] * 3)
        start = len(content) + 2 + 10 * 12 + 4
        tags = [
            (256, 3, 1, width), (257, 3, 1, height), (258, 3, n, depth if n == 1 else start),
            (259, 3, 1, 1), (262, 3, 1, 2 if n == 3 else photometric), (273, 4, 1, start + len(bits)),
            (277, 3, 1, n), (278, 3, 1, height), (279, 4, 1, values.nbytes),
            (339, 3, 1, {"u": 1, "i": 2, "f": 3}[values.dtype.kind]),
        ]  # fmt: skip
        content += struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags)
        end = start + len(bits) + values.nbytes
        content += struct.pack("<I", 0 if page is pages[-1] else end) + bits
        content += values.astype(values.dtype.newbyteorder("<")).tobytes()
    return content


def test_white_may_be_zero(tmp_path):
    values = (DIGITS[0].astype(np.uint16) + 1) * 250
    save(tmp_path / "a.tiff", tiff_of(65535 - values, photometric=0))
    save(tmp_path / "b.tiff", tiff_of(values))
    found = read_source(tmp_path)
    assert found.side.levels == (0, 65535)
    assert [entry.reason for entry in found.entries] == ["", "exact duplicate of a.tiff"]
    np.testing.assert_array_equal(found.images[0, 0], to_grey(values, (0, 65535)))


def test_signed_bytes(tmp_path):
    values = np.clip(DIGITS[0].astype(np.int16) - 100, -128, 127).astype(np.int8)
    save(tmp_path / "a.tiff", tiff_of(values))
    save(tmp_path / "b.tiff", tiff_of(values.view(np.uint8)))
    found = read_source(tmp_path)
    assert [entry.status for entry in found.entries] == ["ok", "ok"]
    assert found.side.levels == (-100, 127)
    np.testing.assert_array_equal(found.images[0, 0], to_grey(values, (-100, 127)))


def test_colours_of_16_bits_are_counted(tmp_path, capsys):
    """Pillow gives their upper 8 bits: that is said, and they are exact duplicates only byte for byte."""
    deep = RNG.integers(0, 2**16, (6, 12, 12, 3)).astype(np.uint16)
    header = b"P6 12 12 65535\n"
    contents = {
        "a.png": sixteen_bits(deep[0]), "b.png": sixteen_bits(deep[0] ^ 1), "c.tiff": tiff_of(deep[1]),
        "d.tiff": tiff_of(deep[1] ^ 1), "e.ppm": header + deep[2].astype(">u2").tobytes(),
        "f.ppm": header + (deep[2] ^ 1).astype(">u2").tobytes(), "g.png": encode(deep[4, ..., 0]),
        "h.png": encode((deep[3] >> 8).astype(np.uint8)),
    }  # fmt: skip
    for name, content in contents.items():
        save(tmp_path / name, content)
    found = read_source(tmp_path)
    assert found.reduced == 6
    assert {entry.status for entry in found.entries} == {"ok"}
    assert main(["clean", str(tmp_path), "--out", str(tmp_path.with_name("out")), "--dry-run"]) == 0
    assert "6 images have colours of more than 8 bits" in capsys.readouterr().out


def test_a_later_page_may_have_more_bits(tmp_path):
    first, second = DIGITS[0], RNG.integers(0, 2**16, (28, 28, 3)).astype(np.uint16)
    for name, page in (("a", second), ("b", second ^ 1)):
        save(tmp_path / f"{name}.tiff", tiff_of(first, page))
    assert [entry.status for entry in read_source(tmp_path).entries] == ["ok", "ok"]


def test_colours_of_10_bits(tmp_path):
    heif = pytest.importorskip("pillow_heif")
    for bits, mode in ((10, "RGB;16"), (8, "RGB")):
        values = RNG.integers(0, 256, (16, 16, 3)).astype(np.uint16 if bits == 10 else np.uint8)
        buffer = io.BytesIO()
        heif.encode(mode, (16, 16), values.tobytes(), buffer)
        save(tmp_path / f"{bits}.heic", buffer.getvalue())
    assert read_source(tmp_path).reduced == 1


def test_what_is_not_read_says_so(tmp_path):
    save(tmp_path / "a.tiff", tiff_of(np.zeros((12, 12))))
    save(tmp_path / "b.png", encode(DIGITS[0]))
    assert "or of a kind that is not read, such as 64 bits" in read_source(tmp_path).entries[0].reason


def test_the_model_keeps_the_scale(tmp_path):
    first = read_source(store(tmp_path / "a", DIGITS.astype(np.uint16) << 4))
    metadata = model_metadata(first.side)
    assert metadata["levels"] == [0, 4095]
    store(tmp_path / "b", DIGITS[:2].astype(np.uint16))
    later = read_source(tmp_path / "b", **first.side._asdict())
    assert later.images.max() <= 16
    assert "levels" not in model_metadata(Side((28, 28), 1))


def test_load_images_uses_one_scale(tmp_path):
    images = load_images(store(tmp_path, DIGITS.astype(np.uint16) << 2)).images
    assert np.abs(images[:, 0].astype(int) - DIGITS).max() <= 1


def test_a_hot_pixel_does_not_crush_the_others():
    assert common_levels([(0, 4000)] * 20 + [(0, 65535)]) == (0, 2**14 - 1)
    assert common_levels([(0, 4000)] * 20 + [(0, 0)] * 30) == (0, 4095)
    assert common_levels([(-1000, 3000)] * 9 + [(-32768, 3000)]) == (-13000, 3000)
    assert common_levels([(31000, 36000), (30000, 35000)]) == (30000, 36000)
    assert common_levels([(7, 7)]) == (7, 8)
    assert common_levels([(0, 0)]) == (0, 1)
    assert common_levels([]) is None


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(-1e9, 1e9), st.floats(0, 1e9)), min_size=1, max_size=20))
@example([(0.0, 2.3e-308), (1.0, 0.0)])
def test_any_ranges_have_a_scale(starts):
    ranges = [(low, low + width) for low, width in starts]
    low, high = common_levels(ranges)
    assert high > low
    grey = to_grey(np.array(ranges), (low, high))
    assert (grey[:, 1] >= grey[:, 0]).all()


# Large pictures


def test_a_jpeg_of_108_megapixels_is_read(tmp_path):
    large = Image.new("L", (12_000, 9_000), 90)
    large.paste(200, (0, 0, 6_000, 9_000))
    save(tmp_path / "a.jpg", encode(large, "JPEG"))
    found = read_source(tmp_path)
    assert found.entries[0].status == "ok" and Image.MAX_IMAGE_PIXELS
    assert abs(int(found.images[0, 0, 30, 10]) - 200) < 3 and abs(int(found.images[0, 0, 30, 50]) - 90) < 3


def test_the_limit_can_be_raised(tmp_path, monkeypatch):
    save(tmp_path / "a.png", encode(np.zeros((100, 101), np.uint8)))
    save(tmp_path / "b.png", encode(np.eye(20, dtype=np.uint8)))
    monkeypatch.setenv("RVQVAE_MAX_PIXELS", "10000")
    reason = read_source(tmp_path).entries[0].reason
    assert reason == "it has 10,100 pixels, above the limit of 10,000: set RVQVAE_MAX_PIXELS=10100 to read it"
    monkeypatch.setenv("RVQVAE_MAX_PIXELS", "10100")
    assert read_source(tmp_path).entries[0].status == "ok"
    monkeypatch.setenv("RVQVAE_MAX_PIXELS", "many")
    with pytest.raises(InputError, match="RVQVAE_MAX_PIXELS='many' is not a number of pixels"):
        read_source(tmp_path)


# Half a JPEG

PHOTO = Image.fromarray(load_sample_images().images[0][:200, :300])
KINDS = {
    "baseline": {}, "progressive": {"progressive": True}, "optimized": {"optimize": True},
    "restarts": {"restart_marker_rows": 1}, "full chroma": {"subsampling": 0},
}  # fmt: skip


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [16, 128])
def test_half_a_jpeg_with_an_end_is_damaged(tmp_path, mode, kind, size):
    options = {k: v for k, v in KINDS[kind].items() if mode != "L" or k != "subsampling"}
    content = encode(PHOTO.convert(mode), "JPEG", **options)
    save(tmp_path / "whole.jpg", content)
    save(tmp_path / "more.jpg", content + b"what a camera adds \xff\xd9")
    for share in (5, 8, 9.8):
        save(
            tmp_path / f"cut{share}.jpg",
            content[: int(len(content) * share / 10)].rstrip(b"\xff") + b"\xff\xd9",
        )
    found = read_source(tmp_path, size=size, deduplicate=False)
    bad = {entry.path for entry in found.entries if entry.status == "unreadable"}
    assert bad == {"cut5.jpg", "cut8.jpg", "cut9.8.jpg"}
    assert {entry.reason for entry in found.entries} == {
        "", "its data end before the picture does, the rest would be grey"
    }  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [16, 128])
def test_whole_pictures_that_are_grey_are_good(tmp_path, kind, size):
    grey = np.asarray(PHOTO.convert("L")).copy()
    grey[100:] = 128
    for i, picture in enumerate((grey, np.full((40, 50), 128, np.uint8))):
        options = {k: v for k, v in KINDS[kind].items() if k != "subsampling"}
        save(tmp_path / f"{i}.jpg", encode(picture, "JPEG", **options))
    exif = io.BytesIO()
    PHOTO.resize((30, 20)).save(exif, "JPEG")
    save(tmp_path / "2.jpg", encode(PHOTO, "JPEG", exif=b"Exif\0\0" + exif.getvalue(), **KINDS[kind]))
    assert {entry.status for entry in read_source(tmp_path, size=size).entries} == {"ok"}
