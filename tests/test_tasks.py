"""The jobs on a user's own data, on small folders with everything in them that folders have."""

import csv
import errno
import json
import os
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.special import expit

from rvqvae import RobustVQVAE
from rvqvae.commands.apply import apply_manifest
from rvqvae.commands.clean import RESULTS, clean
from rvqvae.commands.contaminate import contaminate
from rvqvae.commands.evaluate import evaluate
from rvqvae.commands.folder import locked
from rvqvae.commands.options import FitOptions
from rvqvae.commands.read import load_model, preview
from rvqvae.commands.sample import sample
from rvqvae.commands.score import score
from rvqvae.commands.train import train
from rvqvae.errors import InputError
from rvqvae.io.manifest import read_manifest, write_manifest

DATA = Path(__file__).parents[1] / "data"
FAST = FitOptions(epochs=1, prior_epochs=1)
INLIERS, OUTLIERS = 90, 18
HOSTILE = (
    "a,b.png",
    'quote"d.png',
    "two\nlines.png",
    "<img src=x onerror=alert(1)>.png",
    " spaces .png",
    os.fsdecode(b"latin\xe9\xff.png"),
)


def pixels(name: str, count: int) -> np.ndarray:
    with np.load(DATA / name) as arrays:
        return arrays["x"][:count].reshape(count, 28, 28)


def save(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, format="PNG")


def snapshot(folder: Path) -> dict[str, tuple]:
    return {
        str(path): (path.lstat().st_mtime_ns, path.read_bytes() if path.is_file() else None)
        for path in sorted(folder.rglob("*"))
    }


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def visible(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if not path.name.startswith(".")}


@pytest.fixture(scope="module")
def dirty(tmp_path_factory):
    """Digits and some clothes, below names of all kinds, a broken file and a duplicate."""
    folder = tmp_path_factory.mktemp("source") / "photos"
    digits, clothes = pixels("mnist_5000.npz", INLIERS), pixels("fashion_mnist_2500.npz", OUTLIERS)
    names = [*HOSTILE, *(f"sub/{i:03d}.png" for i in range(INLIERS - len(HOSTILE)))]
    for name, image in zip(names, digits, strict=True):
        save(folder / name, image)
    for i, image in enumerate(clothes):
        save(folder / "sub" / f"other{i:02d}.png", image)
    (folder / "broken.png").write_bytes(b"not a picture")
    (folder / "zcopy.png").write_bytes((folder / "a,b.png").read_bytes())
    return folder


@pytest.fixture(scope="module")
def cleaned(dirty, tmp_path_factory):
    """A finished cleaning, for tests that only look, and what the source was like before it."""
    out = tmp_path_factory.mktemp("cleaned") / "out"
    before = snapshot(dirty)
    return clean(dirty, out, FAST, copy=True, command="rvqvae clean"), before


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """A small source of its own for tests that change it."""
    folder = tmp_path_factory.mktemp("few")
    for i, image in enumerate(pixels("mnist_5000.npz", 60)):
        save(folder / f"{i:02d}.png", image)
    return folder


# clean


def test_every_file_is_accounted_for(dirty, cleaned):
    result, before = cleaned
    rows = {row.path: row for row in read_manifest(result.out / "manifest.csv")}
    assert set(rows) == {path.relative_to(dirty).as_posix() for path in dirty.rglob("*.png")}
    assert (rows["broken.png"].status, rows["broken.png"].keep) == ("unreadable", False)
    assert (rows["zcopy.png"].status, rows["zcopy.png"].keep) == ("duplicate", False)
    assert rows["zcopy.png"].reason == "exact duplicate of a,b.png"
    scored = [row for row in rows.values() if row.status == "ok"]
    assert all(np.isfinite([row.score, row.outlier_probability]).all() for row in scored)
    cut = max(row.outlier_probability for row in scored if row.keep)
    assert all(row.keep == (row.outlier_probability <= cut) for row in scored)
    assert all(row.keep != row.reason.startswith("outlier") for row in scored)
    assert snapshot(dirty) == before


