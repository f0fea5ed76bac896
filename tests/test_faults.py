"""What happens to long jobs: killed at any moment, disks that fill up, two at once, clocks that jump.

The jobs run in processes that are really killed. These are forked from a server that has imported all
and computed nothing, as torch cannot be forked once it has.

``RVQVAE_FAULTS=100 pytest tests/test_faults.py -s`` tries that many moments of each job instead of one, half
of them by the clock, and prints how many it survived; ``RVQVAE_FAULTS_SEED`` draws others.
"""

import functools
import gc
import io
import itertools
import json
import multiprocessing
import os
import pkgutil
import re
import resource
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL
import pytest

from rvqvae.commands.clean import clean
from rvqvae.commands.contaminate import contaminate
from rvqvae.commands.options import FitOptions
from rvqvae.commands.sample import sample
from rvqvae.commands.score import score
from rvqvae.commands.train import train
from rvqvae.errors import InputError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="signals and limits of Linux")
DATA = Path(__file__).parents[1] / "data"
FAST = FitOptions(epochs=2, prior_epochs=1, features="learned")
JOBS = ("train", "clean", "score", "sample")
MOMENTS = int(os.environ.get("RVQVAE_FAULTS", "1"))
SEED = int(os.environ.get("RVQVAE_FAULTS_SEED", "0"))
STEPS = ("rename", "replace", "fsync")
TIMES = re.compile(r'"(seconds|peak_memory_gib)": [\d.]+')


@pytest.fixture(scope="session")
def processes():
    """Processes that have imported what the jobs need, and share nothing else with this one."""
    context = multiprocessing.get_context("forkserver")
    # What is imported when it is first used takes ten times as long as a job.
    late = ["torch._dynamo", "timm", "matplotlib.figure", "matplotlib.backends.backend_agg"]
    late += ["rvqvae.figures", "rvqvae.report", "rvqvae.report.projection"]
    late += [f"sklearn.{name}" for name in ("cluster", "covariance", "decomposition", "linear_model")]
    late += [f"sklearn.{name}" for name in ("manifold", "model_selection", "pipeline", "preprocessing")]
    late += [f"PIL.{m.name}" for m in pkgutil.iter_modules(PIL.__path__) if m.name.endswith("ImagePlugin")]
    tasks = [f"rvqvae.commands.{name}" for name in JOBS]
    context.set_forkserver_preload(
        ["rvqvae.estimator", "rvqvae.features.perceptual", "rvqvae.commands.main", *tasks, *late]
    )
    return context


@pytest.fixture(scope="session")
def images(tmp_path_factory):
    path = tmp_path_factory.mktemp("images") / "in.npz"
    with np.load(DATA / "mnist_5000.npz") as arrays:
        digits = arrays["x"][:20].reshape(20, 28, 28)
    np.savez(path, x=digits[:, 4:20:2, 6:22:2])
    return path


def started(context, job: Callable[[], object], setup: Callable[[], object] | None = None):
    process = context.Process(target=_run, args=(job, setup))
    process.start()
    return process


def ended(process) -> int:
    """The exit code of a process, which is minus the signal that killed it."""
    process.join(600)
    assert process.exitcode is not None
    return process.exitcode


def in_process(context, job: Callable[[], object], setup: Callable[[], object] | None = None) -> int:
    """Run ``job`` in a process of its own; its exit code."""
    return ended(started(context, job, setup))


def _run(job: Callable[[], object], setup: Callable[[], object] | None) -> None:
    import torch

    import rvqvae.features.patch_dictionary
    import rvqvae.vqvae.training

    torch.set_num_threads(1)
    gc.freeze()  # Else the million objects imported are looked through, and thereby copied, by each process.
    # What takes most of the time of so small a job, and keeps nothing between runs.
    rvqvae.features.patch_dictionary.PATCHES = 2000
    rvqvae.vqvae.training.perceptual_loss = _pixel_loss
    devnull = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(devnull, stream)
    if setup is not None:
        setup()
    result = job()
    sys.exit(result if isinstance(result, int) else 0)


def _pixel_loss(images, reconstructions, weights):
    return (weights * (images - reconstructions).square().mean((1, 2, 3))).mean()


def die_at(moment: int) -> None:
    """Let the process be killed at its so-manieth change to a file, in the middle of it."""
    left = itertools.count(moment, -1)
    for name in STEPS:
        setattr(os, name, functools.partial(_die, left, getattr(os, name)))


