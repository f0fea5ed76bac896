"""Every regular file is accounted for: read, or counted by suffix and said on screen."""

import io
import json
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features
from test_sources import encode, save

from rvqvae.commands.main import main
from rvqvae.commands.read import account_lines
from rvqvae.errors import InputError
from rvqvae.io.left_out import LeftOut, kind_of
from rvqvae.io.pictures import SUFFIXES
from rvqvae.io.reading import read_source
from rvqvae.io.sources import open_source

RNG = np.random.default_rng(0)


def picture(shape: tuple[int, ...] = (16, 16)) -> np.ndarray:
    return RNG.integers(0, 256, shape, np.uint8)


def mixed_suffixes(folder: Path) -> int:
    """60 PNGs and 87 files of other kinds, an archive among them; return how many of the 87 are images."""
    for i in range(60):
        save(folder / f"{i:03}.png", encode(picture()))
    formats = {
        ".jfif": "JPEG", ".jpe": "JPEG", ".ppm": "PPM", ".pgm": "PPM", ".pnm": "PPM", ".pbm": "PPM",
        ".avif": "AVIF", ".JFIF": "JPEG",
    }  # fmt: skip
    for suffix, format in formats.items():
        for i in range(8):
            shape = (16, 16, 3) if suffix in (".ppm", ".avif") else (16, 16)
            one = picture(shape)
            save(folder / "sub" / f"{i}{suffix}", encode(one > 99 if suffix == ".pbm" else one, format))
    others = {
        "a.heic": 4, "a.txt": 5, "a.json": 3, "Thumbs.db": 1, ".DS_Store": 1, "._a.png": 2, ".b.png": 1,
        "README": 1, "more.zip": 1, "a.mp4": 3, "a.svg": 1,
    }  # fmt: skip
    for name, count in others.items():
        for i in range(count):
            save(folder / "beside" / str(i) / name, b"none that is read")
    assert sum(others.values()) + 8 * len(formats) == 87
    return 8 * len(formats)


@pytest.mark.parametrize("archived", [False, True])
def test_147_files_are_147(tmp_path, archived, monkeypatch):
    without_heif(monkeypatch)
    known = mixed_suffixes(tmp_path / "in")
    source = tmp_path / "in"
    if archived:
        source = tmp_path / "in.zip"
        with zipfile.ZipFile(source, "w") as archive:
            for file in (tmp_path / "in").rglob("*"):
                archive.write(file, file.relative_to(tmp_path / "in"))
    found = read_source(source)
    assert features.check("avif")
    assert {entry.status for entry in found.entries} == {"ok"}
    assert len(found.entries) == 60 + known
    assert len(found.entries) + sum(found.left_out.counts.values()) == 147
    assert found.left_out.as_json() == {
        ".txt": 5, ".heic": 4, "system files": 4, ".json": 3, ".mp4": 3, ".svg": 1, ".zip": 1,
        "hidden files": 1, "no suffix": 1,
    }  # fmt: skip
    assert found.left_out.archives == ["beside/0/more.zip"]


def without_heif(monkeypatch):
    """As if pillow-heif was not installed."""
    monkeypatch.setattr("rvqvae.io.sources.SUFFIXES", SUFFIXES - {".heic", ".heif"})


def test_heic_where_the_extra_is_installed(tmp_path):
    heif = pytest.importorskip("pillow_heif")
    one = np.kron(picture((4, 4, 3)), np.ones((8, 8, 1), np.uint8))
    heif.from_pillow(Image.fromarray(one)).save(tmp_path / "a.heic", quality=-1)
    found = read_source(tmp_path)
    assert found.entries[0].status == "ok"
    assert np.abs(found.images[0].transpose(1, 2, 0).astype(int) - one).mean() < 8