def test_summary(cleaned):
    result, _ = cleaned
    summary = json.loads((result.out / "summary.json").read_text())
    assert summary == result.summary
    rows = read_manifest(result.out / "manifest.csv")
    total = INLIERS + OUTLIERS + 2
    assert (summary["images"], summary["scored"]) == (total, total - 2)
    assert (summary["unreadable"], summary["duplicates"]) == (1, 1)
    assert summary["kept"] == sum(row.keep for row in rows)
    assert summary["kept"] + summary["dropped"] == summary["scored"]
    low, high = summary["contamination_interval"]
    assert 0 <= low <= summary["contamination"] <= high <= 1
    assert summary["verdict"] in ("clean", "contaminated", "undecided")
    assert (summary["size"], summary["channels"], summary["seed"]) == ([28, 28], 1, 0)
    assert summary["command"] == "rvqvae clean" and summary["versions"]["rvqvae"]
    assert summary["seconds"] > 0 and 0 < summary["peak_memory_gib"] < 64


def test_the_copy_holds_what_is_kept(dirty, cleaned):
    result, _ = cleaned
    kept = {row.path for row in read_manifest(result.out / "manifest.csv") if row.keep}
    assert contents(result.out / "clean") == {name: (dirty / name).read_bytes() for name in kept}
    assert result.copied == len(kept)
    assert visible(result.out) == {"manifest.csv", "report.html", "summary.json", "model", "clean"}


def test_the_page_shows_the_images(cleaned):
    result, _ = cleaned
    page = (result.out / "report.html").read_text()
    data = json.loads(page.split('id="data">')[1].split("</script>")[0])
    rows = read_manifest(result.out / "manifest.csv")
    assert data["columns"]["path"] == [row.path for row in rows]
    assert "<img src=x onerror" not in page.replace("\\u003c", "")


def test_equal_seeds_give_equal_manifests_and_a_finished_run_is_left_alone(dirty, cleaned, tmp_path):
    result, _ = cleaned
    again = clean(dirty, tmp_path / "out", FAST)
    assert not again.done_before and again.copied is None
    manifest = (again.out / "manifest.csv").read_bytes()
    assert manifest == (result.out / "manifest.csv").read_bytes()
    before = snapshot(again.out)
    assert clean(dirty, tmp_path / "out", FAST).done_before
    after = snapshot(again.out)
    assert {name: after[name] for name in before if ".work" not in name} == {
        name: content for name, content in before.items() if ".work" not in name
    }
    # A copy can be asked for later.
    linked = clean(dirty, tmp_path / "out", FAST, link=True)
    assert linked.done_before and contents(again.out / "clean") == contents(result.out / "clean")
    with pytest.raises(InputError, match="holds another run, with seed=0 where this one has 1"):
        clean(dirty, tmp_path / "out", FitOptions(epochs=1, prior_epochs=1, seed=1))
    with pytest.raises(InputError, match="holds another run, with job='clean'"):
        train(dirty, tmp_path / "out", FAST)
    with pytest.raises(InputError, match="holds another run, with images="):
        clean(dirty / "sub", tmp_path / "out", FAST)


class Stop:
    """Progress that is interrupted in a stage."""

    def __init__(self, stage: str) -> None:
        self.stage, self.seen = stage, []

    def __call__(self, stage: str, done: int, total: int) -> None:
        assert 0 <= done <= total
        self.seen.append(stage)
        if stage == self.stage:
            raise KeyboardInterrupt


