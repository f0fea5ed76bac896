"""`rvqvae cluster`: groups of images, what is written, and what is refused."""

import csv
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import adjusted_rand_score

from rvqvae.clustering import clusters
from rvqvae.clustering.clusters import default_clusters, find_clusters
from rvqvae.commands.cluster import COLUMNS, RESULTS, cluster
from rvqvae.commands.main import main
from rvqvae.errors import InputError

DATA = Path(__file__).parents[1] / "data"
SHIRTS, DIGITS, CLUSTERS = 60, 90, 6


def pixels(name, count):
    with np.load(DATA / name) as arrays:
        return arrays["x"][:count].reshape(count, 28, 28)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Digits and clothes, a broken file and a duplicate."""
    source = tmp_path_factory.mktemp("source") / "photos"
    (source / "sub").mkdir(parents=True)
    for i, image in enumerate(pixels("mnist_5000.npz", DIGITS)):
        Image.fromarray(image).save(source / f"digit{i:02d}.png")
    for i, image in enumerate(pixels("fashion_mnist_2500.npz", SHIRTS)):
        Image.fromarray(image).save(source / "sub" / f"shirt,{i:02d}.png")
    (source / "broken.png").write_bytes(b"not a picture")
    (source / "zcopy.png").write_bytes((source / "digit00.png").read_bytes())
    return source


@pytest.fixture(scope="module")
def done(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("groups") / "out"
    assert main(["cluster", str(folder), "--out", str(out), "--clusters", str(CLUSTERS)]) == 0
    return out


@pytest.fixture
def quick(monkeypatch):
    """Groups of little training, where their quality does not count."""
    monkeypatch.setattr(clusters, "MAX_EPOCHS", 10)


def rows_of(out):
    with open(out / "clusters.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_every_file_has_a_row(folder, done):
    rows = {row["path"]: row for row in rows_of(done)}
    assert tuple(rows["broken.png"]) == COLUMNS
    assert set(rows) == {path.relative_to(folder).as_posix() for path in folder.rglob("*.png")}
    for name, status in (("broken.png", "unreadable"), ("zcopy.png", "duplicate")):
        assert (rows[name]["status"], rows[name]["cluster"], rows[name]["probability"]) == (status, "", "")
    sorted_ = [row for row in rows.values() if row["status"] == "ok"]
    assert len(sorted_) == SHIRTS + DIGITS
    assert all(1 / CLUSTERS <= float(row["probability"]) <= 1 and len(row["sha256"]) == 64 for row in sorted_)


def test_digits_and_clothes_are_told_apart(done):
    rows = [row for row in rows_of(done) if row["status"] == "ok"]
    shirts = Counter(row["cluster"] for row in rows if "shirt" in row["path"])
    sizes = Counter(row["cluster"] for row in rows)
    assert sum(max(shirts[k], sizes[k] - shirts[k]) for k in sizes) > 0.9 * len(rows)


def test_summary_and_pictures_agree_with_the_table(done):
    summary = json.loads((done / "summary.json").read_text())
    labels = [int(row["cluster"]) for row in rows_of(done) if row["cluster"]]
    sizes = [group["images"] for group in summary["clusters"]]
    assert sizes == np.bincount(labels).tolist() == sorted(sizes, reverse=True)
    assert (summary["images"], summary["clustered"]) == (SHIRTS + DIGITS + 2, SHIRTS + DIGITS)
    assert (summary["unreadable"], summary["duplicates"]) == (1, 1)
    assert (summary["reduced_to_8_bits"], summary["left_out"], summary["archives"]) == (0, {}, [])
    assert summary["command"].startswith("rvqvae cluster ") and summary["seed"] == 0
    assert {p.name for p in done.iterdir() if not p.name.startswith(".")} == set(RESULTS)
    assert sorted(p.name for p in (done / "clusters").iterdir()) == [f"0{k}.png" for k in range(CLUSTERS)]
    with Image.open(done / "clusters" / "00.png") as grid:
        assert grid.size == (16 * 30 + 2, -(-sizes[0] // 16) * 30 + 2)
    with Image.open(done / "clusters.png") as sheet:
        assert sheet.size[0] > 1000


def test_the_same_command_again_does_nothing_and_another_is_refused(folder, done, capsys):
    before = {path: path.stat().st_mtime_ns for path in done.rglob("*.png")}
    assert main(["cluster", str(folder), "--out", str(done), "--clusters", str(CLUSTERS)]) == 0
    assert "done before" in capsys.readouterr().out
    assert before == {path: path.stat().st_mtime_ns for path in done.rglob("*.png")}
    assert main(["cluster", str(folder), "--out", str(done), "--clusters", "3"]) == 2
    assert f"clusters={CLUSTERS}" in capsys.readouterr().err


@pytest.mark.parametrize(
    "clusters, says",
    [(1, "clusters=1 is out of range"), (151, "clusters=151 is more than the 150 different")],
)
def test_bad_numbers_of_clusters(folder, tmp_path, clusters, says, capsys):
    assert main(["cluster", str(folder), "--out", str(tmp_path / "out"), "--clusters", str(clusters)]) == 2
    *_, line = capsys.readouterr().err.splitlines()
    assert line.startswith("rvqvae: ") and says in line
    assert not (tmp_path / "out").exists()


def test_results_never_lie_in_the_source(folder):
    with pytest.raises(InputError, match="is inside"):
        cluster(folder, folder / "out")


def test_fewer_files_later_leave_no_old_pictures(folder, quick, tmp_path):
    source, out = tmp_path / "photos", tmp_path / "out"
    source.mkdir()
    for i, image in enumerate(pixels("mnist_5000.npz", 75)):
        Image.fromarray(image).save(source / f"{i:02d}.png")
    assert len(cluster(source, out).summary["clusters"]) == 3
    for path in sorted(source.iterdir())[:25]:
        path.unlink()
    again = cluster(source, out)
    assert not again.done_before and len(again.summary["clusters"]) == 2
    assert sorted(p.name for p in (out / "clusters").iterdir()) == ["00.png", "01.png"]


def test_the_seed_decides(folder, quick, tmp_path):
    made = [
        cluster(folder, tmp_path / str(run), clusters=CLUSTERS, seed=seed).out
        for run, seed in enumerate((0, 0, 1))
    ]
    one, again, other = ([row["probability"] for row in rows_of(out)] for out in made)
    assert one == again != other


# Groups


def vectors_in_groups(n):
    """(n, 12), one half of them far from the other."""
    draw = np.random.default_rng(0)
    return (draw.normal(size=(n, 12)) + 9 * (np.arange(n) < n // 2)[:, None]).astype(np.float32)


def test_groups_of_any_number():
    vectors = vectors_in_groups(30)
    found = find_clusters(vectors, 2)
    assert found.labels.shape == found.probability.shape == (30,)
    assert adjusted_rand_score(np.arange(30) < 15, found.labels) == 1
    alone = find_clusters(vectors, 1)
    assert not alone.labels.any() and (alone.probability == 1).all()
    with pytest.raises(InputError, match="31 is more than the 30"):
        find_clusters(vectors, 31)


def test_images_that_are_not_learned_from_are_assigned():
    found = find_clusters(vectors_in_groups(400), 2, most=60)
    assert adjusted_rand_score(np.arange(400) < 200, found.labels) == 1


def test_default_number_of_groups():
    assert [default_clusters(n) for n in (1, 24, 49, 50, 499, 500, 10**6)] == [2, 2, 2, 2, 19, 20, 20]
