"""What MLflow's page shows of an experiment: a list of names and times only, unless a view is chosen."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

MODELS = {"mlflow.experimentKind": "custom_model_development"}
"""Tags of an experiment whose page opens with its runs; without, it opens with traces of language models."""
NOTE, VIEW, KEY = "mlflow.note.content", "mlflow.sharedViewState.", "figures"
"""Tags: Markdown on the experiment's page, and a saved view of its runs, which the page lists by name."""
PARENT = "mlflow.parentRunId"
NAME = "Settings and figures"
RUNS, PARAMS, METRICS = 200, 4, 12
"""Latest runs that are looked at; columns at most."""
WIDTH, LONGEST = 110, 64
"""Pixels of a column; letters of a key, so that the tag stays below the 5,000 that MLflow takes."""


def write_view(client: MlflowClient, experiment_id: str, figures: Iterable[str]) -> None:
    """Save a view of the experiment's runs: the parameters and ``figures``, by key, that differ between them.

    The experiment's note links to it, unless somebody wrote another. Figures of an earlier view stay. Raises
    MLflow's errors.
    """
    experiment = client.get_experiment(experiment_id)
    before = _columns(experiment.tags.get(VIEW + KEY, ""))
    runs = client.search_runs([experiment_id], max_results=RUNS)
    known = [key.removeprefix("metrics.`")[:-1] for key in before if key.startswith("metrics.`")]
    metrics = [run.data.metrics for run in runs]
    own = [run.data.params for run in runs]
    chosen = [
        *(f"params.`{key}`" for key in telling(own, sorted({key for one in own for key in one}))[:PARAMS]),
        *(f"metrics.`{key}`" for key in telling(metrics, dict.fromkeys([*figures, *known]))[:METRICS]),
    ]
    if not chosen:
        return
    state: dict[str, object] = {"selectedColumns": chosen, "columnOrder": chosen}
    state["columnWidths"] = dict.fromkeys(chosen, WIDTH)
    # By time, runs would be folded into those that began them.
    state |= {"orderByKey": chosen[0], "orderByAsc": True}
    shown = [run for run in runs if set(chosen) & {f"metrics.`{key}`" for key in run.data.metrics}]
    if shown and all(PARENT in run.data.tags for run in shown):
        state["searchFilter"] = f"tags.`{PARENT}` LIKE '%'"
    now = int(time.time() * 1000)
    view = {"name": NAME, "createdAt": now, "updatedAt": now, "state": json.dumps(state)}
    client.set_experiment_tag(experiment_id, VIEW + KEY, json.dumps(view))
    link = f"#/experiments/{experiment_id}/runs?workflowType=machine_learning&viewStateShareKey={KEY}"
    for tag, value in {**MODELS, NOTE: f"[All runs with their settings and figures]({link})"}.items():
        if tag not in experiment.tags:
            client.set_experiment_tag(experiment_id, tag, value)


def telling(runs: Collection[Mapping[str, object]], keys: Iterable[str]) -> list[str]:
    """The ``keys`` whose values differ, or else all, of those that half as many runs have as any.

    Keys of more than `LONGEST` letters are left out.
    """
    counts = {key: sum(key in run for run in runs) for key in keys if len(key) <= LONGEST}
    there = [key for key, count in counts.items() if 0 < max(counts.values()) <= 2 * count]
    differ = [key for key in there if len({run[key] for run in runs if key in run}) > 1]
    return differ or there


def _columns(view: str) -> list[str]:
    """Columns of a view that `write_view` wrote; none of another."""
    try:
        columns = json.loads(json.loads(view)["state"])["selectedColumns"]
    except (ValueError, LookupError, TypeError):
        return []
    return [column for column in columns if isinstance(column, str)] if isinstance(columns, list) else []
