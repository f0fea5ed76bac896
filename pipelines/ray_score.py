"""Score shards on more than one machine: the saved model in Ray Data's ``map_batches``.

    uv run --group ray python -m pipelines.ray_score cleaned/model "shards/*.tar" --out scores --workers 4

Every worker loads the model once and scores shard after shard, as `rvqvae score` does: the rows are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from glob import glob
from pathlib import Path
from typing import Any

import numpy as np

from rvqvae.commands.read import load_model, read_for_model
from rvqvae.commands.score import COLUMNS, score_images
from rvqvae.errors import InputError


class ShardScorer:
    """For ``map_batches``: rows of paths of shards (or folders) in, a row for every image in them out."""

    def __init__(self, model: str) -> None:
        self.model, self.side = load_model(model)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """``batch["item"]`` are paths; the columns out are those of scores.csv, after ``shard``."""
        parts = [self._score(str(path)) for path in batch["item"]]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _score(self, path: str) -> dict[str, np.ndarray]:
        with read_for_model(path, self.side, workers=1) as found:
            scored = score_images(self.model, found.images)
        n = len(found.entries)
        columns: dict[str, Any] = {"shard": np.full(n, path)}
        for name in ("path", "status", "reason"):
            columns[name] = np.array([getattr(entry, name) for entry in found.entries])
        columns["score"], columns["outlier_probability"] = np.full(n, np.nan), np.full(n, np.nan)
        columns["is_outlier"] = np.zeros(n, bool)
        columns["score"][found.rows] = scored.scores
        columns["outlier_probability"][found.rows] = scored.probability
        columns["is_outlier"][found.rows] = scored.is_outlier
        return {name: columns[name] for name in ("shard", *COLUMNS)}


def ray_score(model: str, shards: Sequence[str], workers: int = 2) -> Any:
    """A lazy Ray dataset: a row for every image in ``shards``, scored by ``workers`` copies of the model."""
    import ray

    return ray.data.from_items(list(shards)).map_batches(
        ShardScorer,
        fn_constructor_args=(model,),
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=workers),
    )


def main(model: str, shards: str, out: str, workers: int = 2) -> None:
    """Score shards with Ray, and write the rows as Parquet.

    Args:
        model: folder of a model
        shards: pattern of paths that every worker can read, such as "shards/*.tar"
        out: folder for the Parquet files
        workers: copies of the model
    """
    found = sorted(glob(shards))
    if not found:
        raise InputError(f"{shards!r} names no file: give a pattern such as 'shards/*.tar'")
    ray_score(
        str(Path(model).resolve()), [str(Path(path).resolve()) for path in found], workers
    ).write_parquet(out)


if __name__ == "__main__":
    from jsonargparse import auto_cli

    auto_cli(main, as_positional=True)
