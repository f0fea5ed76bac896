"""The command `search`: what it finds, writes and refuses."""

import csv
import os

import numpy as np
import pytest
from PIL import Image

from data.recipes import load
from rvqvae.commands.main import main
from rvqvae.commands.options import FitOptions
from rvqvae.commands.search import neighbours, same_picture, search, table_of
from rvqvae.commands.train import train
from rvqvae.errors import InputError

DIGITS, CLOTHES = 90, 20
HOSTILE = (
    "$a_b^c$.png",
    "two\nlines.png",
    "漢字 and a rather long name.png",
    os.fsdecode(b"latin\xe9\xff.png"),
)


def save(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, format="PNG")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Digits and clothes, a broken file, a copy and the same digit compressed."""
    folder = tmp_path_factory.mktemp("source") / "photos"
    digits, clothes = load("mnist")[0][:DIGITS], load("fashion_mnist")[0][:CLOTHES]
    names = [*HOSTILE, *(f"digit/{i:02d}.png" for i in range(len(HOSTILE), DIGITS))]
    for name, image in zip(names, digits, strict=True):
        save(folder / name, image)
    for i, image in enumerate(clothes):
        save(folder / f"cloth/{i:02d}.png", image)
    (folder / "broken.png").write_bytes(b"not a picture")
    (folder / "copy.png").write_bytes((folder / "digit/10.png").read_bytes())
    Image.fromarray(digits[10]).save(folder / "small.jpg", quality=95)
    return folder


@pytest.fixture(scope="module")
def model(photos, tmp_path_factory):
    out = tmp_path_factory.mktemp("trained") / "model"
    train(photos, out, FitOptions(epochs=1, prior_epochs=0))
    return out


@pytest.mark.parametrize("n", [1, 2, 40, 300])
def test_neighbours_are_those_of_a_full_search(n):
    rng = np.random.default_rng(n)
    vectors = rng.standard_normal((n, 21)).astype(np.float32)
    queries = vectors[: min(n, 9)] + 0.01
    k = min(n, 10)
    near = neighbours(queries, vectors, k)
    distances = np.sqrt(((queries[:, None] - vectors) ** 2).sum(2))
    np.testing.assert_array_equal(near.rows[:, 0], np.arange(len(queries)))
    np.testing.assert_allclose(near.distances, np.sort(distances, 1)[:, :k], rtol=1e-5)
    assert (np.diff(near.distances) >= 0).all()
    np.testing.assert_array_equal(near.rows, np.argsort(distances, 1)[:, :k])
    if n > 1:
        without = neighbours(queries, vectors, k - 1, np.arange(len(queries)))
        assert not (without.rows == np.arange(len(queries))[:, None]).any()


def test_finds_its_own_kind_and_not_itself(model, photos):
    done = search(model, photos / "cloth/03.png", photos, k=8)
    assert done.queries == 1 and done.unreadable == 1 and done.images == DIGITS + CLOTHES + 3
    assert [m.rank for m in done.matches] == list(range(1, 9))
    assert all(m.query == "03.png" for m in done.matches)
    paths = [m.path for m in done.matches]
    assert "cloth/03.png" not in paths and len(set(paths)) == 8
    assert sum(p.startswith("cloth/") for p in paths) >= 7
    assert all(a.distance <= b.distance for a, b in zip(done.matches, done.matches[1:], strict=False))


def test_near_duplicates_come_first_and_are_named(model, photos):
    matches = search(model, photos / "digit/10.png", photos, k=5).matches
    assert [m.path for m in matches[:2]] == ["copy.png", "small.jpg"]
    assert [m.near_duplicate for m in matches] == [True, True, False, False, False]
    assert matches[0].distance < 1e-4 < matches[1].distance < 0.9 * matches[2].distance


def test_the_table_and_the_picture(model, photos, tmp_path):
    out, picture = tmp_path / "new" / "matches.csv", tmp_path / "matches.png"
    done = search(model, photos, photos, out=out, k=3, picture=picture)
    with open(out, encoding="utf-8", errors="surrogateescape", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(done.matches) == 3 * (DIGITS + CLOTHES + 2)
    assert set(HOSTILE) <= {row["query"] for row in rows}
    assert all(row["query"] != row["path"] for row in rows)
    assert rows[0].keys() == {"query", "rank", "path", "distance", "near_duplicate"}
    assert [float(row["distance"]) for row in rows] == pytest.approx(
        [m.distance for m in done.matches], rel=1e-5
    )
    with Image.open(picture) as shown:
        assert shown.format == "PNG" and shown.width > 800
    assert sorted(p.name for p in tmp_path.iterdir()) == ["matches.png", "new"]


def test_a_query_does_not_depend_on_the_others_and_a_seed_repeats(model, photos):
    every = search(model, photos, photos, k=5, seed=3).matches
    alone = search(model, photos / "cloth/03.png", photos, k=5, seed=3).matches
    together = [m for m in every if m.query == "cloth/03.png"]
    assert [m.path for m in together] == [m.path for m in alone]
    np.testing.assert_allclose([m.distance for m in together], [m.distance for m in alone], atol=1e-4)
    assert search(model, photos / "cloth/03.png", photos, k=5, seed=3).matches == alone


def test_other_sources(model, tmp_path):
    digits, clothes = load("mnist")[0][:30], load("fashion_mnist")[0][:8]
    np.savez(tmp_path / "digits.npz", x=digits)
    np.savez(tmp_path / "both.npz", x=np.concatenate([digits, clothes]))
    done = search(model, tmp_path / "digits.npz", tmp_path / "both.npz", k=1)
    assert [m.path for m in done.matches] == [f"x[{i}]" for i in range(30)]
    assert all(m.near_duplicate for m in done.matches)
    itself = search(model, tmp_path / "digits.npz", tmp_path / "digits.npz", k=29)
    assert all(m.query != m.path for m in itself.matches)
    np.savez(tmp_path / "one.npz", x=digits[:1])
    assert len(search(model, tmp_path / "digits.npz", tmp_path / "one.npz", k=1).matches) == 30


def test_same_picture_is_told_from_another():
    digits = load("mnist")[0][:2, None]
    assert same_picture(digits[0], digits[0]) and not same_picture(digits[0], digits[1])
    assert not same_picture(digits[0], np.zeros_like(digits[0]))


def test_what_the_command_says(model, photos, tmp_path, capsys):
    arguments = ["search", str(model), str(photos / "digit/10.png"), str(photos), "-k", "2"]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert "Most like 10.png:\n1. copy.png (distance 0.000, the same picture)\n" in said
    assert "1 query among 113 images, 1 unreadable." in said
    assert main([*arguments, "--out", str(tmp_path / "m.csv"), "--picture", str(tmp_path / "m.png")]) == 0
    assert f"What was found is in {tmp_path / 'm.csv'} and {tmp_path / 'm.png'}." in capsys.readouterr().out
    many = search(model, photos, photos, k=1).matches
    assert len(table_of(many)) == 11 and "107 more queries" in table_of(many)[-1]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"k": 0}, "k=0 is out of range"),
        ({"k": 113}, "k=113 is more than the 112 readable images"),
        ({"seed": -1}, "seed=-1"),
        ({"query": "missing.png"}, "does not exist"),
        ({"query": "broken.png"}, "none of the 1 image files can be read"),
        ({"images": "missing"}, "does not exist"),
        ({"model": "missing"}, "is not a folder"),
        ({"out": "matches.csv"}, "is inside"),
        ({"picture": "a.png"}, "is inside"),
        ({"out": "."}, "is inside"),
    ],
)
def test_bad_input_is_one_clear_line(model, photos, capsys, change, message):
    values = {"model": model, "query": photos / "digit/10.png", "images": photos, "k": 3}
    values |= {k: photos / v if isinstance(v, str) else v for k, v in change.items()}
    flags = [f"--{name}={values[name]}" for name in ("out", "picture", "seed") if name in values]
    places = [str(values[name]) for name in ("model", "query", "images")]
    capsys.readouterr()
    assert main(["search", *places, "-k", str(values["k"]), *flags]) == 2
    *_, line = capsys.readouterr().err.splitlines()
    assert line.startswith("rvqvae: ") and message in line


def test_a_folder_as_table_is_refused(model, photos, tmp_path):
    with pytest.raises(InputError, match="is a folder: give a file"):
        search(model, photos, photos, out=tmp_path)
