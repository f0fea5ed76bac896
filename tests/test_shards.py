"""Tar and Parquet shards: the same images as in a folder, and nothing lost where a shard is damaged."""

import io
import os
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from rvqvae.commands.clean import clean
from rvqvae.commands.folder import digest_of
from rvqvae.commands.options import FitOptions
from rvqvae.commands.score import score
from rvqvae.errors import InputError
from rvqvae.io.manifest import Row, copy_kept, read_manifest
from rvqvae.io.reading import Inventory, read_source
from rvqvae.io.shards import missing_shards

DATA = Path(__file__).parents[1] / "data"
FAST = FitOptions(size=8, epochs=1, prior_epochs=1, features="learned")
with np.load(DATA / "mnist_5000.npz") as arrays:
    DIGITS = arrays["x"][:60].reshape(60, 28, 28)


def png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


CONTENTS = {f"a/{i:03d}.png": png(image) for i, image in enumerate(DIGITS)}


def save_tar(path: Path, contents: dict[str, bytes], **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", **options) as archive:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def save_parquet(path: Path, rows: list, **options) -> Path:
    """As datasets writes a column of images."""
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"label": pa.array(range(len(rows))), "image": pa.array(rows, kind)})
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table, path, **options)
    return path


def parquet_rows(contents: dict[str, bytes]) -> list[dict]:
    return [{"bytes": content, "path": name} for name, content in contents.items()]


def some(start: int, stop: int) -> dict[str, bytes]:
    return dict(list(CONTENTS.items())[start:stop])


def reasons(inventory: Inventory) -> dict[str, str]:
    return {entry.path: entry.reason for entry in inventory.entries if entry.status != "ok"}


@pytest.fixture
def shards(tmp_path):
    """60 digits in three tars, below a folder."""
    for i in range(3):
        save_tar(tmp_path / "in" / "sub" / f"s-{i:04d}.tar", some(20 * i, 20 * i + 20))
    return tmp_path / "in"


def test_a_tar_is_read_as_a_zip_is(tmp_path):
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        for name, content in CONTENTS.items():
            archive.writestr(name, content)
    for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        path = save_tar(tmp_path / f"{form}.tar", CONTENTS | {"a/label.cls": b"7"}, format=form)
        one, other = read_source(path), read_source(tmp_path / "in.zip")
        assert [entry.path for entry in one.entries] == [f"{form}.tar/{name}" for name in CONTENTS]
        # Reasons may name other images, below the name of the shard.
        found = [entry._replace(reason=entry.reason.replace(f"{form}.tar/", "")) for entry in one.entries]
        assert [entry[1:] for entry in found] == [entry[1:] for entry in other.entries]
        np.testing.assert_array_equal(one.images, other.images)


def test_a_folder_of_shards_and_files(shards):
    (shards / "zz.png").write_bytes(CONTENTS["a/000.png"])
    inventory = read_source(shards)
    assert len(inventory.entries) == 61 and len(inventory.images) == 60
    assert inventory.entries[25].path == "sub/s-0001.tar/a/025.png"
    assert reasons(inventory) == {"zz.png": "exact duplicate of sub/s-0000.tar/a/000.png"}
    np.testing.assert_array_equal(inventory.images[:, 0], DIGITS)


@pytest.mark.parametrize(
    "options", [{}, {"row_group_size": 7}, {"use_dictionary": False, "compression": "zstd"}]
)
def test_parquet(tmp_path, options):
    path = save_parquet(tmp_path / "in" / "train.parquet", parquet_rows(CONTENTS), **options)
    for source in (path, path.parent):
        inventory = read_source(source, workers=3)
        names = [f"train.parquet/{i:07d}.png" for i in range(60)]
        assert [entry.path for entry in inventory.entries] == names
        np.testing.assert_array_equal(inventory.images[:, 0], DIGITS)


