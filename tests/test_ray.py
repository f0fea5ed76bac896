"""Scoring with Ray Data: a worker's rows are those of `rvqvae score`; two workers where Ray is installed."""

import csv
import io
import tarfile

import numpy as np
import pytest
from PIL import Image

from data.recipes import load
from pipelines.ray_score import ShardScorer, ray_score
from rvqvae import RobustVQVAE
from rvqvae.commands.score import score


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """A model, three shards of which one holds a damaged file, and what `score` says of them."""
    folder = tmp_path_factory.mktemp("ray")
    images = load("mnist")[0][:90]
    model = RobustVQVAE(epochs=0, random_state=0).fit(images[:60])
    model.save(folder / "model", metadata={"size": [28, 28], "channels": 1})
    shards = []
    for k in range(3):
        shards.append(folder / f"shard-{k}.tar")
        with tarfile.open(shards[-1], "w") as archive:
            for i in range(10):
                buffer = io.BytesIO()
                Image.fromarray(images[60 + 10 * k + i]).save(buffer, format="PNG")
                content = b"none" if (k, i) == (1, 3) else buffer.getvalue()
                member = tarfile.TarInfo(f"{i}.png")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    expected = {}
    for shard in shards:
        score(folder / "model", shard, folder / "scores.csv")
        with (folder / "scores.csv").open(newline="") as file:
            expected |= {(str(shard), row["path"]): row for row in csv.DictReader(file)}
    return str(folder / "model"), list(map(str, shards)), expected


def check(rows, expected):
    assert len(rows) == len(expected) == 30
    for row in rows:
        wanted = expected[row["shard"], row["path"]]
        assert row["status"] == wanted["status"] and row["reason"] == wanted["reason"]
        if row["status"] == "ok":
            assert abs(row["score"] - float(wanted["score"])) < 1e-3
            assert bool(row["is_outlier"]) == (wanted["is_outlier"] == "true")
    assert [row["status"] for row in rows].count("unreadable") == 1


def test_a_worker_scores_as_score_does(job):
    model, shards, expected = job
    worker = ShardScorer(model)
    found = worker({"item": np.array(shards)})
    check([dict(zip(found, values, strict=True)) for values in zip(*found.values(), strict=True)], expected)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore::FutureWarning")
def test_two_workers_give_what_score_gives(job):
    ray = pytest.importorskip("ray")
    model, shards, expected = job
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        check(ray_score(model, shards, 2).take_all(), expected)
    finally:
        ray.shutdown()
