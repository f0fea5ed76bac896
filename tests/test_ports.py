"""In and out: images of any kind into `rvqvae.clean`, results into the formats of other tools."""

import csv
import json
from importlib.metadata import version
from io import BytesIO

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import rvqvae
from data.recipes import load
from rvqvae.commands.export import CLEANVISION
from rvqvae.commands.main import main
from rvqvae.errors import InputError
from rvqvae.io.issues import KINDS

N = 30


@pytest.fixture(scope="module")
def images():
    return np.concatenate([load("mnist")[0][: N - 3], load("fashion_mnist")[0][:3]])


@pytest.fixture(scope="module")
def photos(images, tmp_path_factory):
    folder = tmp_path_factory.mktemp("in") / "photos"
    folder.mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{i:02d} é.png")
    (folder / "copy.png").write_bytes((folder / "00 é.png").read_bytes())
    (folder / "zz.png").write_bytes(b"none")
    return folder


@pytest.fixture(scope="module")
def cleaned(photos, tmp_path_factory):
    out = tmp_path_factory.mktemp("cleaned") / "out"
    return rvqvae.clean(str(photos), out, train=False, contamination=0.1), out


def png(image):
    buffer = BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    return buffer.getvalue()


class HuggingFace:
    """What we use of datasets.Dataset (tried with the real one: see pipelines/README.md)."""

    class Image:
        def __init__(self, decode=True):
            self.decode = decode

    def __init__(self, rows, decode=True, columns=("label", "picture")):
        features = {"label": object(), "picture": self.Image(decode)}
        self.rows, self.features = rows, {name: features[name] for name in columns}

    def cast_column(self, name, feature):
        assert name == "picture" and not feature.decode
        return HuggingFace(self.rows, decode=False)

    def select_columns(self, name):
        assert not self.features["picture"].decode
        return [{name: row} for row in self.rows]


def test_a_folder_gives_its_manifest(cleaned, photos):
    table, out = cleaned
    assert list(table.path) == sorted(path.name for path in photos.iterdir())
    assert table.attrs["summary"]["kept"] == table.keep.sum() == len(table) - 3 - 2
    assert not (out.parent / "out.images").exists()


def inputs(photos, images):
    paths = sorted(map(str, photos.iterdir()))
    tensors = images[:, None].astype(np.float32) / 255
    return {
        "paths": (paths, paths),
        "series": (pd.Series(paths), paths),
        "table": (pd.DataFrame({"n": range(len(paths)), "file": paths}), paths),
        "array": (images, None),
        "torch": ([(tensor, 3) for tensor in tensors], None),
        "pil": ([Image.fromarray(image) for image in images], None),
        "hf": (HuggingFace([{"bytes": png(image), "path": None} for image in images]), None),
    }


@pytest.mark.parametrize("kind", ["table", "torch", "hf"])
def test_every_kind_gives_what_the_folder_gives(kind, cleaned, photos, images, tmp_path):
    given, sources = inputs(photos, images)[kind]
    table = rvqvae.clean(given, tmp_path / "out", train=False, contamination=0.1)
    assert list(table.source) == (sources or list(range(N)))
    named = cleaned[0].set_index("path") if sources else cleaned[0][cleaned[0].status == "ok"]
    expected = named.loc[[path.rsplit("/")[-1] for path in sources]] if sources else named
    np.testing.assert_allclose(table.score, expected.score, atol=1e-3)
    assert list(table.keep) == list(expected.keep)


@pytest.mark.parametrize("kind", ["paths", "series", "array", "pil"])
def test_files_are_the_same_for_the_same_images(kind, photos, images, tmp_path):
    from rvqvae.commands.table import _as_files

    given, _ = inputs(photos, images)[kind]
    folder, sources = _as_files(given, None, tmp_path / "out.images")
    before = {path.name: path.lstat().st_mtime_ns for path in folder.iterdir()}
    assert _as_files(given, None, folder) == (folder, sources)
    assert {path.name: path.lstat().st_mtime_ns for path in folder.iterdir()} == before
    if sources == list(range(N)):
        np.testing.assert_array_equal(rvqvae.load_images(folder).images[:, 0], images)


def test_a_missing_image_is_a_row(images, tmp_path):
    rows = [{"bytes": png(image), "path": None} for image in images]
    table = rvqvae.clean(HuggingFace([*rows, None]), tmp_path / "out", train=False)
    assert list(table.status) == ["ok"] * N + ["unreadable"] and table.source.iloc[-1] == N


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (iter([1]), "are no sequence"),
        ([np.zeros((8, 8), np.float64) + 7], "image 0 is float64"),
        (pd.DataFrame({"a": ["x.png"], "b": ["y"]}), "2 columns hold text"),
        (HuggingFace([]), "sequence of images is empty"),
        ({"train": [1]}, "are no sequence.* such as its 'train'"),
        (["none.png"], "none of the 1 image files can be read"),
        (HuggingFace([None], columns=("label",)), "none of the columns label is of images"),
    ],
)
def test_what_is_no_set_of_images(given, message, tmp_path):
    with pytest.raises(InputError, match=message):
        rvqvae.clean(given, tmp_path / "out")
    # So that the next call, with what was meant, is not refused for what this one left.
    assert not list(tmp_path.iterdir())


