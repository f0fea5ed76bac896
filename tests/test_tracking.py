"""Runs in a real SQLite store, against servers that are away or die, and without mlflow."""

import json
import math
import multiprocessing
import sys
import threading
import time
import warnings
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from rvqvae.config import ModelConfig
from rvqvae.tracking.runs import Tracker, TrackingWarning, flatten

# Newer Pythons report SQLite connections that MLflow's pool leaves to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning")


@pytest.fixture(autouse=True)
def no_server(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for name in ("MAX_RETRIES", "TIMEOUT"):
        monkeypatch.delenv(f"MLFLOW_HTTP_REQUEST_{name}", raising=False)


def tracker(directory: Path, **options) -> Tracker:
    options = {"run_name": "parent", "params": {"seed": 0}} | options
    return Tracker("study", directory=directory, **options)


def report_everything(run: Tracker) -> None:
    """One child with all that a run can keep."""
    with run.child("robust model", {"model": ModelConfig(channels=64), "rate": 0.3}) as child:
        for epoch in range(3):
            child.metrics({"loss": 1 / (epoch + 1), "FD (features)": 5, "purity": None}, step=epoch)
        child.text("a b", "tables/final.txt")
        child.figure(Figure(), "scores.png")


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def assert_kept_on_disk(directory: Path) -> None:
    child = directory / "robust-model"
    assert json.loads((directory / "params.json").read_text()) == {"seed": 0}
    assert json.loads((child / "params.json").read_text())["model.channels"] == 64
    assert [line["loss"] for line in lines(child / "metrics.jsonl")] == [1, 1 / 2, 1 / 3]
    assert (child / "tables" / "final.txt").read_text() == "a b"
    assert (child / "scores.png").read_bytes().startswith(b"\x89PNG")
    assert [json.loads((d / "run.json").read_text())["status"] for d in (directory, child)] == [
        "FINISHED"
    ] * 2
    assert not list(directory.rglob("*.partial"))


def client_of(directory: Path):
    from mlflow import MlflowClient

    return MlflowClient(f"sqlite:///{directory.parent / 'mlflow.db'}")


def test_sqlite_store_holds_nested_runs(tmp_path, capfd):
    directory = tmp_path / "study é" / "run 1"
    extra = tmp_path / "manifest.csv"
    extra.write_text("path,keep\n")
    with tracker(directory) as run:
        report_everything(run)
        assert run.artifact(extra, "splits") == directory / "splits" / "manifest.csv"
        run.metrics({"broken": math.nan})
    assert_kept_on_disk(directory)
    assert "mlflow" not in capfd.readouterr().err

    client = client_of(directory)
    experiment = client.get_experiment_by_name("study")
    runs = {r.info.run_name: r for r in client.search_runs([experiment.experiment_id])}
    assert set(runs) == {"parent", "robust model"}
    parent, child = runs["parent"], runs["robust model"]
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id == run.run_id
    assert {parent.info.status, child.info.status} == {"FINISHED"}
    assert child.data.params["model.channels"] == "64" and child.data.params["rate"] == "0.3"
    history = client.get_metric_history(child.info.run_id, "loss")
    assert [(m.step, m.value) for m in history] == [(0, 1), (1, 1 / 2), (2, 1 / 3)]
    assert child.data.metrics["FD features"] == 5 and "purity" not in child.data.metrics
    assert math.isnan(parent.data.metrics["broken"])
    assert lines(directory / "metrics.jsonl")[0]["broken"] is None
    assert {f.path for f in client.list_artifacts(child.info.run_id)} == {"scores.png", "tables"}
    assert [f.path for f in client.list_artifacts(child.info.run_id, "tables")] == ["tables/final.txt"]
    assert [f.path for f in client.list_artifacts(parent.info.run_id, "splits")] == ["splits/manifest.csv"]


def test_status_says_how_the_run_ended(tmp_path):
    ends = [
        (KeyboardInterrupt(), "KILLED"),
        (RuntimeError(), "FAILED"),
        (SystemExit(2), "FAILED"),
        (SystemExit(), "FINISHED"),
    ]
    for i, (error, status) in enumerate(ends):
        folder = tmp_path / str(i)
        with pytest.raises(type(error)), tracker(folder) as run:
            raise error
        assert json.loads((folder / "run.json").read_text())["status"] == status
        assert client_of(folder).get_run(run.run_id).info.status == status


def test_a_run_that_was_cut_short_goes_on_under_its_id(tmp_path):
    directory = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt), tracker(directory) as first:
        first.metrics({"loss": 2}, step=0)
        raise KeyboardInterrupt
    with tracker(directory) as second:
        second.metrics({"loss": 1}, step=1)
    assert second.run_id == first.run_id
    assert [line["loss"] for line in lines(directory / "metrics.jsonl")] == [2, 1]
    assert client_of(directory).get_run(first.run_id).info.status == "FINISHED"

    with tracker(directory) as third:
        third.metrics({"loss": 3}, step=0)
    assert third.run_id != first.run_id and len(lines(directory / "metrics.jsonl")) == 1

    with pytest.raises(KeyboardInterrupt), tracker(directory):
        raise KeyboardInterrupt
    with tracker(directory, params={"seed": 1}) as fourth:
        pass
    assert fourth.run_id not in (None, first.run_id, third.run_id)