def test_a_broken_off_run_is_taken_up(dirty, cleaned, tmp_path):
    result, _ = cleaned
    watch = Stop("")
    for stage, there in (("decode", set()), ("features", set()), ("train", set(RESULTS))):
        watch = Stop(stage)
        with pytest.raises(KeyboardInterrupt):
            clean(dirty, tmp_path / "out", FAST, progress=watch)
        assert visible(tmp_path / "out") == there  # The page does not wait for the training.
    assert watch.seen[0] == "scan"
    with pytest.raises(KeyboardInterrupt), pytest.MonkeyPatch.context() as patch:
        patch.setattr("rvqvae.io.manifest._put", interrupt)
        clean(dirty, tmp_path / "out", FAST, copy=True)
    assert "clean" not in visible(tmp_path / "out")
    again = clean(dirty, tmp_path / "out", FAST, copy=True)
    assert (again.out / "manifest.csv").read_bytes() == (result.out / "manifest.csv").read_bytes()
    assert contents(again.out / "clean") == contents(result.out / "clean")
    assert {path.name for path in (again.out / ".work").iterdir()} <= {"lock", "run.json"}


def test_what_a_model_without_networks_refuses(few, tmp_path):
    out = clean(few, tmp_path / "out", FAST, no_train=True).out
    before = contents(out)
    with pytest.raises(InputError, match=r"sample needs the networks.*--no-train"):
        sample(out, tmp_path / "samples", n=2)
    watch = Stop("")
    with pytest.raises(InputError, match=r"anomaly_map needs the networks.*--no-train"):
        score(out, few, tmp_path / "scores.csv", maps=tmp_path / "maps", progress=watch)
    assert set(watch.seen) == {"model"}  # Before anything was read.
    assert contents(out) == before and visible(tmp_path) == {"out"}


def test_training_what_was_left_out(few, tmp_path):
    out = clean(few, tmp_path / "out", FAST, no_train=True, copy=True).out
    model = RobustVQVAE.load(out / "model")
    (tmp_path / "said.csv").write_text(
        f"path,answer,group,group_answer,run\n{read_manifest(out / 'manifest.csv')[7].path},"
        f"{'no' if model.inlier_mask_[7] else 'yes'},0,,{model.inquiry_.run}\n"
    )
    listed = clean(few, out, FAST, no_train=True, answers=tmp_path / "said.csv").summary
    before, copied = read_manifest(out / "manifest.csv"), contents(out / "clean")
    with pytest.raises(InputError, match="holds another run, with no_issues=None where this one has True"):
        clean(few, out, FAST, no_issues=True)
    with pytest.raises(KeyboardInterrupt):
        clean(few, out, FAST, progress=Stop("train"))
    assert read_manifest(out / "manifest.csv") == before
    with pytest.raises(InputError, match="epochs=1 where this one has 2"):
        clean(few, out, replace(FAST, epochs=2))
    done = clean(few, out, FAST)
    assert done.summary["trained"] and not listed["trained"] and not done.done_before
    assert done.summary["answers"] == listed["answers"] == {"groups": 0, "images": 1}
    assert read_manifest(out / "manifest.csv") == before and contents(out / "clean") == copied
    after = RobustVQVAE.load(out / "model")
    assert after.answers_ == {7: not model.inlier_mask_[7]} and after.inquiry_.run == model.inquiry_.run
    assert sample(out, tmp_path / "samples", n=2)
    assert clean(few, out, FAST).done_before


def test_no_training_where_there_was_one(dirty, cleaned):
    out = cleaned[0].out
    before = contents(out)
    with pytest.raises(InputError, match="epochs=1 where this one has 0: give another folder"):
        clean(dirty, out, FAST, no_train=True)
    assert contents(out) == before


def interrupt(*_):
    raise KeyboardInterrupt