def _die(left, function, *args, **kwargs):
    if next(left) == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return function(*args, **kwargs)


def die_after(seconds: float) -> None:
    signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    signal.setitimer(signal.ITIMER_REAL, seconds)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file by its name, hidden ones too, apart from times and the lock."""
    files = {p.relative_to(folder).as_posix(): p for p in sorted(folder.rglob("*")) if p.is_file()}
    return {
        name: TIMES.sub("", path.read_bytes().decode("latin1")).encode("latin1")
        for name, path in files.items()
        if not name.endswith((".work/lock", "report.html"))
    }


def jobs(images: Path, model: Path, out: Path) -> dict[str, Callable[[], object]]:
    return {
        "train": functools.partial(train, images, out / "job", FAST),
        "clean": functools.partial(clean, images, out / "job", FAST, copy=True),
        "score": functools.partial(score, model, images, out / "scores.csv", maps=out / "maps"),
        "sample": functools.partial(sample, model, out / "job", 3),
    }


def counted(job: Callable[[], object], note: Path) -> None:
    """Do the job, and note how many changes it makes to files, and in how many seconds."""
    changes = itertools.count()
    for name in STEPS:
        setattr(os, name, functools.partial(_count, changes, getattr(os, name)))
    start = time.perf_counter()
    job()
    note.write_text(json.dumps([next(changes), time.perf_counter() - start]))


def _count(changes, function, *args, **kwargs):
    next(changes)
    return function(*args, **kwargs)


@pytest.fixture(scope="session")
def whole(processes, images, tmp_path_factory):
    """What each job makes when nothing happens to it, in folders of the same names as theirs."""
    root = tmp_path_factory.mktemp("whole")
    model = root / "model"
    for name in JOBS:
        job = jobs(images, model, root / name)[name]
        assert in_process(processes, functools.partial(counted, job, root / f"{name}.json")) == 0
        if name == "train":
            # The first sampling keeps a prior in the model's folder: the others start from that one.
            shutil.copytree(root / "train" / "job", model)
            assert in_process(processes, functools.partial(sample, model, root / "scratch", 1)) == 0
    return root


def ways_to_die(name: str, note: Path) -> list[Callable[[], None]]:
    """Drawn by the seed: in the middle of a change to a file, and then at any time, in turn."""
    changes, seconds = json.loads(note.read_text())
    rng = np.random.default_rng([SEED, JOBS.index(name)])
    ways = [functools.partial(die_at, int(rng.integers(changes))) for _ in range(-(-MOMENTS // 2))]
    return ways + [functools.partial(die_after, rng.uniform(0.01, seconds)) for _ in range(MOMENTS // 2)]


@pytest.mark.parametrize("name", JOBS)
def test_a_killed_job_is_taken_up(processes, images, whole, tmp_path, name):
    model = whole / "model"
    codes = []
    for i, way in enumerate(ways_to_die(name, whole / f"{name}.json")):
        out = tmp_path / str(i)
        job = jobs(images, model, out)[name]
        codes.append(in_process(processes, job, way))
        # By the clock it may come too late.
        assert codes[-1] == -signal.SIGKILL or (codes[-1] == 0 and way.func is die_after), way
        assert in_process(processes, job) == 0, way
        assert contents(out) == contents(whole / name), way
    print(f"\n{name}: killed {len(codes) - codes.count(0)} times, lost 0")
    assert codes[0] == -signal.SIGKILL


def test_a_killed_copy_is_taken_up(processes, images, whole, tmp_path):
    """The results are there already, and a copy of them is asked for later."""
    folder = tmp_path / "in"
    done = contaminate(images, images, folder, rate=0.25)
    job = functools.partial(clean, folder, tmp_path / "out", FAST)
    assert done.images and in_process(processes, job) == 0
    again = functools.partial(job, copy=True)
    for moment in (1, 5):
        assert in_process(processes, again, functools.partial(die_at, moment)) == -signal.SIGKILL
        assert not (tmp_path / "out" / "clean").exists()
    for _ in range(2):
        assert in_process(processes, again) == 0
    copy = contents(tmp_path / "out" / "clean")
    assert copy and all((folder / name).read_bytes() == content for name, content in copy.items())


# Disks


def limit_files(size: int) -> None:
    """As a full disk: every write beyond ``size`` bytes of a file fails."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def command(arguments: list[str], said) -> int:
    """The exit status; what is said on the way goes to no disk."""
    from rvqvae.commands.main import main

    sys.stderr = io.StringIO()
    status = main(arguments)
    said.put(sys.stderr.getvalue())
    return status


