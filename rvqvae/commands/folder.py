"""The output folder of a job: for one job at a time, never over another's results, and taken up again."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from rvqvae.atomic import write_atomically
from rvqvae.errors import InputError
from rvqvae.io.sources import Source, open_source

WORK = ".work"
STATE, LOCK, PIXELS = "run.json", "lock", "images.npy"


@dataclass(frozen=True)
class Folder:
    """A locked output folder; what a job keeps between runs is in `work`."""

    path: Path

    @property
    def work(self) -> Path:
        return self.path / WORK

    @contextmanager
    def job(
        self,
        job: Mapping[str, Any],
        inputs: str,
        results: Iterable[str] = (),
        *,
        part: Mapping[str, Any] | None = None,
        copy: str = "",
    ) -> Iterator[bool]:
        """Claim the folder for a job; yield whether the job is done. If not, the block must do it.

        ``job``: what was asked for, as JSON. ``inputs``: a digest of the files that it reads. ``results``:
        names of files, all of which a finished job has. A job that was cut short is taken up again. It starts
        anew if its files have changed, or if the folder holds the same job with the settings ``part``, which
        does a part of it. Raises InputError for a folder that holds another job, and if files have changed
        since the folder ``copy`` was made of them.
        """
        state = self._state()
        self._check(state, job, part or {})
        unchanged = state is not None and state["inputs"] == inputs
        if copy and not unchanged and (self.path / copy).exists():
            raise InputError(
                f"{self.path / copy} is the copy of an earlier cleaning, whose images or labels were others: "
                "give another folder"
            )
        claimed = {"job": job, "inputs": inputs}
        done = False
        if state is not None and unchanged and not _difference(state["job"], job):
            done = bool(state["finished"]) and all((self.path / name).exists() for name in results)
        else:
            self._clear()
            self._write(claimed | {"finished": False})
        yield done
        if not done:
            self._write(claimed | {"finished": True})
            self._clear()
            for folder in (self.path, self.path / "model"):
                remove_partial(folder)

    def forget(self) -> None:
        """Leave no trace of a job that failed before it had anything to keep."""
        if set(os.listdir(self.work)) <= {STATE, LOCK, PIXELS} and not _content(self.path):
            shutil.rmtree(self.work)
            self.path.rmdir()

    def _check(
        self, state: Mapping[str, Any] | None, job: Mapping[str, Any], part: Mapping[str, Any]
    ) -> None:
        """InputError unless the folder is empty, or its ``state`` is that of this job or of a part of it."""
        if state is None:
            if _content(self.path):
                raise InputError(f"{self.path} is not empty: give a new folder")
            return
        is_part = all(state["job"].get(name) == value for name, value in part.items())
        if difference := _difference(state["job"], {**job, **part} if is_part else job):
            raise InputError(f"{self.path} holds another run, with {difference}: give another folder")

    def _state(self) -> dict[str, Any] | None:
        path = self.work / STATE
        if not path.exists():
            return None
        try:
            state: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            state["job"], state["inputs"], state["finished"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise InputError(f"{path} is damaged: remove {self.path} or give another folder") from error
        return state

    def _write(self, state: Mapping[str, Any]) -> None:
        write_atomically(self.work / STATE, (json.dumps(state, indent=2) + "\n").encode())

    def _clear(self) -> None:
        for path in self.work.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name not in (STATE, LOCK):
                path.unlink()


@contextmanager
def locked(out: Path) -> Iterator[Folder]:
    """Lock an output folder that is new, empty, or one of ours; InputError otherwise, or if it is in use."""
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file: give a folder")
    if not (out / WORK).is_dir() and _content(out):
        raise InputError(f"{out} is not empty: give a new folder")
    (out / WORK).mkdir(parents=True, exist_ok=True)
    folder = Folder(out)
    with _alone(out / WORK, f"{out} is in use by another run: wait for it, or give another folder"):
        try:
            yield folder
        except InputError:
            folder.forget()
            raise


@contextmanager
def work_beside(out: Path) -> Iterator[Path]:
    """A folder to work in while the file `out` is made; what a killed run left there is removed.

    InputError if another run is making the same file.
    """
    work = out.with_name(f".{out.name}.work")
    work.mkdir(parents=True, exist_ok=True)
    with _alone(work, f"{out} is being written by another run: wait for it, or give another place"):
        try:
            for path in work.iterdir():
                if path.is_dir():
                    shutil.rmtree(path)
            remove_partial(out.parent, glob.escape(out.name))
            yield work
        finally:
            shutil.rmtree(work, ignore_errors=True)


@contextmanager
def _alone(work: Path, otherwise: str) -> Iterator[None]:
    """Hold the lock in ``work``; InputError, which says ``otherwise``, if another run does."""
    lock = FileLock(work / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise InputError(otherwise) from error
    try:
        yield
    finally:
        lock.release()


def remove_partial(folder: Path, name: str = "*") -> None:
    """Remove what killed runs left of files of a name that they were writing in a folder."""
    for path in folder.glob(f".{name}.*.partial"):
        path.unlink(missing_ok=True)


def check_outside(out: Path, *sources: str | Path) -> None:
    """InputError if `out` lies in one of the folders that are only read."""
    for source in map(Path, sources):
        if source.is_dir() and out.resolve().is_relative_to(source.resolve()):
            raise InputError(f"{out} is inside {source}, which is never written to: give another place")


def check_file(out: Path, example: str, *sources: str | Path) -> None:
    """`check_outside` of a file to write; InputError for a folder."""
    check_outside(out, *sources)
    if out.is_dir():
        raise InputError(f"{out} is a folder: give a file, such as {out / example}")


def digest_of(*sources: str | Path | Source, model: Path | None = None) -> str:
    """Of the names, sizes and times of change of what a job reads; InputError if a source is missing.

    As for ``make``, a file of the same name, size and time counts as unchanged.
    """
    files = []
    for one in sources:
        with open_source(one) as source:
            files += [source.path / name for name in source.files]
    if model is not None:
        files += sorted(path for path in model.iterdir() if path.is_file())
    digest = hashlib.sha256()
    for file in files:
        try:
            status = os.stat(file)
            what = f"{status.st_size} {status.st_mtime_ns}"
        except OSError as error:  # Such as a link to nowhere, which the reading will name.
            what = type(error).__name__
        digest.update(os.fsencode(f"{file}\0{what}\n"))
    return digest.hexdigest()


def _content(folder: Path) -> list[str]:
    return [name for name in os.listdir(folder) if name != WORK] if folder.exists() else []


def _difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """The first setting in which two jobs differ, in words, or nothing."""
    new = json.loads(json.dumps(new))
    for name in [*new, *old]:
        if old.get(name) != new.get(name):
            return f"{name}={old.get(name)!r} where this one has {new.get(name)!r}"
    return ""