def full(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk(few, tmp_path, monkeypatch):
    for place in ("rvqvae.atomic.os.fsync", "rvqvae.io.reading._write_header"):
        with monkeypatch.context() as patch, pytest.raises((InputError, OSError), match="No space left"):
            patch.setattr(place, full)
            clean(few, tmp_path / "out", FAST)
        assert not (tmp_path / "out").exists() or not visible(tmp_path / "out")
    assert clean(few, tmp_path / "out", FAST).summary["images"] == 60


def test_changed_images_start_anew(tmp_path, few):
    source = tmp_path / "in"
    for name, content in contents(few).items():
        (source / name).parent.mkdir(exist_ok=True)
        (source / name).write_bytes(content)
    clean(source, tmp_path / "out", FAST)
    (source / "00.png").unlink()
    again = clean(source, tmp_path / "out", FAST, copy=True)
    assert not again.done_before and again.summary["images"] == 59
    (source / "01.png").unlink()
    with pytest.raises(InputError, match="copy of an earlier cleaning"):
        clean(source, tmp_path / "out", FAST)


def test_folders_that_are_not_ours_are_refused(few, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "note.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    before = snapshot(tmp_path)
    for out, message in (("mine", "is not empty"), ("file", "is a file")):
        with pytest.raises(InputError, match=message):
            clean(few, tmp_path / out, FAST)
    assert snapshot(tmp_path) == before


def test_the_source_is_never_written_to(few, cleaned, tmp_path):
    model = cleaned[0].out / "model"
    before = snapshot(few)
    (tmp_path / "way").symlink_to(few)
    for out in (few, few / "out", tmp_path / "way" / "out"):
        for job in (
            lambda out=out: clean(few, out, FAST),
            lambda out=out: train(few, out, FAST),
            lambda out=out: score(model, few, out / "scores.csv"),
            lambda out=out: score(model, few, tmp_path / "scores.csv", maps=out),
            lambda out=out: evaluate(model, out / "metrics.json", reference=few),
            lambda out=out: contaminate(few, few, out, rate=0.1),
            lambda out=out: apply_manifest(few, cleaned[0].out / "manifest.csv", out, "copy"),
        ):
            with pytest.raises(InputError, match="never written to"):
                job()
    assert snapshot(few) == before


def test_two_runs_at_once(few, tmp_path):
    with locked(tmp_path / "out"), pytest.raises(InputError, match="in use by another run"):
        clean(few, tmp_path / "out", FAST)


@pytest.mark.parametrize(("count", "message"), [(0, "holds no images"), (1, "too few"), (9, "too few")])
def test_too_few_images_leave_no_trace(few, tmp_path, count, message):
    (tmp_path / "in").mkdir()
    for path in sorted(few.iterdir())[:count]:
        (tmp_path / "in" / path.name).write_bytes(path.read_bytes())
    for job in (clean, train):
        with pytest.raises(InputError, match=message):
            job(tmp_path / "in", tmp_path / "out", FAST)
        assert not (tmp_path / "out").exists()


def test_archives_and_arrays_are_cleaned_too(few, tmp_path):
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        for name, content in contents(few).items():
            archive.writestr(name, content)
    np.savez(tmp_path / "in.npz", x=pixels("mnist_5000.npz", 60))
    options = FitOptions(epochs=1, prior_epochs=1, contamination=0.1)
    packed = clean(tmp_path / "in.zip", tmp_path / "zip", options, copy=True)
    rows = clean(tmp_path / "in.npz", tmp_path / "npz", options, copy=True)
    assert packed.summary["dropped"] == rows.summary["dropped"] == 6
    assert len(contents(packed.out / "clean")) == 54
    with np.load(rows.out / "clean" / "clean.npz") as arrays:
        assert arrays["x"].shape == (54, 28, 28)


def test_preview_writes_nothing(dirty, tmp_path):
    before = snapshot(dirty.parent)
    found = preview(dirty)
    assert found.side == ((28, 28), 1, None)
    assert found.counts["images"] == INLIERS + OUTLIERS + 2
    assert found.counts["readable"] == INLIERS + OUTLIERS
    assert [entry.path for entry in found.bad] == ["broken.png"]
    assert snapshot(dirty.parent) == before


@pytest.mark.parametrize(
    "options",
    [
        {"contamination": -0.1},
        {"contamination": 0.6},
        {"contamination": float("nan")},
        {"seed": -1},
        {"epochs": -1},
        {"workers": 0},
    ],
)
def test_options_out_of_range(options):
    (name,) = options
    with pytest.raises(InputError, match=f"{name}=.* is out of range"):
        FitOptions(**options)


# A reviewed manifest


def test_a_reviewed_manifest_is_applied(dirty, cleaned, tmp_path):
    result, _ = cleaned
    rows = read_manifest(result.out / "manifest.csv")
    reviewed = [row._replace(keep=row.path in HOSTILE) for row in rows if row.path != "sub/000.png"]
    write_manifest(tmp_path / "reviewed.csv", reviewed)
    for copy in ("copy", "link"):
        applied = apply_manifest(dirty, tmp_path / "reviewed.csv", tmp_path / copy, copy)
        assert (applied.copied, applied.unlisted) == (len(HOSTILE), 1)
        assert contents(tmp_path / copy / "clean") == {name: (dirty / name).read_bytes() for name in HOSTILE}
        assert apply_manifest(dirty, tmp_path / "reviewed.csv", tmp_path / copy, copy) == applied
    # A copy of another selection is never mixed with this one.
    before = snapshot(result.out / "clean")
    with pytest.raises(InputError, match=r"clean holds 'sub/.*', which this manifest does not keep"):
        apply_manifest(dirty, tmp_path / "reviewed.csv", result.out, "copy")
    assert snapshot(result.out / "clean") == before
    write_manifest(tmp_path / "none.csv", [row._replace(keep=False) for row in rows])
    assert apply_manifest(dirty, tmp_path / "none.csv", tmp_path / "none", "copy").copied == 0


# A saved model


def scores_of(table: Path) -> dict[str, dict[str, str]]:
    with table.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        return {row["path"]: row for row in csv.DictReader(file)}


def assert_alike(one: dict[str, str], other: dict[str, str]) -> None:
    """Two rows say the same of one image, to the rounding of float32 sums in batches of other sizes."""
    for name in ("score", "outlier_probability"):
        assert float(one[name]) == pytest.approx(float(other[name]), rel=1e-4, abs=1e-4)
    assert (one["status"], one["is_outlier"]) == (other["status"], other["is_outlier"])


def test_scores_do_not_depend_on_the_other_images(dirty, cleaned, tmp_path):
    result, _ = cleaned
    done = score(result.out / "model", dirty, tmp_path / "all.csv", maps=tmp_path / "maps")
    assert (done.images, done.unreadable) == (INLIERS + OUTLIERS + 2, 1)
    table = scores_of(tmp_path / "all.csv")
    header = (tmp_path / "all.csv").read_text(errors="surrogateescape").splitlines()[0]
    assert header == "path,status,score,outlier_probability,is_outlier,reason"
    bad = table.pop("broken.png")
    assert (bad["status"], bad["score"], bad["is_outlier"]) == ("unreadable", "", "")
    assert_alike(table["zcopy.png"], table["a,b.png"])
    assert sum(row["is_outlier"] == "true" for row in table.values()) == done.outliers
    some = ["sub/other03.png", "sub/010.png", HOSTILE[2]]
    for name in some:
        Path(tmp_path / "one").mkdir(exist_ok=True)
        (tmp_path / "one" / "x.png").write_bytes((dirty / name).read_bytes())
        (tmp_path / "one" / "label.txt").touch()
        one = score(result.out / "model", tmp_path / "one", tmp_path / "one.csv")
        assert one.lines()[1] == "Left out, as no images: 1 .txt."
        assert_alike(scores_of(tmp_path / "one.csv")["x.png"], table[name])
    for i, name in enumerate(reversed(list(table))):
        (tmp_path / "turned").mkdir(exist_ok=True)
        (tmp_path / "turned" / f"{i:03d}.png").write_bytes((dirty / name).read_bytes())
    score(result.out / "model", tmp_path / "turned", tmp_path / "turned.csv")
    for row, same in zip(scores_of(tmp_path / "turned.csv").values(), reversed(table.values()), strict=True):
        assert_alike(row, same)
    maps = contents(tmp_path / "maps")
    assert {name for name in maps if not name.startswith(".work")} == {f"{name}.png" for name in table}
    with Image.open(tmp_path / "maps" / "a,b.png.png") as picture:
        assert (picture.size, picture.mode) == ((28, 28), "RGB")


def test_a_saved_model_scores_as_the_cleaning_did(dirty, cleaned, tmp_path):
    result, _ = cleaned
    score(result.out, dirty, tmp_path / "scores.csv")
    table = scores_of(tmp_path / "scores.csv")
    model, side = load_model(result.out / "model")
    assert side == ((28, 28), 1, None)
    with Image.open(dirty / "sub" / "010.png") as picture:
        image = np.asarray(picture)[None, None]
    alone = {
        "status": "ok",
        "score": repr(float(model.score_samples(image)[0])),
        "outlier_probability": repr(float(model.outlier_probability(image)[0])),
        "is_outlier": "true" if model.predict(image)[0] == -1 else "false",
    }
    assert_alike(table["sub/010.png"], alone)
    for row in read_manifest(result.out / "manifest.csv"):
        if row.status == "ok":
            known = {"status": "ok", "is_outlier": "false" if row.keep else "true"}
            known |= {"score": repr(row.score), "outlier_probability": repr(row.outlier_probability)}
            assert_alike(table[row.path], known)


def test_train_gives_the_same_model(dirty, cleaned, tmp_path):
    result, _ = cleaned
    done = train(dirty, tmp_path / "model", FAST)
    assert not done.done_before and train(dirty, tmp_path / "model", FAST) == done._replace(done_before=True)
    assert done.contamination == result.summary["contamination"]
    for name, model in (("one", tmp_path / "model"), ("other", result.out / "model")):
        score(model, dirty, tmp_path / f"{name}.csv")
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "other.csv").read_bytes()


def test_samples(cleaned, tmp_path):
    model = cleaned[0].out
    done = sample(model, tmp_path / "a", 5, seed=3)
    assert visible(tmp_path / "a") == {"grid.png", *(f"{i:04d}.png" for i in range(5))}
    sample(model, tmp_path / "b", 5, seed=3)
    one, other = contents(tmp_path / "a"), contents(tmp_path / "b")
    assert all(one[name] == other[name] for name in visible(tmp_path / "a"))
    with Image.open(tmp_path / "a" / "0000.png") as picture:
        assert (picture.size, picture.mode) == ((28, 28), "L")
    assert sample(model, tmp_path / "a", 5, seed=3) == done._replace(done_before=True)
    with pytest.raises(InputError, match="n=5 where this one has 6"):
        sample(model, tmp_path / "a", 6, seed=3)
    with pytest.raises(InputError, match="n=0 is out of range"):
        sample(model, tmp_path / "c", 0)
    for name, value in (("temperature", 0.0), ("top_p", 2.0), ("max_outlier_probability", 0.0)):
        with pytest.raises(InputError, match=f"{name}={value}"):
            sample(model, tmp_path / "c", 5, **{name: value})


def test_samples_like_an_image(cleaned, few, tmp_path):
    model, shown = cleaned[0].out, few / "00.png"
    done = sample(model, tmp_path / "a", 5, like=shown)
    assert sample(model, tmp_path / "a", 5, like=shown) == done._replace(done_before=True)
    sample(model, tmp_path / "b", 5)
    assert contents(tmp_path / "a")["grid.png"] != contents(tmp_path / "b")["grid.png"]
    with pytest.raises(InputError, match="holds another run, with like="):
        sample(model, tmp_path / "a", 5, like=few / "01.png")
    with pytest.raises(InputError, match="holds 60 readable images: give one"):
        sample(model, tmp_path / "c", 5, like=few)
    with pytest.raises(InputError, match="does not exist"):
        sample(model, tmp_path / "c", 5, like=few / "none.png")
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("how", [{"temperature": 0.5}, {"top_p": 0.5}, {"max_outlier_probability": None}])
def test_samples_are_narrowed(cleaned, tmp_path, how):
    model = cleaned[0].out
    if "max_outlier_probability" in how:  # one that every second sample passes
        est = RobustVQVAE.load(model / "model")
        how = {"max_outlier_probability": float(np.median(expit(-est.score_samples(est.sample(40)))))}
    for name, options in (("a", {}), ("b", how)):
        sample(model, tmp_path / name, 5, seed=3, **options)
    one, other = contents(tmp_path / "a"), contents(tmp_path / "b")
    assert any(one[name] != other[name] for name in visible(tmp_path / "a"))


def test_evaluate(cleaned, tmp_path, monkeypatch):
    from rvqvae.metrics import InlierClassifier

    fit = InlierClassifier.fit
    monkeypatch.setattr(InlierClassifier, "fit", lambda *args: fit(*args, steps=20))
    np.savez(tmp_path / "clean.npz", x=pixels("mnist_test_1000.npz", 40))
    np.savez(tmp_path / "others.npz", x=pixels("fashion_mnist_test_1000.npz", 40))
    out = tmp_path / "new" / "metrics.json"
    done = evaluate(cleaned[0].out / "model", out, reference=tmp_path / "clean.npz", n=20)
    assert done.metrics == json.loads(out.read_text())
    assert {"frechet_distance", "kernel_distance", "precision", "recall", "density", "coverage"} < set(
        done.metrics
    )
    assert "auroc" not in done.metrics
    judged = evaluate(
        cleaned[0].out / "model",
        out,
        reference=tmp_path / "clean.npz",
        outliers=tmp_path / "others.npz",
        n=20,
    )
    assert judged.metrics["frechet_distance"] == done.metrics["frechet_distance"]
    assert all(0 <= judged.metrics[name] <= 1 for name in ("auroc", "purity", "judge_error"))
    np.savez(tmp_path / "few.npz", x=pixels("mnist_test_1000.npz", 4))
    with pytest.raises(InputError, match="holds 4 readable images"):
        evaluate(cleaned[0].out / "model", out, reference=tmp_path / "few.npz")


def test_models_that_are_none(few, tmp_path):
    (tmp_path / "model").mkdir()
    for model in ("nothing", "model"):
        with pytest.raises(InputError):
            score(tmp_path / model, few, tmp_path / "out")
        with pytest.raises(InputError):
            evaluate(tmp_path / model, tmp_path / "out", reference=few)
    with pytest.raises(InputError):
        sample(tmp_path / "nothing", tmp_path / "samples")
    assert visible(tmp_path) == {"model"}


# contaminate


def test_contaminated_folders_do_not_tell(few, tmp_path):
    for i, image in enumerate(pixels("fashion_mnist_2500.npz", 30)):
        save(tmp_path / "clothes" / f"{i}.png", np.stack([image, image, 255 - image], -1))
    done = contaminate(few, tmp_path / "clothes", tmp_path / "out", rate=0.25)
    assert (done.images, done.outliers) == (80, 20)
    with (tmp_path / "out" / "truth.csv").open(newline="") as file:
        truth = list(csv.DictReader(file))
    assert [row["path"] for row in truth] == sorted(path.name for path in (tmp_path / "out").glob("*.png"))
    flags = [row["is_outlier"] == "true" for row in truth]
    assert sum(flags) == 20 and 3 < np.flatnonzero(flags).mean() / 2 < 37
    modes = set()
    for row, outlier in zip(truth, flags, strict=True):
        origin = (tmp_path / "clothes" if outlier else few) / row["source"]
        with Image.open(tmp_path / "out" / row["path"]) as mixed, Image.open(origin) as real:
            modes.add(mixed.mode)
            np.testing.assert_array_equal(np.asarray(mixed), np.asarray(real.convert("RGB")))
    assert modes == {"RGB"}
    again = contaminate(few, tmp_path / "clothes", tmp_path / "out", rate=0.25)
    assert again == done._replace(done_before=True)
    with pytest.raises(InputError, match=r"rate=0\.9 needs 540 outliers"):
        contaminate(few, tmp_path / "clothes", tmp_path / "new", rate=0.9)
    assert not (tmp_path / "new").exists()
