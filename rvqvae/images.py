"""Image arrays in one layout, and their loading from folders, archives and NumPy files."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import IO, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageOps

from rvqvae.errors import InputError

Layout = Literal["nhw", "nhwc", "nchw"]
"""Axes of an image array: (N,H,W) grey, (N,H,W,3) colour, (N,1|3,H,W)."""

MIN_SIDE, MAX_SIDE = 8, 256
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif"})


class ImageSet(NamedTuple):
    """Images and where each one came from."""

    images: NDArray[np.uint8]
    """uint8 (N,C,H,W), C in {1,3}."""
    paths: tuple[str, ...]
    """N names: POSIX paths relative to the folder or archive, or ``x[i]`` for rows of a .npz."""


def layout_of(images: ArrayLike) -> Layout:
    """Name the layout of a uint8 image array; InputError if it is none of the three.

    As sides have at least 8 pixels, no 4-axis shape is ambiguous. A 3-axis array is always a stack of
    grey images: give a single colour image a leading axis, ``image[None]``.
    """
    array = _as_array(images)
    layout = _axes(array)
    height, width = _to_nchw(array, layout).shape[2:]
    single = array.ndim == 3 and width in (1, 3)
    remedy = "give a single colour image a leading axis, image[None]" if single else "resize the images"
    _check_sides(height, width, f"images of shape {array.shape}", remedy)
    return layout


def as_nchw(images: ArrayLike) -> NDArray[np.uint8]:
    """Return uint8 images of any `Layout` as contiguous uint8 (N,C,H,W), C in {1,3}; sides 8..256."""
    array = _as_array(images)
    return np.ascontiguousarray(_to_nchw(array, layout_of(array)))


def from_nchw(images: NDArray, layout: Layout) -> NDArray:
    """Give (N,C,H,W) images back in `layout`; the inverse of `as_nchw`. Any dtype."""
    if images.ndim != 4 or (layout == "nhw" and images.shape[1] != 1):
        raise InputError(f"images of shape {images.shape} cannot be laid out as {layout!r}")
    if layout == "nhw":
        return images[:, 0]
    if layout == "nhwc":
        return np.ascontiguousarray(images.transpose(0, 2, 3, 1))
    return images


def load_images(path: str | Path, size: int | None = None) -> ImageSet:
    """Load every image of a folder (recursive), a .zip, or a .npz (array ``x``), in sorted order.

    EXIF rotations are applied, transparency is laid on white, 16-bit grey is scaled down to 8 bits, and
    of animations the first frame is read. Files are grey (C=1) if every pixel of all is, else RGB.
    Files of other types, hidden ones and ``__MACOSX`` are left out.

    `size` (pixels, 8..256) resizes every image to a square, without cropping; sets of mixed sizes
    need it. InputError for a missing or empty source, an unreadable image, or sides out of 8..256.
    """
    path = Path(path)
    if size is not None and not MIN_SIDE <= size <= MAX_SIDE:
        raise InputError(f"size={size!r} is out of range: it must be from {MIN_SIDE} to {MAX_SIDE} pixels")
    if not path.exists():
        raise InputError(f"{path} does not exist: give a folder, a .zip or a .npz")
    if path.suffix.lower() == ".npz" and path.is_file():
        return _load_npz(path, size)
    pictures: list[Image.Image] = []
    names: list[str] = []
    for name, file in _open_members(path):
        picture = _decode(name, file, size)
        if pictures and picture.size != pictures[0].size:
            raise InputError(
                f"{path} holds images of different sizes, {names[0]} of {pictures[0].size} and {name} of "
                f"{picture.size} pixels (width, height): give one size for all, such as size=64"
            )
        pictures.append(picture)
        names.append(name)
    if not pictures:
        raise InputError(f"{path} holds no images: none of its files ends in {', '.join(sorted(SUFFIXES))}")
    mode = "L" if all(picture.mode == "L" for picture in pictures) else "RGB"
    arrays = np.stack([np.asarray(picture.convert(mode)) for picture in pictures])
    return ImageSet(as_nchw(arrays), tuple(names))


def _as_array(images: ArrayLike) -> NDArray:
    try:
        return np.asarray(images)
    except ValueError as error:
        raise InputError("images differ in shape: resize them to one size and stack them") from error


def _axes(array: NDArray) -> Layout:
    """The layout that dtype and axes say; sides are not checked."""
    shape = array.shape
    if array.dtype.kind == "f":
        raise InputError(
            f"images have dtype {array.dtype}, but float images have no agreed range: give uint8 in 0..255, "
            "for values in 0..1 (255 * images).round().astype('uint8')"
        )
    if array.dtype != np.uint8:
        raise InputError(
            f"images have dtype {array.dtype}, not uint8: use images.astype('uint8') if their range is 0..255"
        )
    if array.size == 0:
        raise InputError(f"images have shape {shape}, which is empty: give at least one image")
    if array.ndim == 3:
        return "nhw"
    if array.ndim == 4 and shape[1] in (1, 3):
        return "nchw"
    if array.ndim == 4 and shape[3] == 3:
        return "nhwc"
    remedies = {1: "drop the last axis, images[..., 0]", 4: "drop the alpha channel, images[..., :3]"}
    remedy = remedies.get(shape[3] if array.ndim == 4 else 0, "reshape them")
    raise InputError(f"images have shape {shape}, not (N,H,W), (N,H,W,3) or (N,1|3,H,W): {remedy}")


def _to_nchw(array: NDArray, layout: Layout) -> NDArray:
    if layout == "nhw":
        return array[:, None]
    return array.transpose(0, 3, 1, 2) if layout == "nhwc" else array


def _check_sides(height: int, width: int, what: str, remedy: str) -> None:
    if not (MIN_SIDE <= height <= MAX_SIDE and MIN_SIDE <= width <= MAX_SIDE):
        raise InputError(
            f"{what}: height {height} and width {width} must be {MIN_SIDE} to {MAX_SIDE} pixels: {remedy}"
        )


def _load_npz(path: Path, size: int | None) -> ImageSet:
    with _unreadable(str(path)):
        file = np.load(path, allow_pickle=False)
        arrays = dict(file) if isinstance(file, np.lib.npyio.NpzFile) else {}
    if "x" not in arrays:
        raise InputError(
            f"{path} has no array 'x', only {sorted(arrays)}: save it with numpy.savez(path, x=images)"
        )
    images = arrays["x"]
    if size is not None:
        nchw = _to_nchw(images, _axes(images))
        pictures = from_nchw(nchw, "nhw" if nchw.shape[1] == 1 else "nhwc")
        images = np.stack([np.asarray(_resize(Image.fromarray(picture), size)) for picture in pictures])
    images = as_nchw(images)
    return ImageSet(images, tuple(f"x[{i}]" for i in range(len(images))))


def _open_members(path: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Yield (relative POSIX name, open file) for each image of a folder or .zip, sorted by name."""
    if path.is_dir():
        for name in _image_names(file.relative_to(path).as_posix() for file in path.rglob("*")):
            with _unreadable(name), open(path / name, "rb") as file:
                yield name, file
    elif path.suffix.lower() == ".zip":
        with _unreadable(str(path)), zipfile.ZipFile(path) as archive:
            for name in _image_names(archive.namelist()):
                with _unreadable(name):
                    yield name, BytesIO(archive.read(name))
    else:
        raise InputError(f"{path} is neither a folder nor a .zip nor a .npz")


