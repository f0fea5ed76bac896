"""`rvqvae.clean`: one line of Python from images of any kind to the table of a cleaning."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from io import BytesIO
from os import PathLike
from pathlib import Path
from typing import Any

from rvqvae.commands.options import FitOptions
from rvqvae.errors import InputError
from rvqvae.progress import Progress, silent


def clean(
    images: Any,
    out: str | PathLike[str],
    *,
    column: str | None = None,
    copy: bool = False,
    link: bool = False,
    train: bool = True,
    progress: Progress = silent,
    **options: Any,
) -> Any:
    """Find what does not belong among ``images``, write the results to the folder ``out``, return the table.

    ``images``: a folder, .zip, .npz, .tar or .parquet, as `rvqvae clean` takes it; paths of files, as a list,
    a pandas Series or a DataFrame with such a column; an array of images, uint8 (N,H,W) or (N,H,W,3); a
    Hugging Face ``Dataset``; or any sequence, such as a torch ``Dataset``, of images or of tuples that begin
    with one, each a PIL image, an array (H,W) or (H,W,3) of uint8, or a tensor (C,H,W) of uint8 or of floats
    from 0 to 1. All but the first kind become files beside ``out``, in OUT.images: links to files that exist,
    and PNG.

    ``column``: of a DataFrame or a Dataset, by default the one that holds images or paths. ``copy``, ``link``
    and ``options`` as of `rvqvae clean` (``contamination=0.1``); ``train=False`` leaves out the networks.

    Returns the manifest, as a pandas DataFrame where pandas is installed, else as a list of `Row`. Of what
    came as a sequence, the table is in its order, and ``source`` is what was given for each row: its path, or
    its place. ``table.attrs["summary"]`` is summary.json. The same call takes up a run that was cut short.

        table = rvqvae.clean("photos", out="cleaned")
        table[~table.keep].sort_values("score")

    InputError as of `rvqvae clean`, and for what is no sequence of images.
    """
    from rvqvae.commands.clean import clean as run
    from rvqvae.io.manifest import read_manifest

    out, chosen = Path(out), FitOptions(**options)
    with _files_of(images, column, out) as (place, sources):
        run(place, out, chosen, copy=copy, link=link, no_train=not train, progress=progress)
    rows = read_manifest(out / "manifest.csv")
    if not find_spec("pandas"):
        return rows
    import pandas as pd

    table = pd.DataFrame(rows)
    if sources is not None:  # Names begin with their place.
        table.insert(0, "source", [sources[int(row.path[:DIGITS])] for row in rows])
    table.attrs["summary"] = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    return table


DIGITS = 7
MISSING = b""
"""Of an image that is not there, so that it is an unreadable row, and not left out."""


@contextmanager
def _files_of(images: Any, column: str | None, out: Path) -> Iterator[tuple[Path, list[Any] | None]]:
    """A place to read the images at, and what was given for each file, if that were not files of one place.

    What was made for a cleaning that cannot be done is removed again.
    """
    if isinstance(images, str | PathLike):
        yield Path(images), None
        return
    folder = out.with_name(f"{out.name}.images")
    new = not folder.exists() and not out.exists()
    try:
        yield _as_files(images, column, folder)
    except InputError:
        if new and not out.exists():
            shutil.rmtree(folder, ignore_errors=True)
        raise


def _as_files(images: Any, column: str | None, folder: Path) -> tuple[Path, list[Any]]:
    """The images as a folder of files, named by their place, and what was given for each."""
    from rvqvae.io.manifest import link_to

    folder.mkdir(parents=True, exist_ok=True)
    wanted, sources = set(), []
    for i, (source, item) in enumerate(_items(images, column)):
        sources.append(i if source is None else source)
        if source is not None and item is None:
            path = Path(os.path.abspath(source))
            name = f"{i:0{DIGITS}d}-{path.name}"
            link_to(folder / name, path)
        else:
            content, suffix = _encoded(item, i)
            name = f"{i:0{DIGITS}d}{suffix}"
            if not (folder / name).is_file() or (folder / name).read_bytes() != content:
                (folder / name).write_bytes(content)
        wanted.add(name)
    if not sources:
        raise InputError("the sequence of images is empty: give a hundred or more")
    if extra := sorted(set(os.listdir(folder)) - wanted):
        raise InputError(
            f"{folder} holds {extra[0]!r}, which is not of these images: remove it, or give another out"
        )
    return folder, sources


def _items(images: Any, column: str | None) -> Iterator[tuple[Any, Any]]:
    """(path, None) of a file, (None, image) of an image."""
    if hasattr(images, "cast_column") and hasattr(images, "features"):
        yield from _of_hugging_face(images, column)
        return
    if hasattr(images, "columns"):
        images = images[column or _paths_column(images)]
    if not (hasattr(images, "__len__") and hasattr(images, "__getitem__")) or isinstance(
        images, dict | bytes
    ):
        part = f", such as its {next(iter(images))!r}" if isinstance(images, dict) and images else ""
        raise InputError(
            f"images of type {type(images).__name__} are no sequence: give a folder, paths, or a dataset "
            f"with __len__ and __getitem__{part}"
        )
    rows: Sequence[Any] = images.tolist() if hasattr(images, "to_numpy") else images
    for i in range(len(rows)):
        item = rows[i]
        item = item[0] if isinstance(item, tuple | list) and len(item) else item
        yield (str(item), None) if isinstance(item, str | PathLike) else (None, item)


def _of_hugging_face(data: Any, column: str | None) -> Iterator[tuple[Any, Any]]:
    """Of a Dataset: the files as they are, not decoded."""
    kinds = {name: type(feature).__name__ for name, feature in data.features.items()}
    name = column or next((name for name, kind in kinds.items() if kind == "Image"), None)
    if name is None:
        raise InputError(f"none of the columns {', '.join(kinds)} is of images: cast it to datasets.Image()")
    if name not in kinds:
        raise InputError(f"column={name!r} is none of {', '.join(kinds)}: name the one with the images")
    raw = data.cast_column(name, data.features[name].__class__(decode=False))
    for row in raw.select_columns(name):
        found = row[name]
        if found is not None and found.get("bytes") is None and found.get("path"):
            yield found["path"], None
        else:
            yield None, None if found is None else found["bytes"]


def _paths_column(table: Any) -> str:
    names = [
        name for name in table.columns
        if len(table) and isinstance(table[name].iloc[0], str | PathLike)
    ]  # fmt: skip
    if len(names) != 1:
        raise InputError(
            f"{len(names)} columns hold text ({', '.join(map(str, names))}): name that of the paths, "
            "column=..."
        )
    return str(names[0])


def _encoded(item: Any, place: int) -> tuple[bytes, str]:
    """The bytes of a file, and its suffix."""
    from PIL import Image

    if item is None:
        return MISSING, ".png"
    if isinstance(item, bytes):
        return item, _suffix(item)
    if not isinstance(item, Image.Image):
        item = Image.fromarray(_pixels(item, place))
    buffer = BytesIO()
    item.save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue(), ".png"


def _suffix(content: bytes) -> str:
    from rvqvae.io.pictures import FORMATS, open_picture

    try:
        with open_picture(content) as picture:
            return FORMATS.get(picture.format or "", (".png",))[0]
    except Exception:  # It is kept, as unreadable.
        return ".png"


def _pixels(item: Any, place: int) -> Any:
    """uint8 (H,W) or (H,W,3) of an array, or of a tensor with its channels first."""
    import numpy as np

    try:
        values = np.asarray(item)
    except (TypeError, ValueError) as error:
        raise InputError(f"image {place} is a {type(item).__name__}: give PIL images or arrays") from error
    if values.ndim == 3 and values.shape[0] in (1, 3) and values.shape[2] not in (1, 3):
        values = values.transpose(1, 2, 0)
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[..., 0]
    if values.dtype.kind == "f" and values.size and 0 <= values.min() <= values.max() <= 1:
        values = (255 * values).round().astype(np.uint8)
    if values.dtype != np.uint8 or values.ndim not in (2, 3):
        raise InputError(
            f"image {place} is {values.dtype} of shape {values.shape}: give uint8 (H,W) or (H,W,3), or "
            "floats from 0 to 1"
        )
    return np.ascontiguousarray(values)
