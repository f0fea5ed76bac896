import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from rvqvae.errors import InputError
from rvqvae.io.arrays import as_nchw, from_nchw, layout_of, release_pages
from rvqvae.io.pictures import BACKGROUND
from rvqvae.io.reading import load_images
from rvqvae.io.samples import are_images, form_of

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (3, 10, 12), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (3, 10, 12, 3), dtype=np.uint8)


def save(path: Path, array: np.ndarray, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


@given(
    n=st.integers(1, 5),
    height=st.integers(8, 40),
    width=st.integers(8, 40),
    layout=st.sampled_from(["nhw", "nhwc", "nchw1", "nchw3"]),
)
def test_layouts_round_trip(n, height, width, layout):
    shape = {
        "nhw": (n, height, width),
        "nhwc": (n, height, width, 3),
        "nchw1": (n, 1, height, width),
        "nchw3": (n, 3, height, width),
    }[layout]
    images = np.random.default_rng(n).integers(0, 256, shape, dtype=np.uint8)
    assert layout_of(images) == layout[:4]
    nchw = as_nchw(images)
    assert nchw.shape == (n, 3 if "3" in layout or layout == "nhwc" else 1, height, width)
    assert nchw.flags.c_contiguous
    np.testing.assert_array_equal(from_nchw(nchw, layout_of(images)), images)


def test_channels_stay_with_their_pixels():
    np.testing.assert_array_equal(as_nchw(COLOUR)[1, 2], COLOUR[1, :, :, 2])


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (GREY / 255, "float64.*255 \\* images"),
        (GREY.astype(int), "int64, not uint8"),
        (GREY[:0], "empty"),
        (GREY[0], r"\(10, 12\), not \(N,H,W\)"),
        (GREY[..., None], r"images\[\.\.\., 0\]"),
        (np.zeros((2, 10, 10, 4), np.uint8), "alpha"),
        (COLOUR[0], r"image\[None\]"),
        (np.zeros((2, 7, 10), np.uint8), "height 7.*8 to 256"),
        (np.zeros((2, 3, 10, 257), np.uint8), "width 257.*resize"),
        ([GREY[0], GREY[0, :8]], "differ in shape"),
    ],
)
def test_other_arrays_are_refused(images, message):
    with pytest.raises(InputError, match=message):
        as_nchw(images)


@pytest.mark.parametrize("samples", [["a.png"], "a.png", (Path("a.png"),), np.array(["a.png"])])
def test_names_are_no_samples(samples):
    with pytest.raises(InputError, match=r"'a\.png' is a name, not an image: .*load_images"):
        are_images(samples)


@pytest.mark.parametrize("samples", [iter(GREY), {"x": GREY}])
def test_what_is_no_sequence(samples):
    with pytest.raises(InputError, match="give an array or a list"):
        are_images(samples)


def test_a_series_of_images():
    pandas = pytest.importorskip("pandas")
    series = pandas.Series(list(GREY))
    assert are_images(series) and form_of(series) == ("nhw", "uint8")
    np.testing.assert_array_equal(as_nchw(series), GREY[:, None])
    with pytest.raises(InputError, match="differ in shape"):
        as_nchw(pandas.Series([GREY[0], GREY[0, :8]]))


def test_colour_cannot_be_laid_out_as_grey():
    with pytest.raises(InputError, match="'nhw'"):
        from_nchw(as_nchw(COLOUR), "nhw")


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "webp"])
def test_lossless_folder_is_recursive_and_sorted(tmp_path, suffix):
    save(tmp_path / f"b.{suffix}", COLOUR[1], **({"lossless": True} if suffix == "webp" else {}))
    save(
        tmp_path / "a" / f"z.{suffix.upper()}", COLOUR[0], **({"lossless": True} if suffix == "webp" else {})
    )
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / f"._b.{suffix}").write_text("a hidden file")
    images, paths = load_images(tmp_path)
    assert paths == (f"a/z.{suffix.upper()}", f"b.{suffix}")
    np.testing.assert_array_equal(images, as_nchw(COLOUR[:2]))


def test_zip_equals_folder(tmp_path):
    for i, image in enumerate(GREY):
        save(tmp_path / "in" / f"{i}.png", image)
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        for file in sorted((tmp_path / "in").iterdir(), reverse=True):
            archive.write(file, file.name)
        archive.writestr("__MACOSX/0.png", "a resource fork")
    from_folder, from_zip = load_images(tmp_path / "in"), load_images(str(tmp_path / "in.zip"))
    assert from_folder.paths == from_zip.paths == ("0.png", "1.png", "2.png")
    np.testing.assert_array_equal(from_folder.images, as_nchw(GREY))
    np.testing.assert_array_equal(from_zip.images, as_nchw(GREY))


def test_grey_only_if_all_are_grey(tmp_path):
    for suffix in ("png", "jpg", "gif"):
        save(tmp_path / f"grey.{suffix}", GREY[0])
    save(tmp_path / "grey.webp", GREY[0], lossless=True)
    assert load_images(tmp_path).images.shape == (4, 1, 10, 12)
    save(tmp_path / "colour.gif", COLOUR[0])
    images, paths = load_images(tmp_path)
    assert images.shape == (5, 3, 10, 12)
    grey = images[paths.index("grey.png")]
    assert (grey == GREY[0]).all()