def _run_in_a_process(directory: Path) -> None:
    warnings.simplefilter("error")
    with tracker(directory) as run:
        run.metrics({"loss": 1})


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
def test_two_runs_may_create_the_store_at_once(tmp_path):
    import mlflow  # noqa: F401  (the processes inherit it, and so really meet)

    context = multiprocessing.get_context("fork")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # fork beside threads
        processes = [
            context.Process(target=_run_in_a_process, args=(tmp_path / f"run{i}",)) for i in range(2)
        ]
        for process in processes:
            process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    client = client_of(tmp_path / "run0")
    experiment = client.get_experiment_by_name("study")
    assert len(client.search_runs([experiment.experiment_id])) == 2


def test_unreachable_server_is_said_once(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://somebody:secret@127.0.0.1:9")
    start = time.monotonic()
    with pytest.warns(TrackingWarning) as caught, tracker(tmp_path / "run") as run:
        report_everything(run)
    assert time.monotonic() - start < 15
    assert len(caught) == 1 and "127.0.0.1:9" in str(caught[0].message)
    assert "secret" not in str(caught[0].message) + (tmp_path / "run" / "run.json").read_text()
    assert_kept_on_disk(tmp_path / "run")


class _DyingServer(BaseHTTPRequestHandler):
    """Enough of MLflow's REST interface to start a run."""

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        run = {"run": {"info": {"run_id": "a1", "experiment_id": "1", "artifact_uri": "mlflow-artifacts:/"}}}
        answers = {"get-by-name": {"experiment": {"experiment_id": "1", "name": "study"}}, "create": run}
        body = json.dumps(answers.get(self.path.split("?")[0].rsplit("/", 1)[1], {})).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = _answer

    def log_message(self, *_: object) -> None:
        pass


def test_server_that_dies_during_the_run_costs_nothing(tmp_path, monkeypatch):
    server = HTTPServer(("127.0.0.1", 0), _DyingServer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.server_port}")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with tracker(tmp_path / "run") as run:
            assert run.run_id == "a1" and not caught
            server.shutdown()
            server.server_close()
            report_everything(run)
    assert [w.category for w in caught] == [TrackingWarning]
    assert_kept_on_disk(tmp_path / "run")


def test_without_mlflow(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.warns(TrackingWarning, match="mlflow") as caught, tracker(tmp_path / "run") as run:
        report_everything(run)
    assert len(caught) == 1
    assert_kept_on_disk(tmp_path / "run")


def test_broken_store_does_not_hang(tmp_path):
    (tmp_path / "mlflow.db").write_text("this is no database, " * 100)
    with pytest.warns(TrackingWarning, match="not a database"), tracker(tmp_path / "run") as run:
        report_everything(run)
    assert_kept_on_disk(tmp_path / "run")


def test_disabled_is_silent(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with tracker(tmp_path / "run", enabled=False) as run:
        report_everything(run)
    assert run.run_id is None and not (tmp_path / "mlflow.db").exists()
    assert_kept_on_disk(tmp_path / "run")


def test_failed_write_leaves_the_old_file(tmp_path):
    with tracker(tmp_path / "run", enabled=False) as run:
        run.text("old", "table.txt")
        with pytest.raises(UnicodeEncodeError):
            run.text("\ud800", "table.txt")
        with pytest.raises(FileNotFoundError, match="no such artifact"):
            run.artifact(tmp_path / "nothing.txt")
    assert (tmp_path / "run" / "table.txt").read_text() == "old"
    assert not list(tmp_path.rglob("*.partial"))


def test_flatten():
    nested = {
        "a": {"b": {"c": 1}},
        "path": Path("x"),
        "none": None,
        "list": [1, 2],
        "model": ModelConfig(channels=8),
    }
    flat = flatten(nested)
    assert flat["a.b.c"] == 1 and flat["path"] == "x" and flat["none"] is None
    assert flat["list"] == "[1, 2]" and flat["model.channels"] == 8


def view_of(client) -> tuple[dict, dict]:
    """Tags of the experiment, and the saved view that its page offers."""
    tags = client.get_experiment_by_name("study").tags
    return tags, json.loads(json.loads(tags["mlflow.sharedViewState.figures"])["state"])


def test_the_page_has_a_view_of_what_runs_differ_in(tmp_path):
    with tracker(tmp_path / "run") as run:
        for method, score in (("ours", 0.9), ("theirs", 0.8)):
            with run.child(method, {"method": method, "seed": 0}) as child:
                child.metrics({"loss": score}, step=3)
                child.metrics({"AUROC (mean)": score, "error": 0.5})
        run.metrics({"ours.AUROC": 0.9})
    client = client_of(tmp_path / "run")
    tags, view = view_of(client)
    assert view["selectedColumns"] == ["params.`method`", "metrics.`AUROC mean`"]
    assert view["orderByKey"] == "params.`method`"
    number = client.get_experiment_by_name("study").experiment_id
    named = {run.info.run_name for run in client.search_runs([number], view["searchFilter"])}
    assert named == {"ours", "theirs"}
    assert tags["mlflow.experimentKind"] == "custom_model_development"
    assert f"#/experiments/{number}/runs?" in tags["mlflow.note.content"]

    client.set_experiment_tag(number, "mlflow.note.content", "mine")
    with tracker(tmp_path / "other", params={"seed": 1}) as run:
        run.metrics({"AUROC (mean)": 0.7})
    tags, view = view_of(client)
    assert tags["mlflow.note.content"] == "mine"
    assert view["selectedColumns"] == ["params.`method`", "params.`seed`", "metrics.`AUROC mean`"]
    assert "searchFilter" not in view


def test_a_view_that_somebody_else_saved_is_no_hindrance(tmp_path):
    with tracker(tmp_path / "run") as run:
        run.metrics({"loss": 1})
    client = client_of(tmp_path / "run")
    number = client.get_experiment_by_name("study").experiment_id
    for content in ("deflate;xyz", '{"state": "[]"}', '{"state": "{\\"selectedColumns\\": [1]}"}'):
        client.set_experiment_tag(number, "mlflow.sharedViewState.figures", content)
        with tracker(tmp_path / "run") as run:
            run.metrics({"loss": 2} | {f"{i}" * 200: i for i in range(9)})
        assert view_of(client)[1]["selectedColumns"] == ["params.`seed`", "metrics.`loss`"]
