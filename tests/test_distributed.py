"""Two processes do what one does: the same numbers up to rounding, and an end when one of them dies.

What they run is in distributed_jobs.py.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import distributed_jobs
import numpy as np
import pytest
import torch

from data.recipes import load
from rvqvae.commands.main import main
from rvqvae.distributed import ALONE, World, current, joined, lead, together
from rvqvae.errors import InputError
from rvqvae.io.manifest import read_manifest
from rvqvae.optimization import Loop

ROOT = Path(__file__).parents[1]
PATIENCE = 300
"""Seconds until processes that hang are given up."""


def start(arguments: list[str], size: int) -> list[subprocess.Popen[str]]:
    """``python ARGUMENTS`` as torchrun would start it on this machine, without the seconds that it takes."""
    place = {"WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": 1}
    place |= {"OMP_NUM_THREADS": 1, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    return [
        subprocess.Popen(
            [sys.executable, *arguments],
            env=os.environ | {name: str(value) for name, value in (place | own).items()},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for own in ({"RANK": rank, "LOCAL_RANK": rank} for rank in range(size))
    ]


def free_ports(n: int) -> list[str]:
    """All found before any is given back, so that they differ."""
    sockets = [socket.socket() for _ in range(n)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [str(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports


def end(processes: list[subprocess.Popen[str]]) -> list[tuple[int, str, str]]:
    """Exit status, output and errors of each; none outlives the test."""
    try:
        found = [process.communicate(timeout=PATIENCE) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return [(process.returncode, *texts) for process, texts in zip(processes, found, strict=True)]


class Two(NamedTuple):
    """What two processes did."""

    ranks: list[tuple[int, str, str]]
    folder: Path


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    path = tmp_path_factory.mktemp("images") / "images.npz"
    np.savez(path, x=np.concatenate([load("mnist")[0][:40], load("fashion_mnist")[0][:8]]))
    return path


@pytest.fixture(scope="module")
def two(tmp_path_factory, images):
    folder = tmp_path_factory.mktemp("two")
    script = str(ROOT / "tests" / "distributed_jobs.py")
    return Two(end(start([script, str(images), str(folder), *free_ports(4)], 2)), folder)


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    folder = tmp_path_factory.mktemp("one")
    distributed_jobs.results(folder)
    return folder


def load_npz(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return dict(file)


@pytest.mark.parametrize("job", ["train", "vectors", "prior", "features", "told"])
def test_two_processes_are_one(one, two, job):
    alone = load_npz(one / f"{job}-0.npz")
    for number in (0, 1):
        path = two.folder / f"{job}-{number}.npz"
        assert path.exists(), two.ranks[number][2]
        rank = load_npz(path)
        assert set(rank) == set(alone)
        for name, value in alone.items():
            if value.dtype.kind == "U":
                assert rank[name] == value
            else:
                assert value.dtype in (np.float64, np.int64, bool), name
                np.testing.assert_allclose(rank[name], value, rtol=1e-7, atol=1e-9, err_msg=name)


def test_what_is_compared_was_trained(one):
    """Equal weights would prove nothing if the steps changed nothing, or the sets never moved."""
    losses = load_npz(one / "prior-0.npz")["history"]
    assert losses[-1] < losses[0]
    _, start = distributed_jobs.samples()
    assert not np.array_equal(load_npz(one / "train-0.npz")["log_odds"], start.log_odds)


def test_a_rank_that_dies_ends_the_job(two):
    (status, _, errors), (dead, *_) = two.ranks
    assert (status, dead) == (1, 9)
    last = errors.splitlines()[-1]
    assert (
        last.startswith("rvqvae: rank 0 of 2 has lost another rank") and "the same command continues" in last
    )


def test_a_command_in_two_processes(two, images, tmp_path, capsys):
    """One prints and writes; the model is that of one process, up to float32."""
    assert main(distributed_jobs.clean(str(images), str(tmp_path / "alone"))) == 0
    alone = capsys.readouterr().out.splitlines()
    (_, first, _), (_, second, _) = two.ranks
    assert first.splitlines()[0] == alone[0] and len(first.splitlines()) == len(alone) and second == ""
    tables = [
        read_manifest(folder / "manifest.csv") for folder in (tmp_path / "alone", two.folder / "cleaned")
    ]
    for by_one, by_two in zip(*tables, strict=True):
        assert by_one.keep == by_two.keep and by_one.score == pytest.approx(by_two.score, abs=0.1)


def test_bad_input_to_a_command_in_two_processes(two):
    assert [(two.folder / f"status-{rank}").read_text() for rank in (0, 1)] == ["0 2", "0 0"]
    (_, _, errors), (_, _, others) = two.ranks
    told = [line for line in errors.splitlines() if line.startswith("rvqvae:")]
    assert len(told) == 2 and "none does not exist" in told[0]
    assert "rvqvae" not in others and not (two.folder / "never").exists()


# In this process


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("n", [1, 2, 6, 7, 64])
def test_parts_and_spans_make_the_whole(n, size):
    worlds = [World(rank, size) for rank in range(size)]
    parts = [world.part(n) for world in worlds]
    counted = [row for part in parts if part.share for row in range(n)[part.rows]]
    assert sorted(counted) == list(range(n))
    assert sum(part.share for part in parts) == pytest.approx(1)
    assert all(len(range(n)[part.rows]) for part in parts)
    spans = [world.span(n, 4) for world in worlds]
    assert [i for begin, stop in spans for i in range(begin, stop)] == list(range(n))
    assert all(begin % 4 == 0 for begin, _ in spans)


def test_the_first_of_a_batch_are_the_first_of_its_parts():
    for n in range(1, 20):
        for few in range(1, n + 1):
            parts = [(World(rank, 3).part(n), World(rank, 3).part(few)) for rank in range(3)]
            for whole, first in parts:
                if first.share:
                    own = list(range(few)[first.rows])
                    assert list(range(n)[whole.rows])[: len(own)] == own


def test_alone_everything_is_as_it_was():
    tensor = torch.ones(2)
    assert current() is ALONE and ALONE.sum(tensor) is tensor
    assert ALONE.told(lambda: 3) == 3
    assert ALONE.mapped(5, 2, lambda rows: (torch.arange(5)[rows],))[0].tolist() == [0, 1, 2, 3, 4]
    with joined() as world:
        assert world is ALONE
    assert together(lambda x, y: x + y, 1, y=2) == 3
    assert lead(lambda: 7) == 7


@pytest.mark.parametrize(
    "environment",
    [
        {"WORLD_SIZE": "2"},
        {"WORLD_SIZE": "2", "RANK": "2", "LOCAL_RANK": "0"},
        {"WORLD_SIZE": "two", "RANK": "0", "LOCAL_RANK": "0"},
    ],
)
def test_a_wrong_environment_is_named(monkeypatch, environment):
    rest = {"LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    for name, value in (rest | environment).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match="torchrun"), joined():
        pass


def test_a_loop_without_others_tallies_nothing():
    parameter = torch.nn.Parameter(torch.ones(3))
    loop = Loop([parameter], 5, epochs=1, batch_size=2, learning_rate=0.1, seed=0)
    loop.epoch(1, lambda rows: {"loss": parameter.square().sum() * len(rows)})
    assert loop.whole == 1 and loop.part.share == 1.0