def test_hidden_folders_are_counted_and_take_nothing_away(tmp_path):
    save(tmp_path / "in" / ".real" / "a.png", encode(picture()))
    save(tmp_path / "in" / ".git" / "objects" / "12ab", b"")
    save(tmp_path / "in" / "__MACOSX" / "._a.png", b"")
    (tmp_path / "in" / "shown").symlink_to(".real")
    (tmp_path / "in" / ".hidden").symlink_to(tmp_path)
    found = read_source(tmp_path / "in")
    assert [entry.path for entry in found.entries] == ["shown/a.png"]
    assert found.left_out.as_json() == {"hidden files": 2, "system files": 1}


def test_other_members_of_a_shard_are_counted(tmp_path):
    (tmp_path / "in").mkdir()
    with tarfile.open(tmp_path / "in" / "t.tar", "w") as archive:
        for name, content in (("0.png", encode(picture())), ("0.cls", b"3"), ("0.json", b"{}")):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    for source in (tmp_path / "in", tmp_path / "in" / "t.tar"):
        assert read_source(source).left_out.as_json() == {".cls": 1, ".json": 1}


def test_archives_in_an_archive_are_named(tmp_path):
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        for name, content in (("0.png", encode(picture())), ("a/b.tar", b""), ("c.parquet", b"")):
            archive.writestr(name, content)
    assert sorted(read_source(tmp_path / "in.zip").left_out.archives) == ["a/b.tar", "c.parquet"]


def test_a_folder_without_images_says_what_it_holds(tmp_path):
    save(tmp_path / "a.mp4", b"")
    save(tmp_path / "b.zip", b"")
    with pytest.raises(InputError, match=r"holds no images.*1 \.zip.*Not looked into: b\.zip"):
        read_source(tmp_path)


def test_what_is_said(tmp_path, capsys, monkeypatch):
    without_heif(monkeypatch)
    mixed_suffixes(tmp_path / "in")
    assert main(["clean", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "124 images, 124 readable, 0 unreadable" in said
    assert "Left out, as no images: 5 .txt, 4 .heic, 4 system files, 3 .json" in said
    assert "rvqvae[heif]" in said and "Not looked into: beside/0/more.zip." in said
    account = {"left_out": {".txt": 2, ".png~": 1}, "archives": [], "label_conflicts": 2, "levels": [0, 4095]}
    assert account_lines(account) == [
        "2 images are in two classes, label conflicts: see their reason.",
        "Grey values of more than 8 bits have one scale: 0 is black, 4095 white.",
        "Left out, as no images: 2 .txt, 1 .png~.",
    ]
    assert account_lines(account, copied=True)[-1] == (
        "Beside the images, 2 files may hold labels; the copy is without."
    )
    assert account_lines({}) == []


def test_counts_go_through_json():
    left_out = LeftOut()
    for name in ("a.TXT", "b/c.txt", "d.ZIP", "desktop.ini", "../x.png"):
        left_out.add(name)
    again = LeftOut.read(json.loads(json.dumps(left_out.as_json())), left_out.archives)
    assert again == left_out
    assert [kind_of(name) for name in (".a/b.txt", "a.tar.gz", "a")] == ["hidden files", ".gz", "no suffix"]


def test_a_source_is_listed_once(tmp_path, monkeypatch):
    """Reading, digest and copying share one list."""
    from rvqvae.commands.folder import digest_of
    from rvqvae.io.manifest import Row, check_linkable, copy_kept

    for i in range(12):
        save(tmp_path / "in" / f"{i}.png", encode(picture()))
    from rvqvae.io import sources

    walks = []
    walk = sources._walk
    monkeypatch.setattr(sources, "_walk", lambda root: walks.append(root) or walk(root))
    with open_source(tmp_path / "in") as source:
        check_linkable(source)
        before = digest_of(source)
        found = read_source(source)
        rows = [Row(e.path, e.sha256, e.status, 0.0, 0.0, True, "") for e in found.entries]
        assert copy_kept(rows, source, tmp_path / "out") == 12
    assert len(walks) == 1
    assert before == digest_of(tmp_path / "in")