def test_fit_says_how_names_are_read():
    for given in (["a.png"], pd.Series(["a.png"]), pd.DataFrame({"n": [1], "path": ["a.png"]})):
        with pytest.raises(InputError, match=r"'a.png' is a name, not an image"):
            rvqvae.RobustVQVAE().fit(given)


def exported(cleaned, tmp_path, tool, name):
    assert main(["export", str(cleaned[1]), "--to", tool, "--out", str(tmp_path / name)]) == 0
    return tmp_path / name


def test_fiftyone_s_table_names_files_that_are_there(cleaned, photos, tmp_path):
    with exported(cleaned, tmp_path, "fiftyone", "a.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["filepath"] for row in rows] == sorted(map(str, photos.iterdir()))[:-1]
    assert sum(row["keep"] == "false" for row in rows) == 4


def test_label_studio_s_tasks_begin_with_the_most_doubtful(cleaned, photos, tmp_path):
    path = exported(cleaned, tmp_path, "label-studio", "tasks.json")
    tasks = json.loads(path.read_text())
    doubt = cleaned[0][cleaned[0].status == "ok"].outlier_probability.sub(0.5).abs()
    assert tasks[0]["data"]["path"] == cleaned[0].path[doubt.idxmin()] and len(tasks) == N + 1
    assert tasks[0]["data"]["image"].startswith("/data/local-files/?d=photos/") and " " not in str(
        tasks[0]["data"]["image"]
    )
    choices = [task["predictions"][0]["result"][0]["value"]["choices"] for task in tasks]
    assert choices.count(["does not belong"]) == 4
    assert all(f'value="{choice}"' in path.with_suffix(".xml").read_text() for (choice,) in choices)


def test_what_opens_the_tasks_can_be_pasted_into_a_shell(cleaned, photos, tmp_path, capsys):
    (tmp_path / "my photos").mkdir()
    (tmp_path / "my photos" / "set").symlink_to(photos)
    words = ["--to", "label-studio", "--images", str(tmp_path / "my photos" / "set")]
    assert main(["export", str(cleaned[1]), *words, "--out", str(tmp_path / "tasks.json")]) == 0
    said = capsys.readouterr().out
    assert f"LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT='{tmp_path}/my photos' label-studio" in said


def test_datalab_s_issues(cleaned, tmp_path):
    table = pd.read_csv(exported(cleaned, tmp_path, "datalab", "issues.csv"))
    assert table.is_outlier_issue.sum() == 3 and table.outlier_score.between(0, 1).sum() == N
    assert table.path[table.is_exact_duplicates_issue].tolist() == ["copy.png"]
    assert set(CLEANVISION) == set(KINDS) and not table.is_label_issue.any()


def test_croissant_names_its_table(cleaned, tmp_path):
    import hashlib

    path = exported(cleaned, tmp_path, "croissant", "set.json")
    told = json.loads(path.read_text())
    (file,) = told["distribution"]
    table = tmp_path / file["contentUrl"]
    assert hashlib.sha256(table.read_bytes()).hexdigest() == file["sha256"]
    columns = [field["source"]["extract"]["column"] for field in told["recordSet"][0]["field"]]
    assert columns == table.read_text().splitlines()[0].split(",")


def test_an_export_of_nothing(cleaned, tmp_path, capsys):
    words = ["--to", "fiftyone", "--out", str(tmp_path / "a.csv")]
    assert main(["export", str(tmp_path), *words]) == 2
    assert main(["export", str(cleaned[1]), "--images", str(tmp_path), *words]) == 2
    said = capsys.readouterr().err.splitlines()
    assert "holds no finished cleaning" in said[0] and "say with --images where" in said[1]
    assert not list(tmp_path.iterdir())


def test_json_quiet_and_verbose(cleaned, photos, tmp_path, capsys):
    words = ["clean", str(photos), "--out", str(cleaned[1]), "--no-train", "--contamination", "0.1"]
    assert main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["done_before"] and told["summary"] == cleaned[0].attrs["summary"]
    assert main([*words, "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    assert main([*words, "--quiet", "--json"]) == 2
    assert main(["clean", "nowhere", "--out", str(tmp_path / "a"), "--verbose"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_a_model_folder_says_what_it_is(cleaned):
    text = (cleaned[1] / "model" / "README.md").read_text(encoding="utf-8")
    assert "images of 1 x 28 x 28" in text and f"of {N} samples" in text and "fewer than 100" in text
    assert f"| torch | {version('torch')} |" in text
