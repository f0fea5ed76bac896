"""The command line, as a user meets it: flags, files, exit statuses and what is said."""

import csv
import inspect
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rvqvae.commands import COMMANDS
from rvqvae.commands.arguments import function_of, parse
from rvqvae.commands.main import main
from rvqvae.errors import InputError
from rvqvae.io.manifest import read_manifest, write_manifest

DATA = Path(__file__).parents[1] / "data"
FAST = ("--epochs", "1", "--prior-epochs", "1")
HOSTILE = (
    "a,b.png",
    'quote"d.png',
    "two\nlines.png",
    "<img src=x onerror=alert(1)>.png",
    os.fsdecode(b"latin\xe9\xff.png"),
)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Digits under names of all kinds; the last is not UTF-8 and broken."""
    folder = tmp_path_factory.mktemp("source") / "photos"
    folder.mkdir()
    with np.load(DATA / "mnist_5000.npz") as arrays:
        images = arrays["x"][:60].reshape(60, 28, 28)
    for name, image in zip([*HOSTILE, *(f"{i:02d}.png" for i in range(55))], images, strict=True):
        Image.fromarray(image).save(folder / name, format="PNG")
    (folder / os.fsdecode(b"\xff\nbroken.png")).write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def out(photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cleaned") / "out"
    assert run("clean", photos, "--out", folder, "--contamination", "0.1", *FAST) == 0
    return folder


def run(*arguments: str | Path) -> int:
    return main([str(argument) for argument in arguments])


def one_line(capsys) -> str:
    """What is said of an error: one line on stderr, after those of the progress."""
    streams = capsys.readouterr()
    assert not streams.out
    *progress, line = streams.err.splitlines()
    assert line.startswith("rvqvae: ") and not any("rvqvae" in other for other in progress)
    assert "Traceback" not in streams.err
    return line


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_examples_and_a_seed(command, capsys):
    with pytest.raises(SystemExit) as exit:
        run(command, "--help")
    assert exit.value.code == 0
    text = capsys.readouterr().out
    assert f"\n  rvqvae {command} " in text
    assert "--seed" in text and "--config" in text


def test_help_is_quick():
    """By what it doesn't import; one process shows all of it, from what may import least."""
    light, any_ = (
        "torch numpy sklearn scipy matplotlib PIL mlflow rich",
        "torch sklearn scipy matplotlib mlflow",
    )
    helped = [([], light), (["clean"], light), *(([name], any_) for name in COMMANDS)]
    script = f"""
import sys, rvqvae.commands.main as cli
for words, heavy in {helped}:
    try: cli.main([*words, "--help"])
    except SystemExit: pass
    assert not [name for name in heavy.split() if name in sys.modules], words
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("usage: rvqvae") == len(helped)
    assert all(f"  {name}  " in result.stdout for name in COMMANDS)


@pytest.mark.parametrize("given", [None, "2"])
@pytest.mark.parametrize(("name", "usual"), [("OMP_WAIT_POLICY", "PASSIVE"), ("OPENBLAS_NUM_THREADS", "1")])
def test_threads_wait_without_spinning_unless_told_to(name, usual, given, monkeypatch, tmp_path):
    monkeypatch.delenv(name, raising=False)
    if given:
        monkeypatch.setenv(name, given)
    assert run("clean", tmp_path / "nothing", "--out", tmp_path / "out") == 2
    assert os.environ[name] == (given or usual)


def test_examples_can_be_parsed():
    for name in COMMANDS:
        description = inspect.getdoc(function_of(name))
        examples = [line for line in description.splitlines() if line.startswith("  rvqvae ")]
        assert examples
        for line in examples:
            command, values, *_ = parse(shlex.split(line, comments=True)[1:])
            assert command == name
            inspect.signature(function_of(name)).bind(**values)


BAD = [
    ([], "give a command"),
    (["polish"], "invalid choice: 'polish'"),
    (["clean"], "required: images, out"),
    (["clean", "{photos}"], "required: out"),
    (["clean", "{photos}", "--out", "{new}", "--size", "big"], "--size cannot be 'big'"),
    (["clean", "{photos}", "--out", "{new}", "--size", "3"], "size=3 is out of range"),
    (
        ["clean", "{photos}", "--out", "{new}", "--contamination", "most"],
        "cannot be 'most': see",
    ),
    (
        ["export", "{new}", "--to", "excel", "--out", "{new}"],
        "cannot be 'excel', but one of 'fiftyone', ",
    ),
    (["clean", "{photos}", "--out", "{new}", "--contamination", "0.7"], "contamination=0.7 is out of range"),
    (["clean", "{photos}", "--out", "{new}", "--seed", "-1"], "seed=-1 is out of range"),
    (["clean", "{photos}", "--out", "{new}", "--colour"], "--colour"),
    (["clean", "{photos}", "--out", "{new}", "--config", "{new}"], "config"),
    (["clean", "{photos}", "--out", "{new}", "--copy", "--link"], "exclude each other"),
    (["clean", "{photos}", "--out", "{new}", "--manifest", "{new}"], "--manifest only copies"),
    (["clean", "{photos}", "--out", "{new}", "--labels", "{new}"], "cannot be read"),
    (["clean", "{photos}", "--out", "{new}", "--labels", "{new}", "--dry-run"], "--labels is for a cleaning"),
    (["clean", "{photos}", "--out", "{new}", "--copy", "--manifest", "{new}"], "cannot be read"),
    (["clean", "{photos}", "--out", "{photos}/out"], "is inside"),
    (["clean", "{photos}", "--out", "{photos}/out", "--dry-run"], "is inside"),
    (["clean", "{new}", "--out", "{new}2"], "does not exist"),
    (["train", "{new}", "--out", "{new}2"], "does not exist"),
    (["score", "{new}", "{photos}", "--out", "{new}2"], "is not a folder"),
    (["sample", "{new}", "--out", "{new}2"], "is not a folder"),
    (["clean", "{photos}", "--out", "{new}", "--device", "gpu"], "device='gpu' cannot be used"),
    (["sample", "{out}", "--device", "cuda:99", "--out", "{new}"], "device='cuda:99' cannot be used"),
    (["sample", "{out}", "-n", "0", "--out", "{new}"], "n=0 is out of range"),
    (["evaluate", "{new}", "--reference", "{photos}", "--out", "{new}2"], "is not a folder"),
    (["contaminate", "{photos}", "{new}", "--rate", "0.2", "--out", "{new}2"], "does not exist"),
    (["contaminate", "{photos}", "{photos}", "--rate", "1", "--out", "{new}"], "rate=1"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=lambda value: " ".join(value)[:60])
def test_bad_input_is_one_clear_line(photos, out, tmp_path, capsys, arguments, message):
    capsys.readouterr()
    places = {"photos": photos, "out": out, "new": tmp_path / "new"}
    assert run(*(argument.format(**places) for argument in arguments)) == 2
    assert message in one_line(capsys)
    assert not list(tmp_path.iterdir())


def test_names_of_all_kinds_come_through(photos, out, tmp_path, capsys):
    rows = read_manifest(out / "manifest.csv")
    assert {row.path for row in rows} == {path.name for path in photos.iterdir()}
    write_manifest(
        tmp_path / "reviewed.csv",
        [row._replace(keep=row.path in HOSTILE and row.status == "ok") for row in rows],
    )
    applied = (
        "clean",
        photos,
        "--manifest",
        tmp_path / "reviewed.csv",
        "--out",
        tmp_path / "final",
        "--copy",
    )
    assert run(*applied) == 0
    assert {path.name for path in (tmp_path / "final" / "clean").iterdir()} == set(HOSTILE)
    assert "5 images are in" in capsys.readouterr().out
    assert run("score", out, photos, "--out", tmp_path / "scores.csv", "--maps", tmp_path / "maps") == 0
    with (tmp_path / "scores.csv").open(errors="surrogateescape", encoding="utf-8", newline="") as file:
        assert {row["path"] for row in csv.DictReader(file)} == {row.path for row in rows}
    assert {f"{name}.png" for name in HOSTILE} <= {path.name for path in (tmp_path / "maps").iterdir()}


def test_a_folder_of_any_name(photos, tmp_path, capsys):
    folder = tmp_path / os.fsdecode(b"<b>\xff\n{x}")
    folder.symlink_to(photos)
    assert run("clean", folder, "--out", tmp_path / os.fsdecode(b"out\xff"), *FAST) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 and "out\\udcff" in lines[-1]


def test_what_clean_says(photos, out, capsys):
    arguments = ("clean", photos, "--out", out, "--contamination", "0.1", *FAST)
    assert run(*arguments) == 0
    first, verdict, counts, issues, files = capsys.readouterr().out.splitlines()
    assert first.startswith("This was done before")
    assert "10.0%" in verdict and verdict.endswith("(the rate that was given).")
    # Two of these ones are so alike that they count as one picture.
    assert counts == "61 images, 54 kept, 6 dropped, 1 unreadable, 0 duplicates, 1 near duplicates."
    assert issues.startswith("Issues to look at, which nothing is dropped for: ")
    assert "report.html" in files
    command = json.loads((out / "summary.json").read_text())["command"]
    assert command.startswith("rvqvae clean ") and command.endswith("--prior-epochs 1")


def test_dry_run(photos, tmp_path, capsys):
    assert run("clean", photos, "--out", tmp_path / "out", "--dry-run", "--size", "32") == 0
    streams = capsys.readouterr()
    counts, size, bad = streams.out.splitlines()
    assert counts.startswith("61 images, 60 readable, 1 unreadable")
    assert "32 x 32 pixels, grey" in size
    assert bad == "unreadable: \\udcff broken.png: it is not an image of a known format"
    assert "decode: 60" in streams.err
    assert not list(tmp_path.iterdir())


def test_yaml_has_the_names_of_the_flags(tmp_path):
    for dash in "-_":
        config = tmp_path / f"{ord(dash)}.yaml"
        config.write_text(f"out: there\nprior{dash}epochs: 7\ncontamination: 0.25\ndry{dash}run: true\n")
        _, values, *_ = parse(["clean", "photos", "--config", str(config), "--seed", "3"])
        _, flags, *_ = parse(
            ["clean", "photos", "--out", "there", "--prior-epochs", "7", "--contamination", "0.25",
             "--dry-run", "--seed", "3"]
        )  # fmt: skip
        assert values == flags
        assert values["dry_run"] and values["options"].prior_epochs == 7
    _, values, *_ = parse(["clean", "photos", "--config", str(config), "--prior-epochs", "2"])
    assert values["options"].prior_epochs == 2


@pytest.mark.parametrize("name", ["contamination", "seed", "out", "dry_run"])
def test_yaml_with_nothing_behind_a_name(tmp_path, name):
    config = tmp_path / "c.yaml"
    config.write_text(f"size: 8\n{name}:\n")
    out = [] if name == "out" else ["--out", "there"]
    with pytest.raises(InputError, match=r"is empty|cannot be|required"):
        parse(["clean", "photos", *out, "--config", str(config)])


def test_ctrl_c(photos, tmp_path, monkeypatch, capsys):
    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("rvqvae.report.review", interrupt)
        assert run("clean", photos, "--out", tmp_path / "out", *FAST) == 130
    assert one_line(capsys) == "rvqvae: interrupted: the same command continues"
    assert {path.name for path in (tmp_path / "out").iterdir()} <= {".work", "manifest.csv"}
    assert run("clean", photos, "--out", tmp_path / "out", *FAST) == 0


def test_a_full_disk(photos, tmp_path, monkeypatch, capsys):
    def full(*_, **__):
        raise OSError(28, "No space left on device", "somewhere")

    for place in ("rvqvae.atomic.os.fsync", "rvqvae.estimator.RobustVQVAE.save"):
        with monkeypatch.context() as patch:
            patch.setattr(place, full)
            assert run("clean", photos, "--out", tmp_path / "out", *FAST) == 2
        assert "No space left on device: make room" in one_line(capsys)
    assert run("clean", photos, "--out", tmp_path / "out", *FAST) == 0


def test_the_other_commands(photos, out, tmp_path, capsys):
    assert run("train", photos, "--out", tmp_path / "model", *FAST) == 0
    assert run("sample", tmp_path / "model", "-n", "20", "--out", tmp_path / "samples") == 0
    assert len(list((tmp_path / "samples").glob("*.png"))) == 21
    mixed = ("contaminate", photos, tmp_path / "samples", "--rate", "0.2", "--out", tmp_path / "mixed")
    assert run(*mixed) == 0
    assert "75 images are in" in capsys.readouterr().out
    assert len(list((tmp_path / "mixed").glob("*.png"))) == 75
    evaluated = ("evaluate", tmp_path / "model", "--reference", photos, "-n", "20")
    assert run(*evaluated, "--out", tmp_path / "metrics.json") == 0
    assert "coverage: " in capsys.readouterr().out


def test_a_shell_completes_commands_and_their_flags():
    pytest.importorskip("shtab")
    code = "import sys; from rvqvae.commands.main import main; main(['--print_completion=shtab-bash'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "label-studio" in done.stdout and "--no-train" in done.stdout, done.stderr


@pytest.mark.parametrize("words", [["--print_completion=shtab-zsh"], ["contaminate"]])
def test_a_reader_that_has_seen_enough_is_no_error(words, tmp_path):
    if words == ["contaminate"]:
        rng = np.random.default_rng(0)
        for name in ("a", "b"):
            np.savez(tmp_path / f"{name}.npz", x=rng.integers(0, 256, (20, 8, 8), np.uint8))
        places = [str(tmp_path / name) for name in ("a.npz", "b.npz", "out")]
        words = [*words, *places[:2], "--out", places[2], "--rate", "0.2"]
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer) as pipe:
        command = [sys.executable, "-m", "rvqvae", *words]
        ran = subprocess.run(command, stdout=pipe, stderr=subprocess.PIPE, text=True)
    assert ran.returncode == 141
    assert not [line for line in ran.stderr.splitlines() if "ipe" in line]
