"""What a folder, a .zip, a .npz or a shard holds: one list of its images, and an account of the rest."""

from __future__ import annotations

import os
import stat
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from heapq import heappop, heappush
from pathlib import Path, PurePosixPath

from PIL import Image

from rvqvae.errors import InputError
from rvqvae.io.left_out import LeftOut, is_hidden
from rvqvae.io.npz import open_npz
from rvqvae.io.pictures import SUFFIXES, open_picture, why
from rvqvae.io.shards import SHARDS, Shard, check_bytes, is_shard, missing_shards, open_shard

KINDS = "a folder nor a .zip nor a .npz nor a .tar nor a .parquet"


@dataclass(frozen=True)
class Source:
    """The images of a folder, a .zip, a .npz or a shard: their names, and how to get at them."""

    path: Path
    """Where it is."""
    names: list[str]
    """POSIX paths, sorted; ``x[0]``, ``x[1]``... in a .npz. A folder that cannot be listed and a shard that
    is missing or damaged are names, with a ``/`` at their end, so that no image is missed in silence."""
    read: Callable[[str], bytes]
    """The bytes of a name; raises whatever goes wrong."""
    open: Callable[[bytes], Image.Image] = open_picture
    """The picture in such bytes, its pixels not decoded yet; raises whatever goes wrong."""
    files: Sequence[str] = ("",)
    """What it consists of on the disk, below `path`: images and shards; the empty name is `path` itself."""
    left_out: LeftOut = field(default_factory=LeftOut)
    """Every other regular file."""
    channels: int | None = None
    """1 or 3 if the source itself says so, as a .npz does."""
    shape: tuple[int, ...] = ()
    """Of a row of a .npz."""


@contextmanager
def open_source(path: str | Path | Source) -> Iterator[Source]:
    """Open a folder, .zip, .npz, .tar or .parquet for reading; InputError if it is none or holds no image.

    Files count as images by their suffix, whatever is in them; hidden ones and ``__MACOSX`` are left out.
    Links are followed, but each folder is visited once. Of members of one name in a .zip or .tar the last
    counts, as when it is unpacked. The images of a shard, be it given or in a folder, are named below it:
    ``shard-0001.tar/a/b.png``, ``train.parquet/0000012.jpg``. A source that is open already comes back.
    """
    if isinstance(path, Source):
        yield path
        return
    path = Path(path)
    archive = None
    try:
        if path.is_dir():
            source = _folder(path)
        elif path.suffix.lower() == ".zip":
            archive = zipfile.ZipFile(path)
            source = _zip(path, archive)
        elif path.suffix.lower() == ".npz":
            source = _npz(path)
        elif is_shard(path.name) and path.exists():
            source = _shard(path)
        elif path.exists():
            raise InputError(f"{path} is neither {KINDS}: give one, such as the folder that holds it")
        else:
            raise FileNotFoundError
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist: give {KINDS.replace(' nor', ',')}") from error
    except Exception as error:
        raise unreadable(str(path), why(error)) from error
    try:
        if not source.names:
            held = "".join(f" {line}" for line in source.left_out.lines())
            raise InputError(
                f"{path} holds no images: give one with files that end in "
                f"{', '.join(sorted({*SUFFIXES, *SHARDS}))}.{held}"
            )
        yield source
    finally:
        if archive is not None:
            archive.close()


def unreadable(name: str, reason: str) -> InputError:
    return InputError(f"{name} cannot be read: {reason}: repair or remove it")


def _folder(path: Path) -> Source:
    files, left_out = [], LeftOut()
    for name in _walk(str(path)):
        # Folders that cannot be listed end in a slash.
        if not is_hidden(name) and (name.endswith("/") or is_shard(name) or _is_image(name)):
            files.append(name)
        else:
            left_out.add(name)
    return _tree(path, sorted(files), missing_shards(filter(is_shard, files)), left_out)


def _shard(path: Path) -> Source:
    source = _tree(path.parent, [path.name], {}, LeftOut())
    if source.names == [f"{path.name}/"]:
        source.read(source.names[0])
    return replace(source, path=path, files=("",))


def _zip(path: Path, archive: zipfile.ZipFile) -> Source:
    left_out = LeftOut()
    members = {name for name in archive.namelist() if not name.endswith("/")}
    for name in sorted(members):
        if not _is_image(name):
            left_out.add(name)
    return Source(path, sorted(filter(_is_image, members)), partial(_read_member, archive), left_out=left_out)


def _npz(path: Path) -> Source:
    rows = open_npz(path)
    return Source(
        path,
        [f"x[{i}]" for i in range(rows.shape[0])],
        lambda name: rows.read(int(name[2:-1])),
        rows.picture,
        channels=rows.channels,
        shape=rows.shape[1:],
    )


def _walk(root: str) -> Iterator[str]:
    """Names of the files below `root`; of folders that cannot be listed, with a ``/``.

    Every folder is visited once, so loops of links end: under its own name before that of a link, and under
    one that is not hidden before one that is. Hidden links are not followed.
    """
    seen: set[tuple[int, int]] = set()
    waiting = [(False, False, "")]
    while waiting:
        hidden, _, folder = heappop(waiting)
        try:
            status = os.stat(os.path.join(root, folder))
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(os.path.join(root, folder)) as found:
                items = list(found)
        except OSError:
            if not folder:
                raise
            yield folder
            continue
        for item in items:
            name, link = folder + item.name, item.is_symlink()
            hide = hidden or is_hidden(item.name)
            if not (hide and link) and (os.path.isdir(item.path) if link else item.is_dir()):
                heappush(waiting, (hide, link, f"{name}/"))
            else:
                yield name


def _is_image(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in SUFFIXES and not is_hidden(name)


def _tree(root: Path, files: list[str], faults: dict[str, str], left_out: LeftOut) -> Source:
    """The images among the files below `root`, and those in the shards among them; `faults` are names too."""
    shards = {
        name: open_shard(os.path.join(root, name), name, _is_image, left_out.add)
        for name in files
        if is_shard(name)
    }
    faults = faults | {f"{name}/": shard.fault for name, shard in shards.items() if shard.fault}
    names = [name for name in files if name not in shards]
    for shard in shards.values():
        names += shard.names
    read = partial(_read_below, str(root), shards, faults)
    return Source(root, sorted([*names, *faults]), read, files=files, left_out=left_out)


def _read_below(root: str, shards: dict[str, Shard], faults: dict[str, str], name: str) -> bytes:
    if name in faults:
        raise ValueError(faults[name])
    end = name.find("/") if shards else -1
    while end >= 0:
        if (shard := shards.get(name[:end])) is not None:
            return shard.read(name)
        end = name.find("/", end + 1)
    return _read_file(root, name)


def _read_file(root: str, name: str) -> bytes:
    path = os.path.join(root, name)
    status = os.stat(path)
    if stat.S_ISDIR(status.st_mode):
        raise ValueError("the folder cannot be listed")
    if not stat.S_ISREG(status.st_mode):  # Reading a pipe would wait for ever.
        raise ValueError("it is not a regular file")
    check_bytes(status.st_size)
    with open(path, "rb") as file:
        return file.read()


def _read_member(archive: zipfile.ZipFile, name: str) -> bytes:
    check_bytes(archive.getinfo(name).file_size)
    return archive.read(name)