def _image_names(names: Iterable[str]) -> list[str]:
    """Sorted names of images, hidden files and the resource forks of macOS archives left out."""

    def wanted(name: str) -> bool:
        path = PurePosixPath(name)
        hidden = any(part.startswith(".") or part == "__MACOSX" for part in path.parts)
        return path.suffix.lower() in SUFFIXES and not hidden

    return sorted(filter(wanted, names))


def _decode(name: str, file: IO[bytes], size: int | None) -> Image.Image:
    """Read one picture of mode L or RGB, upright, resized if asked."""
    with _unreadable(name), Image.open(file) as opened:
        picture = _to_eight_bits(ImageOps.exif_transpose(opened))
    if size is not None:
        return _resize(picture, size)
    _check_sides(picture.height, picture.width, name, "give a size to resize to, such as size=64")
    return picture


def _to_eight_bits(picture: Image.Image) -> Image.Image:
    """Convert any PIL mode to L if all pixels are grey, else to RGB."""
    if picture.mode.startswith("I"):
        # PIL's own conversion clips 16-bit values at 255 instead of scaling them.
        values = np.asarray(picture)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError("it has 32-bit values, save it with 8 or 16 bits")
        return Image.fromarray(np.round(values / 257).astype(np.uint8))
    if picture.mode == "F":
        raise ValueError("it has float values, save it with 8 or 16 bits")
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    colours = np.asarray(picture.convert("RGB"))
    # Formats and palettes without a grey mode hide grey pictures, so the pixels decide.
    grey = (colours == colours[..., :1]).all()
    return Image.fromarray(colours[..., 0] if grey else colours)


def _resize(picture: Image.Image, size: int) -> Image.Image:
    return picture.resize((size, size), Image.Resampling.BICUBIC)


@contextmanager
def _unreadable(name: str) -> Iterator[None]:
    """Turn whatever a decoder raises on bad bytes (OSError, SyntaxError, zlib.error...) into InputError."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"{name} cannot be read: {error or type(error).__name__}: repair or remove it"
        ) from error
