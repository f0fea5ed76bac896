import hashlib
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rvqvae.errors import InputError
from rvqvae.io.manifest import Row, copy_kept, read_manifest, write_manifest

HEADER = "path,sha256,status,score,outlier_probability,keep,reason\n"
ALL = HEADER.replace("\n", ",issues,label,suggested_label,label_probability\n")
# Whatever a file system may hold: any text, and bytes that are not UTF-8.
NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1) | st.binary(
    min_size=1
).map(lambda name: name.replace(b"\0", b"x").decode("utf-8", "surrogateescape"))
NUMBERS = st.floats(allow_nan=False)


def row(path: str, content: bytes, keep: bool = True, status="ok") -> Row:
    return Row(path, hashlib.sha256(content).hexdigest(), status, 0.5, 0.25, keep, "")


def fill(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


FILES = {"a.png": b"one", "sub/b.png": b"two", "sub/c.png": b"three"}
ROWS = [row(name, content) for name, content in FILES.items()]


@settings(deadline=None)
@given(
    rows=st.lists(
        st.builds(
            Row,
            path=NAMES,
            sha256=st.sampled_from(["", "0" * 64]),
            status=st.sampled_from(["ok", "unreadable", "duplicate"]),
            score=NUMBERS,
            outlier_probability=NUMBERS,
            keep=st.booleans(),
            reason=NAMES,
            issues=st.sampled_from(["", "dark", "dark; odd size"]),
            label=NAMES | st.just(""),
            suggested_label=NAMES | st.just(""),
            label_probability=NUMBERS,
        )
    )
)
def test_any_manifest_round_trips(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("manifest") / "manifest.csv"
    write_manifest(path, rows)
    assert read_manifest(path) == rows


def test_what_the_file_looks_like(tmp_path):
    rows = [
        Row('a,"b"\n<i>.png', "12ab", "ok", -0.1, float(np.float32(0.3)), True, ""),
        Row(os.fsdecode(b"\xff.png"), "", "unreadable", float("nan"), float("nan"), False, "it is empty"),
    ]
    write_manifest(tmp_path / "manifest.csv", rows)
    assert (tmp_path / "manifest.csv").read_bytes() == ALL.encode() + (
        b'"a,""b""\n<i>.png",12ab,ok,-0.1,0.30000001192092896,true,,,,,\n'
        b"\xff.png,,unreadable,,,false,it is empty,,,,\n"
    )
    again = read_manifest(tmp_path / "manifest.csv")
    assert again[0] == rows[0]
    assert np.isnan(again[1].score) and np.isnan(again[1].outlier_probability)
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.csv"]


def test_edited_manifests_are_understood(tmp_path):
    path = tmp_path / "manifest.csv"
    words = ["True", "TRUE", "1", "yes", "true", "False", "FALSE", "0", "No", "false"]
    lines = [f"ok,{i}.png,{word},,,,x,mine" for i, word in enumerate(words)]
    text = "\r\n".join(["status,path,keep,score,outlier_probability,sha256,reason,note", *lines])
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert [row.keep for row in read_manifest(path)] == [True] * 5 + [False] * 5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "lacks the column 'path'"),
        (HEADER.replace(",keep", ""), "lacks the column 'keep'"),
        (HEADER.replace(",", ";"), "lacks the column 'path', and ';' for commas: a manifest has"),
        (HEADER.replace(",", "\t"), "lacks the column 'path', and .* for commas"),
        (HEADER.encode("utf-16"), "UTF-16 text: save it as UTF-8"),
        (HEADER + '"a\nb.png",,ok,1,1,true,\nb.png,,ok,1,1,maybe,\n', "line 4: keep='maybe'"),
        (HEADER + "a.png,,ok,1,1,,\n", "line 2: keep=''"),
        (HEADER + "a.png,,ok,high,1,true,\n", "line 2: score='high'"),
        (HEADER + 'a.png,,ok,1,"0,5",true,\n', "line 2: outlier_probability='0,5'"),
        (HEADER + "a.png,,fine,1,1,true,\n", "line 2: status='fine'"),
        (HEADER + "a.png,,ok\n", "line 2 has too few fields"),
        (HEADER + '"a.png,,ok,1,1,true,\n', "line 2: unexpected end"),
    ],
)
def test_damaged_manifests_are_refused(tmp_path, text, message):
    (tmp_path / "manifest.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=message):
        read_manifest(tmp_path / "manifest.csv")


def test_missing_and_unwritable_manifests(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="No such file"):
        read_manifest(tmp_path / "manifest.csv")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("rvqvae.atomic.os.fsync", full)
    with pytest.raises(InputError, match="No space left"):
        write_manifest(tmp_path / "manifest.csv", ROWS)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("archived", [False, True])
def test_the_kept_files_are_copied(tmp_path, archived):
    names = {os.fsdecode(b"\xff.png"): b"x", "new\nline.png": b"y"} if not archived else {}
    files = FILES | names
    fill(tmp_path / "in", files)
    source = tmp_path / "in"
    if archived:
        source = tmp_path / "in.zip"
        with zipfile.ZipFile(source, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
    rows = [row(name, content) for name, content in files.items()]
    rows[1] = rows[1]._replace(keep=False)
    rows[2] = rows[2]._replace(status="unreadable")
    assert copy_kept(rows, source, tmp_path / "out", link=False) == len(rows) - 2
    assert contents(tmp_path / "out") == {"a.png": b"one"} | names
    assert contents(tmp_path / "in") == files
    # Taken up again, with more to copy.
    rows = [row._replace(keep=True, status="ok") for row in rows]
    assert copy_kept(rows, source, tmp_path / "out", link=False) == len(rows)
    assert contents(tmp_path / "out") == files


def test_links(tmp_path, monkeypatch):
    fill(tmp_path / "in", FILES)
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert copy_kept(ROWS, "in", "out", link=True) == 3
    assert os.readlink("out/sub/b.png") == str(tmp_path / "in" / "sub" / "b.png")
    assert contents(tmp_path / "out") == FILES
    with pytest.raises(InputError, match=r"sub/b\.png is there already"):
        Path("out/sub/b.png").unlink()
        Path("out/sub/b.png").symlink_to("elsewhere")
        copy_kept(ROWS, "in", "out", link=True)
    np.savez("a.npz", x=np.zeros((2, 8, 8), np.uint8))
    with pytest.raises(InputError, match="cannot be linked"):
        copy_kept(ROWS, "a.npz", "out", link=True)


@pytest.mark.parametrize("name", ["../a.png", "sub/../../a.png", "/tmp/a.png", "way/a.png"])
@pytest.mark.parametrize("archived", [False, True])
def test_nothing_leaves_the_folder(tmp_path, name, archived):
    fill(tmp_path, {"in/x/a.png": b"one", "in/a.png": b"one", "a.png": b"one", "elsewhere/x": b""})
    source = tmp_path / "in" / "x"
    if archived:
        source = tmp_path / "in.zip"
        with zipfile.ZipFile(source, "w") as archive:
            archive.writestr(name, b"one")
            archive.writestr("good.png", b"two")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "way").symlink_to(tmp_path / "elsewhere")
    before = contents(tmp_path)
    with pytest.raises(InputError, match="leads out of"):
        copy_kept([row("good.png", b"two"), row(name, b"one")], source, tmp_path / "out", link=False)
    assert contents(tmp_path) == before


def test_nothing_is_overwritten(tmp_path):
    fill(tmp_path / "in", FILES)
    fill(tmp_path / "out", {"sub/b.png": b"mine"})
    with pytest.raises(InputError, match=r"sub/b\.png is there already"):
        copy_kept(ROWS, tmp_path / "in", tmp_path / "out", link=False)
    assert contents(tmp_path / "out")["sub/b.png"] == b"mine"
    with pytest.raises(InputError, match=r"a\.png is there already"):
        copy_kept(ROWS, tmp_path / "in", tmp_path / "out", link=True)


def test_changed_and_missing_files_are_refused(tmp_path):
    fill(tmp_path / "in", FILES)
    fill(tmp_path / "in", {"sub/b.png": b"changed"})
    with pytest.raises(InputError, match=r"sub/b\.png has changed"):
        copy_kept(ROWS, tmp_path / "in", tmp_path / "out", link=False)
    (tmp_path / "in" / "sub" / "b.png").unlink()
    with pytest.raises(InputError, match=r"lacks 1 of the 3 images that the manifest keeps, 'sub/b\.png'"):
        copy_kept(ROWS, tmp_path / "in", tmp_path / "links", link=True)
    assert not (tmp_path / "links").exists()


def test_the_source_is_never_written_to(tmp_path):
    fill(tmp_path / "in", FILES)
    for out in (tmp_path / "in", tmp_path / "in" / "clean"):
        with pytest.raises(InputError, match="never written to"):
            copy_kept(ROWS, tmp_path / "in", out, link=False)
    assert contents(tmp_path / "in") == FILES


def test_a_full_disk(tmp_path, monkeypatch):
    fill(tmp_path / "in", FILES)

    def full(*_):
        raise OSError(28, "No space left on device")

    with (
        monkeypatch.context() as patch,
        pytest.raises(InputError, match=r"out/a\.png cannot be written: No space"),
    ):
        patch.setattr("rvqvae.atomic.os.replace", full)
        copy_kept(ROWS, tmp_path / "in", tmp_path / "out", link=False)
    assert contents(tmp_path / "out") == {}
    assert copy_kept(ROWS, tmp_path / "in", tmp_path / "out", link=False) == 3


@pytest.mark.parametrize("shape", [(3, 9, 10), (3, 9, 10, 3), (3, 3, 9, 10)])
def test_rows_of_a_npz(tmp_path, shape):
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    np.savez(tmp_path / "in.npz", x=images)
    rows = [row(f"x[{i}]", image.tobytes(), keep=i != 1) for i, image in enumerate(images)]
    for _ in range(2):
        assert copy_kept(rows, tmp_path / "in.npz", tmp_path / "out", link=False) == 2
    with np.load(tmp_path / "out" / "clean.npz") as file:
        np.testing.assert_array_equal(file["x"], images[[0, 2]])
    with pytest.raises(InputError, match=r"clean\.npz is there already"):
        copy_kept(rows[:1], tmp_path / "in.npz", tmp_path / "out", link=False)
    for bad in (row("x[0]", b"other"), row("x[7]", b""), row("a.png", b"")):
        with pytest.raises(InputError, match=r"has changed|cannot be read"):
            copy_kept([bad], tmp_path / "in.npz", tmp_path / "new", link=False)