def test_parquet_rows_of_all_kinds(tmp_path):
    good = CONTENTS["a/000.png"]
    secret = tmp_path / "secret.png"
    secret.write_bytes(good)
    rows = [
        {"bytes": good, "path": None},
        {"bytes": good, "path": "../../b.JPG"},
        {"bytes": None, "path": str(secret)},
        None,
        {"bytes": b"", "path": "c.exe"},
        {"bytes": b"nonsense", "path": "d"},
    ]
    inventory = read_source(save_parquet(tmp_path / "t.parquet", rows), deduplicate=False)
    assert [entry.path for entry in inventory.entries] == [
        f"t.parquet/{i:07d}{suffix}" for i, suffix in enumerate([".png", ".jpg"] + 4 * [".png"])
    ]
    assert list(reasons(inventory).values()) == [
        "its bytes are not in the shard", "its bytes are not in the shard", "it is empty",
        "it is not an image of a known format",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("table", "works"),
    [
        ({"image": pa.array(list(CONTENTS.values()), pa.binary())}, True),
        ({"image": pa.array(list(CONTENTS.values()), pa.large_binary()), "b": list(range(60))}, True),
        ({"img": pa.array(parquet_rows(CONTENTS))}, True),
        ({"one": pa.array(parquet_rows(CONTENTS)), "two": pa.array(parquet_rows(CONTENTS))}, False),
        ({"image": list(range(60))}, False),
    ],
)
def test_columns(tmp_path, table, works):
    parquet.write_table(pa.table(table), tmp_path / "t.parquet")
    if works:
        np.testing.assert_array_equal(read_source(tmp_path / "t.parquet").images[:, 0], DIGITS)
    else:
        with pytest.raises(InputError, match="no column 'image' of encoded images"):
            read_source(tmp_path / "t.parquet")


def test_rows_are_found_in_any_order(tmp_path, monkeypatch):
    from rvqvae.io.sources import open_source

    monkeypatch.setattr("rvqvae.io.shards.KEPT", 4000)
    path = save_parquet(tmp_path / "t.parquet", parquet_rows(CONTENTS), row_group_size=50)
    with open_source(path) as source:
        for i in np.random.default_rng(0).integers(0, 60, 200):
            assert source.read(source.names[i]) == CONTENTS[f"a/{i:03d}.png"]


def test_without_pyarrow(tmp_path, monkeypatch):
    path = save_parquet(tmp_path / "t.parquet", parquet_rows(CONTENTS))
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"t\.parquet needs pyarrow to be read: install the extra"):
        read_source(path)


# Damage


def test_a_tar_cut_anywhere_keeps_what_is_before_the_cut(tmp_path):
    content = save_tar(tmp_path / "whole.tar", CONTENTS).read_bytes()
    starts = [content.find(one) for one in CONTENTS.values()]
    ends = [start + len(one) for start, one in zip(starts, CONTENTS.values(), strict=True)]
    for cut in np.random.default_rng(0).integers(512, ends[-1] + 512, 40):
        (tmp_path / "cut.tar").write_bytes(content[:cut])
        whole = sum(end <= cut for end in ends)
        if whole == 0:
            continue
        inventory = read_source(tmp_path / "cut.tar")
        assert len(inventory.images) == whole
        bad = reasons(inventory)
        assert bad.pop("cut.tar/") and all("shard ends before it does" in reason for reason in bad.values())
        assert len(bad) <= 1


def test_a_damaged_header_is_told(shards):
    path = shards / "sub" / "s-0001.tar"
    content = bytearray(path.read_bytes())
    at = content.find(b"a/030.png")
    content[at : at + 20] = bytes(range(20))
    path.write_bytes(content)
    inventory = read_source(shards)
    assert len(inventory.images) == 50
    assert reasons(inventory) == {"sub/s-0001.tar/": "it is damaged after the first 10 images"}


def test_shards_that_are_none(shards):
    (shards / "sub" / "bad.tar").write_bytes(b"this is no tar" * 100)
    (shards / "bad.parquet").write_bytes(b"PAR1 and this is no Parquet")
    (shards / "empty.tar").write_bytes(b"")
    (shards / "nowhere.tar").symlink_to("absent")
    os.mkfifo(shards / "pipe.tar")
    os.mkfifo(shards / "pipe.parquet")
    (shards / "folder.tar").mkdir()
    inventory = read_source(shards)
    assert len(inventory.images) == 60
    bad = reasons(inventory)
    assert set(bad) == {
        "bad.parquet/", "empty.tar/", "nowhere.tar/", "pipe.parquet/", "pipe.tar/", "sub/bad.tar/",
    }  # fmt: skip
    assert not any("\n" in reason for reason in bad.values())
    for name in ("sub/bad.tar", "bad.parquet", "empty.tar", "pipe.tar"):
        with pytest.raises(InputError, match=rf"{name} cannot be read: .*repair or remove it"):
            read_source(shards / name)
    with pytest.raises(InputError, match="does not exist"):
        read_source(shards / "absent.tar")


