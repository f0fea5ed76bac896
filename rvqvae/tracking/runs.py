"""Experiment tracking: every run on disk, and in MLflow if it can be reached.

A run always keeps ``run.json``, ``params.json``, ``metrics.jsonl`` and its artifacts in its own directory. At
the first failure of MLflow it warns once and continues without. mlflow is imported only when a run starts.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
import shutil
import sqlite3
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from filelock import FileLock

from rvqvae.atomic import replacing, write_atomically
from rvqvae.errors import InputError
from rvqvae.tracking.view import MODELS, write_view

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow.tracking import MlflowClient

T = TypeVar("T")

# MLflow's own defaults report usage to its makers, and keep the lock file of any project that happens
# to be in the working directory with a model.
_DISCREET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_UV_AUTO_DETECT": "false",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
}
# By default a dead server is retried for minutes, which must not hold up a training run.
_IMPATIENT = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
_PARAMS_PER_BATCH = 100
_METRICS_PER_BATCH = 1000


class TrackingWarning(UserWarning):
    """MLflow cannot be reached; results are kept on disk only."""


class Tracker:
    """One run, as a context manager; ``child`` makes a run nested in it.

    Without ``MLFLOW_TRACKING_URI``, runs go to ``mlflow.db`` and ``mlartifacts/`` beside
    ``directory``. A run that was cut short continues under its old MLflow id when it is started
    again in the same directory with the same parameters.
    """

    def __init__(
        self,
        experiment: str,
        *,
        run_name: str,
        params: Mapping[str, Any],
        directory: str | Path,
        parent: Tracker | None = None,
        enabled: bool = True,
    ) -> None:
        self.experiment = experiment
        self.run_name = run_name
        self.params = flatten(params)
        self.directory = Path(directory).absolute()
        self.parent = parent
        self.run_id: str | None = None
        """The run's id in MLflow; None where MLflow is off."""
        self._store: _Store = parent._store if parent else _Store(experiment, self.directory, enabled)
        self._lock = threading.Lock()

    def child(self, run_name: str, params: Mapping[str, Any]) -> Tracker:
        """A run nested in this one, with its own directory inside this one's."""
        return Tracker(
            self.experiment,
            run_name=run_name,
            params=params,
            directory=self.directory / _file_name(run_name),
            parent=self,
        )

    def metrics(self, values: Mapping[str, float | None], step: int | None = None) -> None:
        """Log numbers, all in one call; None is a value that is not available."""
        numbers = {key: None if value is None else float(value) for key, value in values.items()}
        now = time.time()
        line: dict[str, Any] = {} if step is None else {"step": step}
        line |= {"time": round(now, 3)}
        # JSON has no NaN or infinity.
        line |= {key: v if v is not None and math.isfinite(v) else None for key, v in numbers.items()}
        with self._lock, (self.directory / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")

        def log(client: MlflowClient, run_id: str) -> None:
            from mlflow.entities import Metric

            entries = [
                Metric(_mlflow_key(key), value, int(now * 1000), step or 0)
                for key, value in numbers.items()
                if value is not None
            ]
            for start in range(0, len(entries), _METRICS_PER_BATCH):
                client.log_batch(run_id, metrics=entries[start : start + _METRICS_PER_BATCH])
            if step is None:
                self._store.figures |= dict.fromkeys(entry.key for entry in entries)

        self._send(log)

    def artifact(self, path: str | Path, folder: str = "") -> Path:
        """Keep a file or a folder with the run; return its path in the run's directory."""
        source = Path(path).absolute()
        if not source.exists():
            raise FileNotFoundError(f"no such artifact: {path}")
        kept = source
        if not source.is_relative_to(self.directory):
            kept = self.directory / folder / source.name
            if source.is_dir():
                shutil.copytree(source, kept, dirs_exist_ok=True)
            else:
                with replacing(kept) as file, source.open("rb") as original:
                    shutil.copyfileobj(original, file)
        place = kept.parent.relative_to(self.directory).as_posix()
        self._send(
            lambda client, run_id: client.log_artifact(run_id, str(kept), None if place == "." else place)
        )
        return kept

    def figure(self, figure: Figure, name: str) -> Path:
        """Keep a matplotlib figure; the suffix of ``name`` (.png, .svg, .pdf) is the format."""
        kept = self.directory / name
        suffix = kept.suffix.removeprefix(".")
        with replacing(kept) as file:
            figure.savefig(file, format=suffix)
        return self.artifact(kept)

    def text(self, text: str, name: str) -> Path:
        """Keep a text (a table, a resolved configuration) as a file."""
        kept = self.directory / name
        write_atomically(kept, text.encode())
        return self.artifact(kept)

    def __enter__(self) -> Tracker:
        self.directory.mkdir(parents=True, exist_ok=True)
        self._store.connect()
        old = self._unfinished()
        if old is None:
            (self.directory / "metrics.jsonl").unlink(missing_ok=True)
            write_atomically(self.directory / "params.json", _json(self.params).encode())
        self.run_id = self._store.attempt(lambda client: self._start(client, (old or {}).get("run_id")))
        self._record("RUNNING")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        status = _status(error)
        self._record(status)
        self._send(lambda client, run_id: client.set_terminated(run_id, status))
        if self.parent is None:
            self._send(lambda client, _: write_view(client, self._store.experiment_id, self._store.figures))

    def _start(self, client: MlflowClient, old_run_id: str | None) -> str:
        from mlflow.entities import Param
        from mlflow.exceptions import MlflowException

        if old_run_id is not None:
            try:
                client.update_run(old_run_id, status="RUNNING")
                return old_run_id
            except MlflowException:
                pass  # the store was deleted or exchanged since
        tags = {"mlflow.source.name": Path(sys.argv[0]).name or "python", "mlflow.source.type": "LOCAL"}
        if self.parent is not None and self.parent.run_id is not None:
            tags["mlflow.parentRunId"] = self.parent.run_id
        run = client.create_run(self._store.experiment_id, tags=tags, run_name=self.run_name)
        params = [Param(_mlflow_key(key), str(value)) for key, value in self.params.items()]
        for start in range(0, len(params), _PARAMS_PER_BATCH):
            client.log_batch(run.info.run_id, params=params[start : start + _PARAMS_PER_BATCH])
        return str(run.info.run_id)

    def _unfinished(self) -> dict[str, Any] | None:
        """The record of an unfinished run in this directory, of the same parameters and store, or None."""
        try:
            record = json.loads((self.directory / "run.json").read_text(encoding="utf-8"))
            params = json.loads((self.directory / "params.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        same = params == json.loads(_json(self.params)) and record["tracking_uri"] == self._store.uri
        return record if same and record["status"] != "FINISHED" else None

    def _record(self, status: str) -> None:
        record = {
            "experiment": self.experiment,
            "run_name": self.run_name,
            "status": status,
            "run_id": self.run_id,
            "tracking_uri": self._store.uri,
        }
        write_atomically(self.directory / "run.json", _json(record).encode())

    def _send(self, action: Callable[[MlflowClient, str], object]) -> None:
        if (run_id := self.run_id) is not None:
            self._store.attempt(lambda client: action(client, run_id))


class _Store:
    """The MLflow client that a run shares with its children; the first failure switches it off."""

    def __init__(self, experiment: str, directory: Path, enabled: bool) -> None:
        self.directory = directory
        self.uri: str | None = None
        """URI of the store, without user name and password."""
        self.experiment_id = ""
        self.figures: dict[str, None] = {}
        """Keys of the metrics that were logged without a step, in that order."""
        self._experiment = experiment
        self._client: MlflowClient | None = None
        self._untried = enabled
        self._lock = threading.Lock()

    def connect(self) -> None:
        """Find the server and the experiment, at the first call only."""
        if self._untried:
            self._untried = False
            try:
                with _quiet():
                    self._client = self._connect()
            except Exception as error:
                self._say_off(error)

    def attempt(self, action: Callable[[MlflowClient], T]) -> T | None:
        """What ``action`` returns, or None where MLflow is off or has just failed."""
        client = self._client
        if client is None:
            return None
        # Whatever goes wrong inside MLflow must not cost anybody a training run.
        try:
            with _quiet():
                return action(client)
        except Exception as error:
            with self._lock:
                first, self._client = self._client is not None, None
            if first:
                self._say_off(error)
            return None

    def _connect(self) -> MlflowClient:
        _set_defaults(_DISCREET | _IMPATIENT)
        import mlflow

        if mlflow.is_tracking_uri_set():
            uri = mlflow.get_tracking_uri()
            self.uri = _without_password(uri)
            return self._enter(mlflow.MlflowClient(uri), None)

        home = self.directory.parent
        database = home / "mlflow.db"
        path = database.as_posix().replace("%", "%25").replace("?", "%3F")
        # Writers of the same file wait for each other; SQLite's own default is 5 s.
        self.uri = f"sqlite:///{path}?timeout=60"
        # MLflow creates its tables without regard to other processes that are at it too.
        with FileLock(home / ".mlflow.lock", timeout=60):
            # A file that is not a database fails here at once; MLflow would retry for minutes.
            with closing(sqlite3.connect(database)) as connection:
                connection.execute("PRAGMA schema_version")
            return self._enter(mlflow.MlflowClient(self.uri), (home / "mlartifacts").as_uri())

    def _enter(self, client: MlflowClient, artifacts: str | None) -> MlflowClient:
        """Find or create the experiment."""
        from mlflow.exceptions import MlflowException

        found = client.get_experiment_by_name(self._experiment)
        if found is None:
            with suppress(MlflowException):  # Another run may have been faster.
                client.create_experiment(self._experiment, artifact_location=artifacts, tags=MODELS)
            found = client.get_experiment_by_name(self._experiment)
            if found is None:
                raise MlflowException(f"the experiment {self._experiment!r} cannot be made")
        self.experiment_id = found.experiment_id
        return client

    def _say_off(self, error: Exception) -> None:
        cause = _without_password(" ".join(f"{type(error).__name__}: {error}".split()))
        cause = cause if len(cause) <= 200 else cause[:199] + "…"
        place = f" ({self.uri})" if self.uri else ""
        warnings.warn(
            f"MLflow tracking is off{place}: {cause}. The results are kept in {self.directory}.",
            TrackingWarning,
            stacklevel=2,
        )


def log_model(folder: str | Path, name: str = "rvqvae", *, registered_model_name: str | None = None) -> str:
    """Log the model that `RobustVQVAE.save`, ``rvqvae train`` or ``rvqvae clean`` wrote; returns its URI.

    ``mlflow.pyfunc.load_model`` and ``mlflow models serve --env-manager local`` take the URI. It goes where
    MLflow is set to log, and into the active run if there is one. InputError for a folder without a model.
    """
    if find_spec("mlflow") is None:
        raise InputError("mlflow is not installed: install the extra rvqvae[mlflow]")
    from rvqvae.commands.read import find_model
    from rvqvae.tracking.serving import load_served

    served = load_served(find_model(folder))
    _set_defaults(_DISCREET)
    import mlflow

    with _quiet(), TemporaryDirectory() as scratch:
        data = Path(scratch) / "model"
        # Not the folder itself, where a job also notes where its images lie.
        served.model.save(data)
        example = served.example()
        signature = mlflow.models.infer_signature(example, served.predict(example))
        if example.ndim > 2:
            # The type that takes anything: every other would cast floats to pixels before we see them.
            anything = mlflow.types.TensorSpec(np.dtype(object), (-1,))
            signature.inputs = mlflow.types.Schema([anything])
        info = mlflow.pyfunc.log_model(
            name=name,
            loader_module="rvqvae.tracking.serving",
            data_path=str(data),
            signature=signature,
            input_example=example,
            pip_requirements=[f"rvqvae=={version('rvqvae')}", f"mlflow=={version('mlflow')}"],
            registered_model_name=registered_model_name,
        )
    return str(info.model_uri)


def _set_defaults(defaults: Mapping[str, str]) -> None:
    for name, value in defaults.items():
        os.environ.setdefault(name, value)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence deprecation warnings of MLflow and its imports, on which the user cannot act."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings and dataclasses as one level: ``{"model.channels": 64}``; other objects as text."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            value = dataclasses.asdict(value)
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            simple = value is None or isinstance(value, bool | int | float | str)
            flat[f"{prefix}{key}"] = value if simple else str(value)
    return flat


def _status(error: BaseException | None) -> str:
    if error is None or (isinstance(error, SystemExit) and not error.code):
        return "FINISHED"
    return "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED"


def _without_password(text: str) -> str:
    return re.sub(r"//[^/@\s]*@", "//", text)


def _mlflow_key(name: str) -> str:
    """MLflow refuses names with parentheses and the like: ``FD (features)`` becomes ``FD features``."""
    return re.sub(r"[^\w\-. /]", "", name)


def _file_name(name: str) -> str:
    return re.sub(r"[^\w\-.]+", "-", name).strip("-.") or "run"


def _json(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
