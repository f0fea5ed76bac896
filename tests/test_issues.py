"""Faults of single images: what is measured, what is named, and that nothing is dropped for it."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, ImageFilter
from sklearn.datasets import load_sample_images

from rvqvae.commands.clean import clean
from rvqvae.commands.main import main
from rvqvae.commands.options import FitOptions
from rvqvae.errors import InputError
from rvqvae.io import pictures
from rvqvae.io.issues import KINDS, blur_effect, find_issues, measure
from rvqvae.io.labels import read_labels
from rvqvae.io.manifest import read_manifest
from rvqvae.io.reading import read_source
from rvqvae.membership.labels import check_labels, mislabelled, neighbour_shares

DATA = Path(__file__).parents[1] / "data"
PHOTOS = [Image.fromarray(image) for image in load_sample_images().images]
UNTRAINED = FitOptions(epochs=0)


def crops(count, size=(96, 72)):
    rng = np.random.default_rng(0)
    for i in range(count):
        photo = PHOTOS[i % 2]
        width, height = 3 * size[0], 3 * size[1]
        left, top = int(rng.integers(photo.width - width)), int(rng.integers(photo.height - height))
        yield photo.crop((left, top, left + width, top + height)).resize(size)


def exposed(picture, change):
    return Image.fromarray(change(np.asarray(picture, float)).round().astype(np.uint8))


FAULTS = {
    "dark": lambda picture: exposed(picture, lambda values: values / 9),
    "bright": lambda picture: exposed(picture, lambda values: 255 - values[..., ::-1] / 40),
    "blurred": lambda picture: picture.filter(ImageFilter.GaussianBlur(4)),
    "low information": lambda picture: Image.new("RGB", picture.size, (90, 140, 200)),
    "odd size": lambda picture: picture.resize((16, 12)),
    "odd aspect ratio": lambda picture: picture.crop((0, 30, 96, 42)),
    "grey": lambda picture: picture.convert("L").convert("RGB"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """120 crops of photographs, then one of each kind of fault, and the first picture again, smaller."""
    folder = tmp_path_factory.mktemp("faults") / "photos"
    folder.mkdir()
    all_crops = list(crops(120 + len(FAULTS)))
    for i, picture in enumerate(all_crops[:120]):
        picture.save(folder / f"{i:03d}.png")
    for (kind, fault), picture in zip(FAULTS.items(), all_crops[120:], strict=True):
        fault(picture).save(folder / f"{kind}.png")
    all_crops[0].resize((80, 60)).save(folder / "near duplicate.png")
    return folder


@pytest.fixture(scope="module")
def cleaned(folder, tmp_path_factory):
    return clean(folder, tmp_path_factory.mktemp("out") / "out", UNTRAINED)


def test_every_kind_is_named_and_hardly_anything_else(cleaned):
    rows = {row.path: row for row in read_manifest(cleaned.out / "manifest.csv")}
    for kind in (*KINDS, "near duplicate"):
        assert kind in rows[f"{kind}.png"].issues.split("; ")
    # Five of the crops lie within 9 pixels, of 640, of another one.
    assert sum(bool(row.issues) for name, row in rows.items() if name[0].isdigit()) <= 6
    counts = cleaned.summary["issues"]
    assert set(counts) == {*KINDS, "near duplicate"}
    assert sum(counts.values()) == sum(len(row.issues.split("; ")) for row in rows.values() if row.issues)
    assert any(line.startswith("Issues to look at") and "1 dark" in line for line in cleaned.lines())


def test_nothing_is_dropped_for_an_issue_and_a_flag_leaves_them_out(folder, cleaned, tmp_path):
    plain = clean(folder, tmp_path / "out", UNTRAINED, no_issues=True)
    rows, others = (read_manifest(run.out / "manifest.csv") for run in (cleaned, plain))
    assert [row[:7] for row in rows] == [row[:7] for row in others]
    assert not any(row.issues for row in others) and plain.summary["issues"] == {}
    with pytest.raises(InputError, match="another run, with no_issues=True"):
        clean(folder, tmp_path / "out", UNTRAINED)


@settings(deadline=None, max_examples=30)
@given(arrays(np.uint8, st.tuples(st.integers(8, 40), st.integers(8, 40), st.just(3))))
def test_figures_are_those_of_the_pixels(values):
    found = measure(Image.fromarray(values))
    brightness = np.sqrt((values.astype(float) ** 2 * [0.241, 0.691, 0.068]).sum(2)) / 255
    low, high = np.percentile(brightness, [5, 99], method="lower")
    np.testing.assert_allclose([found.low, found.high], [low, high], atol=1e-5)
    assert found.colour == (values.max(2).astype(int) - values.min(2)).max()
    histogram = np.concatenate([np.bincount(values[..., c].ravel(), minlength=256) for c in range(3)])
    share = histogram[histogram > 0] / histogram.sum()
    assert found.entropy == pytest.approx(-(share * np.log2(share)).sum(), abs=1e-5)


def slow_blur_effect(picture):
    """Crete et al. 2007, pixel by pixel."""
    results = []
    for lines in (picture, picture.T):
        height, width = lines.shape
        total = lost = 0.0
        for y in range(height):
            blurred = {x: lines[y, x - 1 : x + 2].mean() for x in range(1, width - 1)}
            for x in range(1, width - 2):
                own = abs(lines[y, x + 1] - lines[y, x])
                total += own
                lost += max(0.0, own - abs(blurred[x + 1] - blurred[x]))
        results.append(1 - lost / total if total else np.nan)
    return np.nanmax(results)


def test_blur_is_as_written_and_grows_with_a_blur():
    picture = PHOTOS[0].resize((40, 30)).convert("L")
    effects = []
    for radius in (0, 1, 2, 4):
        values = np.asarray(picture.filter(ImageFilter.GaussianBlur(radius)), np.float32)
        effects.append(blur_effect(values))
        assert effects[-1] == pytest.approx(slow_blur_effect(values.astype(float)), abs=1e-4)
    assert effects == sorted(effects)
    assert np.isnan(blur_effect(np.full((9, 9), 7, np.float32)))


def test_what_half_of_a_set_is_like_is_no_fault():
    night = [exposed(picture, lambda values: values / 9) for picture in crops(30)]
    black = Image.new("RGB", (96, 72))
    figures = [measure(picture) for picture in (*night, black)]
    found = find_issues(figures, [(72, 96)] * 31)
    assert not found["dark"][:30].any() and found["low information"][30]
    assert not found["odd size"].any() and not found["odd aspect ratio"].any()
    greys = [measure(picture.convert("L")) for picture in crops(10)]
    assert not find_issues(greys, [(72, 96)] * 10)["grey"].any()


def test_no_size_is_odd_among_many_sizes():
    figures = [measure(picture) for picture in crops(40)]
    rng = np.random.default_rng(0)
    sizes = [(int(side), int(side * 4 / 3)) for side in 400 * np.exp(rng.normal(0, 0.7, 40))]
    assert not find_issues(figures, sizes)["odd size"].any()
    assert find_issues(figures, [*sizes[:-1], (2, 3)])["odd size"].tolist() == [*39 * [False], True]


def test_images_are_decoded_once(folder, monkeypatch):
    names = []
    read = pictures._read_upright

    def noted(source, name, side):
        names.append(name)
        return read(source, name, side)

    monkeypatch.setattr(pictures, "_read_upright", noted)
    read_source(folder, size=32, channels=3, issues=True)
    assert sorted(names) == sorted(path.name for path in folder.iterdir())


# Labels that people gave


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "lacks the column 'path'"),
        ("path;label\na.png;cat\n", "lacks the column 'path'"),
        ("path,class\na.png,cat\n", "lacks the column 'label': labels are a CSV with path,label"),
        (
            "path,label\na.png,cat\nx.png,dog\ny.png,dog\n",
            "in 2 of its lines: 'x.png', 'y.png'",
        ),
        ("path,label\na.png,cat\na.png,dog\n", "line 3: 'a.png' is 'dog' here and 'cat' above"),
        ("path,label\na.png,\n", "holds no label"),
        ('path,label\n"a.png,cat\n', "line 2: unexpected end"),
    ],
)
def test_damaged_labels_are_refused(tmp_path, text, message):
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        read_labels(tmp_path / "labels.csv", ["a.png", "b.png"])


def test_labels_may_be_few_and_have_other_columns(tmp_path):
    (tmp_path / "labels.csv").write_bytes(b"\xef\xbb\xbfid,label,path\r\n1, cat ,a.png\r\n2,,b.png\r\n")
    assert read_labels(tmp_path / "labels.csv", ["a.png", "b.png"]) == {"a.png": "cat"}


def test_bad_labels_are_one_line_and_leave_nothing(folder, tmp_path, capsys):
    (tmp_path / "labels.csv").write_text("path,label\ngone.png,cat\n")
    arguments = [
        "clean",
        str(folder),
        "--out",
        str(tmp_path / "out"),
        "--labels",
        str(tmp_path / "labels.csv"),
    ]
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "gone.png" in line and "write paths as manifest.csv has them" in line
    assert [path.name for path in tmp_path.iterdir()] == ["labels.csv"]


def test_equal_images_of_two_labels_are_a_conflict(tmp_path):
    ten = list(crops(10))
    for i, picture in enumerate([*ten, ten[0], ten[1]]):
        picture.save(tmp_path / f"{i:02d}.png")
    labels = dict.fromkeys(["00.png", "01.png", "11.png"], "cat") | {"10.png": "dog"}
    entries = read_source(tmp_path, labels=labels, issues=True).entries
    assert entries[10].issues == ("label conflict",) and entries[10].label == "dog"
    assert entries[11].status == "duplicate" and entries[11].issues == ()


@pytest.mark.parametrize("suffix", ["png", "bmp"])
@pytest.mark.parametrize("labelled", ["00.png", "10"])
def test_an_equal_image_without_a_label_is_a_duplicate(suffix, labelled, tmp_path):
    """Whichever comes first, byte for byte or pixel for pixel; the one that stays has the label."""
    ten = list(crops(10))
    for i, picture in enumerate(ten):
        picture.save(tmp_path / f"{i:02d}.png")
    ten[0].save(tmp_path / f"10.{suffix}")
    name = labelled if "." in labelled else f"10.{suffix}"
    entries = read_source(tmp_path, labels={name: "cat", "05.png": "dog"}, issues=True).entries
    assert [entry.status for entry in entries] == ["ok"] * 10 + ["duplicate"]
    assert entries[0].label == "cat" and not entries[0].reason
    assert not any("label conflict" in entry.issues for entry in entries)


# Which labels are likely wrong


def clusters(n=400, classes=4):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, n)
    return (np.eye(classes)[labels] * 8 + rng.normal(size=(n, classes))).astype(np.float32), labels


def test_wrong_labels_are_found_and_the_right_ones_suggested():
    vectors, labels = clusters()
    noisy = labels.copy()
    noisy[:40] = (labels[:40] + 1) % 4
    found = check_labels(vectors, noisy)
    wrong = np.arange(400) < 40
    named = found.suggestion >= 0
    assert named[wrong].mean() > 0.9 and named[~wrong].mean() < 0.01
    np.testing.assert_array_equal(found.suggestion[wrong & named], labels[wrong & named])
    assert found.telling and found.probability[wrong].max() < 0.5 < np.median(found.probability[~wrong])
    clean = check_labels(vectors, labels)
    assert not (clean.suggestion >= 0).any() and not clean.outlying.any()


def test_what_is_like_no_class_is_an_outlier_of_its_own():
    vectors, labels = clusters()
    vectors[7] = 40
    assert np.flatnonzero(check_labels(vectors, labels).outlying).tolist() == [7]


def test_no_image_has_a_say_in_its_own_probability():
    vectors, labels = clusters(60)
    shares = neighbour_shares(vectors, labels, 4)
    for i in range(60):
        squares = np.square(vectors - vectors[i]).sum(1)
        near = [j for j in np.argsort(squares) if j != i][:10]
        np.testing.assert_allclose(shares[i], np.bincount(labels[near], minlength=4) / 10)


def test_the_confident_joint_by_hand():
    probability = np.array([[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [0.2, 0.8], [0.1, 0.9], [0.45, 0.55]])
    labels = np.array([0, 0, 0, 1, 1, 1])
    # Limits .6 and .75: the third is confidently 1; the last is confidently nothing.
    assert mislabelled(probability, labels).tolist() == [False, False, True, False, False, False]


def test_labels_that_say_nothing_of_the_images_are_told_from_classes():
    vectors, _ = clusters()
    assert not check_labels(vectors, np.random.default_rng(1).integers(0, 5, 400)).telling
    few = check_labels(vectors[:8], np.array([0, 0, 0, 0, 0, 1, -1, -1]))
    assert np.isnan(few.agreement) and np.isnan(few.probability).all() and not few.outlying.any()


def digits(folder, swapped):
    with np.load(DATA / "mnist_5000.npz") as arrays:
        x, y = arrays["x"].reshape(-1, 28, 28), arrays["y"]
    rows = [i for kind in (0, 1) for i in np.flatnonzero(y == kind)[:60]]
    for i in rows:
        said = 1 - y[i] if i in rows[:swapped] else y[i]
        place = folder / ["zero", "one"][said]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(x[i]).save(place / f"{i:04d}.png")
    return {f"{i:04d}.png" for i in rows[:swapped]}


def test_mislabelled_digits_are_named_in_the_manifest(tmp_path):
    wrong = digits(tmp_path / "digits", 6)
    cleaned = clean(tmp_path / "digits", tmp_path / "out", UNTRAINED)
    rows = read_manifest(tmp_path / "out" / "manifest.csv")
    named = {row.path.split("/")[1]: row for row in rows if "likely mislabelled" in row.issues}
    assert len(wrong & set(named)) >= 5 and len(set(named) - wrong) <= 1
    assert all(row.suggested_label == "zero" for name, row in named.items() if name in wrong)
    assert all(row.label == row.path.split("/")[0] for row in rows)
    assert cleaned.summary["issues"]["likely mislabelled"] == len(named)
    lines = "".join(f"{row.path},{row.path.split('/')[0]}\n" for row in rows)
    (tmp_path / "labels.csv").write_text("path,label\n" + lines)
    given = clean(tmp_path / "digits", tmp_path / "given", UNTRAINED, labels=tmp_path / "labels.csv")
    assert read_manifest(given.out / "manifest.csv") == rows