@pytest.mark.parametrize("name", JOBS)
def test_a_full_disk_is_one_line_and_leaves_no_half_file(processes, images, whole, tmp_path, name):
    model, out = whole / "train" / "job", tmp_path / "results" / "job"
    fit = ["--epochs", "2", "--prior-epochs", "1", "--features", "learned"]
    arguments = {
        "train": ["train", images, "--out", out, *fit],
        "clean": ["clean", images, "--out", out, *fit],
        "score": ["score", model, images, "--out", out / "scores.csv"],
        "sample": ["sample", model, "-n", "3", "--out", out],
    }[name]
    finished = contents(whole / name / ("" if name == "score" else "job"))
    rng = np.random.default_rng([SEED, JOBS.index(name)])
    codes = []
    for size in [0, 5000, *(10 ** rng.uniform(1, 6, max(0, MOMENTS - 2))).astype(int)]:
        said = processes.SimpleQueue()
        run = functools.partial(command, [str(argument) for argument in arguments], said)
        codes.append(in_process(processes, run, functools.partial(limit_files, int(size))))
        assert codes[-1] in (0, 2), size
        if codes[-1] == 2:
            *_, line = said.get().splitlines()
            assert line.startswith("rvqvae: ") and re.search("File too large.*make room", line), line
        for path, content in (contents(out) if out.exists() else {}).items():
            assert path.startswith(".work/") or content == finished[path]
        if codes[-1] == 0:  # All files of the job are smaller than that.
            shutil.rmtree(out)
    print(f"\n{name}: {codes.count(2)} full disks, lost 0")
    assert codes[0] == 2
    assert in_process(processes, run) == 0
    visible = {path for path in finished if not path.startswith((".work", "maps", "clean"))}
    assert visible <= set(contents(out))


# Two at once, and clocks


def wait_locked(out: Path, begun: Path, images: Path) -> None:
    def tell(*_: object) -> None:
        begun.touch()
        time.sleep(60)

    clean(images, out, FAST, progress=tell)


def test_two_runs_on_one_folder(processes, images, whole, tmp_path):
    out, begun = tmp_path / "out", tmp_path / "begun"
    first = started(processes, functools.partial(wait_locked, out, begun, images))
    while not begun.exists():
        assert first.is_alive()
        time.sleep(0.02)
    with pytest.raises(InputError, match="is in use by another run"):
        clean(images, out, FAST)
    first.kill()
    first.join()
    # The lock ends with the process that held it.
    assert in_process(processes, functools.partial(clean, images, out, FAST, copy=True)) == 0
    assert contents(out) == contents(whole / "clean" / "job")


def test_two_scores_into_one_file(images, whole, tmp_path):
    from rvqvae.commands.folder import work_beside

    out = tmp_path / "scores.csv"
    with work_beside(out), pytest.raises(InputError, match=r"scores\.csv is being written by another run"):
        score(whole / "train" / "job", images, out)
    score(whole / "train" / "job", images, out)
    assert [path.name for path in tmp_path.iterdir()] == ["scores.csv"]


def jump() -> None:
    """A clock that goes back by a day or ahead by a year each time that it is looked at."""
    real, jumps = time.time, itertools.cycle([-86_400.0, 3e7, 0.0])
    time.time = lambda: real() + next(jumps)


def tracked(directory: Path) -> None:
    from rvqvae.tracking.runs import Tracker

    with Tracker("study", run_name="a", params={}, directory=directory, enabled=False) as run:
        for epoch in range(4):
            run.metrics({"loss": epoch}, step=epoch)


def test_clocks_that_jump(processes, images, whole, tmp_path):
    job = jobs(images, whole, tmp_path)["clean"]
    assert in_process(processes, job, jump) == 0
    assert contents(tmp_path) == contents(whole / "clean")
    assert json.loads((tmp_path / "job" / "summary.json").read_text())["seconds"] < 1000
    assert in_process(processes, functools.partial(tracked, tmp_path / "run"), jump) == 0
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["loss"] for line in lines] == [0, 1, 2, 3]
