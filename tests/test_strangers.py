"""Files from strangers: damaged or hostile ones give InputError or what they hold, and nothing else."""

import io
import json
import resource
import struct
import tarfile
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pyarrow import parquet

from rvqvae.commands.folder import STATE, locked
from rvqvae.errors import InputError
from rvqvae.io.manifest import Row, copy_kept, read_manifest, write_manifest
from rvqvae.io.npz import MAX_ARRAY
from rvqvae.io.reading import read_source
from rvqvae.io.shards import _leaf
from rvqvae.model_folder import ARRAYS, FACTS, FORMAT, read_model

DIGITS = np.random.default_rng(0).integers(0, 256, (6, 9, 10), np.uint8)
FUZZ = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def tar_of(**options) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", **options) as archive:
        for i, image in enumerate(DIGITS):
            content, member = png(image), tarfile.TarInfo(f"{i}é.png" if i % 2 else "long/" * 30 + f"{i}.png")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def zip_of(compression: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for i, image in enumerate(DIGITS):
            archive.writestr(f"{i}.png", png(image))
    return buffer.getvalue()


def npz_of(save) -> bytes:
    buffer = io.BytesIO()
    save(buffer, x=DIGITS)
    return buffer.getvalue()


def parquet_of(**options) -> bytes:
    rows = [{"bytes": png(image), "path": f"{i}.png"} for i, image in enumerate(DIGITS)]
    buffer = io.BytesIO()
    parquet.write_table(pa.table({"image": rows}), buffer, **options)
    return buffer.getvalue()


FORMATS = {
    "gnu.tar": tar_of(format=tarfile.GNU_FORMAT),
    "pax.tar": tar_of(format=tarfile.PAX_FORMAT),
    "stored.zip": zip_of(zipfile.ZIP_STORED),
    "deflated.zip": zip_of(zipfile.ZIP_DEFLATED),
    "stored.npz": npz_of(np.savez),
    "deflated.npz": npz_of(np.savez_compressed),
    "plain.parquet": parquet_of(),
    "groups.parquet": parquet_of(row_group_size=2, compression="zstd", use_dictionary=False),
}


def mutated(data: st.DataObject, content: bytes) -> bytes:
    """A few bytes changed, most of them at the two ends, where the formats say what they hold; or cut."""
    spoilt, size = bytearray(content), len(content)
    places = (
        st.integers(0, size - 1)
        | st.integers(0, min(600, size - 1))
        | st.integers(max(0, size - 400), size - 1)
    )
    for at in data.draw(st.lists(places, max_size=4)):
        spoilt[at] = data.draw(st.sampled_from(b"\0\1\x7f\x80\xff01789/.") | st.integers(0, 255))
    return bytes(spoilt[: data.draw(st.just(size) | st.integers(0, size))])


@pytest.mark.parametrize("name", FORMATS)
def test_sources_with_changed_bytes(tmp_path, name):
    whole = {tuple(image.ravel()) for image in DIGITS}

    @FUZZ
    @given(st.data())
    def check(data):
        (tmp_path / name).write_bytes(mutated(data, FORMATS[name]))
        with suppress(InputError):
            found = read_source(tmp_path / name, channels=1, workers=1)
            # What is called good is good, whatever was changed: the formats have checksums.
            if "tar" not in name and "parquet" not in name and found.side.size == DIGITS.shape[1:]:
                assert all(tuple(image.ravel()) in whole for image in found.images)

    check()
    (tmp_path / name).write_bytes(FORMATS[name])
    np.testing.assert_array_equal(
        sorted(read_source(tmp_path / name).images.tolist()), sorted(DIGITS[:, None].tolist())
    )


ROWS = [
    Row("a/b.png", "0" * 64, "ok", 1.5, 0.25, True, ""),
    Row('q"x\n,.png', "1" * 64, "ok", -1.5, 0.75, False, "outlier"),
    Row("c.png", "", "unreadable", float("nan"), float("nan"), False, "it is empty"),
]


@FUZZ
@given(st.data())
def test_manifests_with_changed_bytes(tmp_path, data):
    write_manifest(tmp_path / "m.csv", ROWS)
    (tmp_path / "m.csv").write_bytes(mutated(data, (tmp_path / "m.csv").read_bytes()))
    with suppress(InputError):
        assert all(isinstance(row, Row) for row in read_manifest(tmp_path / "m.csv"))


@FUZZ
@given(
    st.text(max_size=12) | st.sampled_from(["../x.png", "/x.png", "a/../../x.png", "\0.png", "..", ".", ""])
)
def test_no_name_of_a_manifest_leads_out(tmp_path, name):
    source, out = tmp_path / "in", tmp_path / "deep" / "out"
    source.mkdir(exist_ok=True)
    (source / "a.png").write_bytes(png(DIGITS[0]))
    (tmp_path / "x.png").write_bytes(png(DIGITS[1]))
    with suppress(InputError):
        copy_kept([Row(name, "", "ok", 0.0, 0.0, True, "")], source, out)
    assert {path.name for path in tmp_path.iterdir()} <= {"in", "x.png", "deep"}
    assert not list((tmp_path / "deep").rglob("*.png"))


def test_no_name_in_a_zip_leads_out(tmp_path):
    """Names with ``..`` are left out, as hidden ones are; a link is its content, which is a path."""
    absolute = f"{tmp_path}/x.png"
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for i, name in enumerate(["../x.png", "a/../../x.png", absolute, "good.png"]):
            archive.writestr(name, png(DIGITS[i]))
        link = zipfile.ZipInfo("link.png")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    entries = read_source(tmp_path / "a.zip").entries
    assert [entry.path for entry in entries] == [absolute, "good.png", "link.png"]
    assert entries[2].reason == "it is not an image of a known format"
    row = Row(absolute, entries[0].sha256, "ok", 0.0, 0.0, True, "")
    with pytest.raises(InputError, match="leads out of"):
        copy_kept([row], tmp_path / "a.zip", tmp_path / "out" / "in")
    assert not list(tmp_path.rglob("*.png"))


CONFIG = b"clean:\n  images: photos\n  out: cleaned\n  epochs: 3\n  contamination: 0.1\n  seed: 0\n"


@FUZZ
@given(st.data())
def test_configurations_with_changed_bytes(tmp_path, data):
    from rvqvae.commands.arguments import parse

    lines = b"\n".join(line.strip() for line in CONFIG.splitlines()[1:])
    (tmp_path / "c.yaml").write_bytes(mutated(data, lines))
    with suppress(InputError):
        parse(["clean", "--config", str(tmp_path / "c.yaml"), "photos", "--out", "cleaned"])


@pytest.mark.parametrize(
    "text",
    [
        "seed: !!python/object/apply:os.system ['touch ran']",
        "seed: !!python/name:os.system",
        "images: {class_path: os.system, init_args: {command: touch ran}}",
        "a: &a [x,x,x,x,x,x,x,x,x]\n"
        + "".join(
            f"{n}: &{n} [{','.join(9 * ['*' + p])}]\n" for p, n in zip("abcdefgh", "bcdefghi", strict=True)
        ),
    ],
)
def test_configurations_run_nothing(tmp_path, text, monkeypatch):
    from rvqvae.commands.arguments import parse

    monkeypatch.chdir(tmp_path)
    Path("c.yaml").write_text(text)
    with pytest.raises(InputError):
        parse(["clean", "--config", "c.yaml", "photos", "--out", "cleaned"])
    assert not Path("ran").exists()


# Bombs: what a few bytes claim or unfold to


@pytest.fixture
def little_memory():
    """4 GiB more than now: a claim that is believed fails."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + 2**32, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def npy_header(shape: tuple[int, ...]) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return buffer.getvalue()


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_an_array_that_claims_to_be_huge(tmp_path, compression, little_memory):
    with zipfile.ZipFile(tmp_path / "a.npz", "w", compression) as archive:
        archive.writestr("x.npy", npy_header((10**9, 100, 100)) + bytes(100))
    with pytest.raises(InputError, match=r"should have 10,000,000,000,000 bytes, and has 100"):
        read_source(tmp_path / "a.npz")


def test_an_array_that_unfolds_to_more_than_the_limit(tmp_path, monkeypatch, little_memory):
    monkeypatch.setattr("rvqvae.io.npz.MAX_ARRAY", 10**6)
    np.savez_compressed(tmp_path / "a.npz", x=np.zeros((1001, 10, 100), np.uint8))
    with pytest.raises(InputError, match="has 1,001,000 bytes, above the limit of 1,000,000"):
        read_source(tmp_path / "a.npz")
    assert MAX_ARRAY == 2**33


def test_objects_in_an_array_are_not_unpickled(tmp_path):
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "a.npz", x=np.array([{}, {}], object))
        with pytest.raises(InputError, match="its array x holds Python objects, and pickles are not loaded"):
            read_source(tmp_path / "a.npz")


def test_a_member_that_unfolds_to_more_than_the_limit(tmp_path, monkeypatch, little_memory):
    monkeypatch.setattr("rvqvae.io.shards.MAX_BYTES", 10**6)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", bytes(10**6 + 1))
        archive.writestr("b.png", png(DIGITS[0]))
    bad, _ = read_source(tmp_path / "a.zip").entries
    assert bad.reason == "it has 1,000,001 bytes, above the limit of 1,000,000"


def test_a_picture_of_too_many_pixels(tmp_path, little_memory):
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 50_000, 50_000, 1, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(50_000 * 50_000 // 800))
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(content)
    (tmp_path / "b.png").write_bytes(png(DIGITS[0]))
    bad, _ = read_source(tmp_path).entries
    assert bad.reason == (
        "it has 2,500,000,000 pixels, above the limit of 89,478,485: set RVQVAE_MAX_PIXELS=2500000000 to "
        "read it"
    )


@pytest.mark.parametrize("kind", [b"x", b"g", b"L", b"K"])
def test_a_tar_whose_header_claims_to_be_huge(tmp_path, kind, little_memory):
    member = tarfile.TarInfo("a")
    member.size, member.type = 10 * 2**30, kind
    (tmp_path / "a.tar").write_bytes(member.tobuf(tarfile.GNU_FORMAT) + FORMATS["gnu.tar"])
    with pytest.raises(InputError, match="a header of 10,737,418,240 bytes is above the limit of 1,048,576"):
        read_source(tmp_path / "a.tar")


def test_a_tar_whose_headers_go_in_circles(tmp_path):
    content = bytearray(FORMATS["gnu.tar"])
    at = content.find(b"1\xc3\xa9.png")
    content[at + 124 : at + 136] = b"\xff" * 10 + struct.pack(">h", -2048)  # a size below zero
    content[at + 148 : at + 156] = b" " * 8
    content[at + 148 : at + 156] = b"%06o\0 " % sum(content[at : at + 512])
    (tmp_path / "a.tar").write_bytes(content)
    with suppress(InputError):
        assert read_source(tmp_path / "a.tar").entries[0].reason


def test_parquet_of_more_rows_than_the_limit(tmp_path, monkeypatch, little_memory):
    monkeypatch.setattr("rvqvae.io.shards.MAX_ROWS", 10**5)
    parquet.write_table(pa.table({"image": pa.nulls(10**5 + 1, pa.binary())}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match="tells of 100,001 rows, above the limit of 100,000"):
        read_source(tmp_path / "a.parquet")


def test_parquet_that_repeats_a_large_value(tmp_path, monkeypatch):
    """A few kilobytes on the disk, and 60 MiB if they were decoded at once."""
    size = 2**18
    monkeypatch.setattr("rvqvae.io.shards.KEPT", size - 1)
    large = pa.array([bytes(size), png(DIGITS[0])], pa.binary())
    rows = pa.DictionaryArray.from_arrays(pa.array([0] * 240 + [1], pa.int32()), large)
    parquet.write_table(
        pa.table({"image": rows}), tmp_path / "a.parquet", compression="zstd",
        dictionary_pagesize_limit=2**30, store_schema=False,
    )  # fmt: skip
    assert (tmp_path / "a.parquet").stat().st_size < size / 10
    taken, before = [], pa.total_allocated_bytes()

    def leaf(batch):
        taken.append(pa.total_allocated_bytes() - before)
        return _leaf(batch)

    monkeypatch.setattr("rvqvae.io.shards._leaf", leaf)
    found = read_source(tmp_path / "a.parquet", workers=1)
    assert len(found.images) == 1 and found.entries[0].reason == "it is not an image of a known format"
    assert size < max(taken) < 10 * size


def test_a_model_whose_header_claims_to_be_huge(tmp_path, little_memory):
    import hashlib

    arrays = struct.pack("<Q", 10 * 2**30) + b'{"a": {"dtype": "F32"' + bytes(100)
    (tmp_path / ARRAYS).write_bytes(arrays)
    facts = {"format": FORMAT, "sha256": hashlib.sha256(arrays).hexdigest()}
    (tmp_path / FACTS).write_text(json.dumps(facts))
    with pytest.raises(InputError, match=r"is not a complete model \(SafetensorError: .*[Hh]eader"):
        read_model(tmp_path)


@pytest.mark.parametrize("bomb", ["[" * 10**6, '{"a":' * 10**6, '{"format": ' + "9" * 10**6 + "}"])
def test_json_that_is_nested_without_end(tmp_path, bomb, little_memory):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / FACTS).write_text(bomb)
    with pytest.raises(InputError, match="is damaged"):
        read_model(tmp_path / "model")
    (tmp_path / "out" / ".work").mkdir(parents=True)
    (tmp_path / "out" / ".work" / STATE).write_text(bomb)
    with (
        pytest.raises(InputError, match="is damaged"),
        locked(tmp_path / "out") as folder,
        folder.job({}, ""),
    ):
        pass


@pytest.mark.parametrize("name", [ARRAYS, FACTS])
def test_a_model_larger_than_the_limit(tmp_path, name, little_memory):
    (tmp_path / FACTS).write_text(json.dumps({"format": FORMAT, "sha256": ""}))
    with open(tmp_path / name, "ab") as file:
        file.truncate(2**33)
    with pytest.raises(InputError, match="has 8,589,934,592 bytes, above the limit of"):
        read_model(tmp_path)


def test_a_manifest_larger_than_the_limit(tmp_path, little_memory):
    with open(tmp_path / "m.csv", "wb") as file:
        file.truncate(2**33)
    with pytest.raises(InputError, match="has 8,589,934,592 bytes, above the limit of 4,294,967,296"):
        read_manifest(tmp_path / "m.csv")