def test_exif_rotation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to the right
    save(tmp_path / "a.png", GREY[0], exif=exif)
    np.testing.assert_array_equal(load_images(tmp_path).images[0, 0], np.rot90(GREY[0], -1))


def test_sixteen_bits_are_scaled_not_clipped(tmp_path):
    values = GREY[0].astype(np.uint16) * 257
    save(tmp_path / "a.png", values)
    save(tmp_path / "b.tiff", values)
    for image in load_images(tmp_path).images:
        np.testing.assert_array_equal(image[0], GREY[0])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_no_numbers_are_refused(tmp_path, value):
    save(tmp_path / "a.tiff", np.full((10, 10), value, np.float32))
    with pytest.raises(InputError, match=r"a\.tiff.*not finite numbers"):
        load_images(tmp_path)


def test_white_and_black_drawings_on_nothing_both_show(tmp_path):
    for name, ink in (("a.png", 0), ("b.png", 255)):
        drawing = np.full((10, 12, 4), (ink, ink, ink, 255), np.uint8)
        drawing[5:, :, 3] = 0
        save(tmp_path / name, drawing)
    black, white = load_images(tmp_path).images[:, 0]
    assert (black[:5] == 0).all() and (white[:5] == 255).all()
    assert (black[5:] == BACKGROUND).all() and (white[5:] == BACKGROUND).all()


def test_transparent_palette(tmp_path):
    Image.fromarray(COLOUR[0]).quantize(16).save(tmp_path / "a.png", transparency=bytes([0] * 16))
    assert (load_images(tmp_path).images == BACKGROUND).all()


def test_mixed_sizes_need_a_size(tmp_path):
    save(tmp_path / "a.png", GREY[0])
    save(tmp_path / "b.png", np.zeros((300, 20), np.uint8))
    with pytest.raises(InputError, match=r"b\.png: height 300"):
        load_images(tmp_path)
    save(tmp_path / "b.png", np.zeros((30, 20), np.uint8))
    with pytest.raises(InputError, match=r"a\.png of \(10, 12\) and b\.png of \(30, 20\) pixels.*size=64"):
        load_images(tmp_path)
    images = load_images(tmp_path, size=16).images
    assert images.shape == (2, 1, 16, 16)
    assert not images[1].any()
    with pytest.raises(InputError, match="size=7"):
        load_images(tmp_path, size=7)


@pytest.mark.parametrize("array", [GREY, COLOUR, as_nchw(COLOUR)])
def test_npz(tmp_path, array):
    np.savez(tmp_path / "a.npz", x=array, y=[0, 1, 2])
    images, paths = load_images(tmp_path / "a.npz")
    np.testing.assert_array_equal(images, as_nchw(array))
    assert paths == ("x[0]", "x[1]", "x[2]")
    assert load_images(tmp_path / "a.npz", size=9).images.shape == (3, images.shape[1], 9, 9)


def test_npz_of_large_images_can_be_resized(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.full((2, 300, 40), 7, np.uint8))
    assert (load_images(tmp_path / "a.npz", size=8).images == 7).all()


def test_bad_sources_are_refused(tmp_path):
    with pytest.raises(InputError, match="nowhere does not exist"):
        load_images(tmp_path / "nowhere")
    with pytest.raises(InputError, match="holds no images"):
        load_images(tmp_path)
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(InputError, match="neither a folder"):
        load_images(tmp_path / "a.txt")
    for name in ("a.npz", "a.zip"):
        (tmp_path / name).write_bytes(b"not an archive")
        with pytest.raises(InputError, match=f"{name} cannot be read"):
            load_images(tmp_path / name)
    np.savez(tmp_path / "b.npz", images=GREY)
    with pytest.raises(InputError, match=r"no array 'x', only \['images'\]"):
        load_images(tmp_path / "b.npz")
    np.savez(tmp_path / "c.npz", x=np.array([{}], dtype=object))
    with pytest.raises(InputError, match=r"c\.npz cannot be read.*pickle"):
        load_images(tmp_path / "c.npz")


def test_damaged_images_are_named(tmp_path):
    save(tmp_path / "good.png", GREY[0])
    data = (tmp_path / "good.png").read_bytes()
    for content in (b"", b"not a picture", data[: len(data) // 2]):
        (tmp_path / "bad.png").write_bytes(content)
        with pytest.raises(InputError, match=r"bad\.png cannot be read.*remove it"):
            load_images(tmp_path)


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_pages_of_a_mapped_file_are_released_and_come_back(tmp_path, mode):
    images = np.random.default_rng(0).integers(0, 256, (4096, 1, 28, 28), np.uint8)
    np.save(tmp_path / "images.npy", images)
    mapped = np.load(tmp_path / "images.npy", mmap_mode=mode)
    if mode == "c":
        mapped[0] = images[0] = 7
    assert np.array_equal(mapped, images)
    before = mapped_bytes()
    release_pages(as_nchw(mapped)[5:])
    assert (before - mapped_bytes() > images.nbytes / 2) == (mode != "c")
    assert np.array_equal(mapped, images)
    release_pages(images)
    assert images[0].any()


def mapped_bytes() -> int:
    """Resident pages of files, on Linux."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[2]) * os.sysconf("SC_PAGE_SIZE")