def test_missing_shards_are_named(shards):
    (shards / "sub" / "s-0001.tar").unlink()
    inventory = read_source(shards)
    assert len(inventory.images) == 40
    assert reasons(inventory) == {"sub/s-0001.tar/": "the shard is missing"}
    cases = {
        ("a-00001-of-00004.parquet",): {
            "a-00000-of-00004.parquet/": "the shard is missing, as are 2 more of its series"
        },
        ("a-00000-of-00001.parquet", "b-000007.tar", "20240101.tar", "20240105.tar", "x1.tar", "x3.tar"): {},
        ("b/000007.tar", "b/000009.tar", "c/000001.tar"): {"b/000008.tar/": "the shard is missing"},
    }
    for names, missing in cases.items():
        assert missing_shards(names) == missing


def test_a_shard_that_goes_away_while_it_is_read(shards):
    from rvqvae.io.pictures import Side, decode
    from rvqvae.io.sources import open_source

    with open_source(shards) as source:
        (shards / "sub" / "s-0002.tar").unlink()
        found = [decode(source, Side((28, 28), 1), name) for name in source.names]
    assert [isinstance(one, str) for one in found] == 40 * [False] + 20 * [True]
    assert found[-1] == "No such file or directory"


def test_members_that_are_no_plain_files(tmp_path):
    (tmp_path / "secret.png").write_bytes(CONTENTS["a/001.png"])
    with tarfile.open(tmp_path / "t.tar", "w") as archive:
        for name, kind in (
            ("l.png", tarfile.SYMTYPE),
            ("h.png", tarfile.LNKTYPE),
            ("p.png", tarfile.FIFOTYPE),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, str(tmp_path / "secret.png")
            archive.addfile(member)
        folder = tarfile.TarInfo("folder.png")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, content in (("./a.png", b"old"), ("a.png", CONTENTS["a/000.png"]), ("b.png", b"")):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    inventory = read_source(tmp_path / "t.tar")
    assert reasons(inventory) == {
        "t.tar/b.png": "it is empty",
        **{
            f"t.tar/{x}.png": "it is a link or a sparse file, which is not followed in a shard" for x in "lhp"
        },
    }
    np.testing.assert_array_equal(inventory.images[:, 0], DIGITS[:1])


def test_a_changed_shard_counts_as_a_change(shards):
    before = digest_of(shards)
    assert digest_of(shards) == before
    save_tar(shards / "sub" / "s-0001.tar", some(20, 39))
    assert digest_of(shards) != before


# Jobs


def test_jobs_take_shards(shards, tmp_path):
    whole = save_parquet(tmp_path / "t.parquet", parquet_rows(CONTENTS))
    done = clean(shards, tmp_path / "out", FAST, copy=True)
    rows = {row.path: row for row in read_manifest(done.out / "manifest.csv")}
    assert len(rows) == 60
    for path, row in rows.items():
        copy = done.out / "clean" / path
        assert copy.exists() == row.keep
        assert not row.keep or copy.read_bytes() == CONTENTS[path.split(".tar/")[1]]
    assert clean(shards, tmp_path / "out", FAST, copy=True).done_before
    table = score(done.out, whole, tmp_path / "scores.csv", maps=tmp_path / "maps")
    assert (table.images, table.unreadable) == (60, 0)
    assert len(list((tmp_path / "maps").glob("t.parquet/*.png"))) == 60
    again = read_source(done.out / "clean")
    assert len(again.images) == sum(row.keep for row in rows.values())


def test_members_cannot_be_linked_to(shards, tmp_path):
    path = shards / "sub" / "s-0000.tar"
    for source, message in ((shards, r"holds the shard sub/s-0000\.tar"), (path, "is not a folder")):
        with pytest.raises(InputError, match=f"{message}.* linked to: copy them"):
            clean(source, tmp_path / "out", FAST, link=True)
    assert not (tmp_path / "out").exists()


def test_no_member_leads_out_of_a_copy(tmp_path):
    good = CONTENTS["a/000.png"]
    path = save_tar(tmp_path / "in" / "t.tar", {"../x.png": good, "a/../../../x.png": good, "/x.png": good})
    (entry,) = read_source(path).entries
    assert entry.path == "t.tar//x.png"
    row = Row(entry.path, entry.sha256, "ok", 0.0, 0.0, True, "")
    assert copy_kept([row], path, tmp_path / "out") == 1
    assert (tmp_path / "out" / "t.tar" / "x.png").read_bytes() == good
    with pytest.raises(InputError, match="leads out of"):
        copy_kept([row._replace(path="t.tar/../../x.png")], path, tmp_path / "out" / "deep")
    assert {one.name for one in tmp_path.iterdir()} == {"in", "out"}
