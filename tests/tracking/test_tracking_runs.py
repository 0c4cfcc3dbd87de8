"""What is reported arrives once, in one run, whatever dies in between. Real SQLite stores, real kills."""

from __future__ import annotations

import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run, ViewType

from langevin.errors import ConfigError, TrackingError
from langevin.tracking.registry import Registry
from langevin.tracking.runs import Tracker, find_run, history, leave
from langevin.tracking.store import client

CHILD = """
import sys, time
from pathlib import Path
import langevin.tracking.registry
from langevin.tracking.runs import Tracker
assert "mlflow" not in sys.modules and "pandas" not in sys.modules
uri, folder, steps, pause = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
tracker = Tracker(uri, "digits", "run-a", folder)
for step in range(steps):
    tracker.metrics(step * 128, {"loss": 1 / (1 + step), "lr": 0.1})
    time.sleep(pause)
done = tracker.close(timeout_s=80)
from mlflow.telemetry.client import get_telemetry_client
assert get_telemetry_client() is None
sys.exit(0 if done else 3)
"""


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def known(tracker: Tracker) -> str:
    assert tracker.run_id is not None
    return tracker.run_id


def all_runs(uri: str) -> list[Run]:
    found = client(uri).get_experiment_by_name("digits")
    assert found is not None
    return client(uri).search_runs([found.experiment_id], run_view_type=ViewType.ALL)


def test_everything_reported_is_in_mlflow(uri: str, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("<p>hello</p>")
    folder = tmp_path / "extras"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "a.json").write_text("{}")
    with Tracker(uri, "digits", "run-a", tmp_path / "run") as tracker:
        tracker.params({"train.lr": 2e-4, "name": "x" * 7000})
        tracker.tags({"langevin.recipe": "ddpm-digits"})
        tracker.metrics(128, {"loss": 0.5, "recall/5%": float(np.float32(0.25))})
        tracker.image("samples/ema", 128, np.arange(48, dtype=np.uint8).reshape(4, 4, 3))
        tracker.artifact(page, "report")
        page.write_text("changed after the call")
        tracker.artifact(folder)
        tracker.text("summary", "notes/summary.txt")
        tracker.dataset("digits", "f" * 40, "/data/digits", "training")
        assert tracker.deliver(20)
        assert client(uri).get_run(known(tracker)).info.status == "RUNNING"
    run = client(uri).get_run(known(tracker))
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "run-a"
    assert run.data.params == {"train.lr": "0.0002", "name": "x" * 6000}
    assert run.data.tags["langevin.recipe"] == "ddpm-digits"
    assert run.data.metrics == {"loss": 0.5, "recall/5_": 0.25}
    assert run.inputs is not None
    dataset = run.inputs.dataset_inputs[0]
    assert (dataset.dataset.name, dataset.dataset.digest, dataset.tags[0].value) == ("digits", "f" * 36, "training")
    artifacts = tmp_path / "mlflow" / "artifacts" / known(tracker) / "artifacts"
    assert (artifacts / "report" / "page.html").read_text() == "<p>hello</p>"
    assert (artifacts / "extras" / "deep" / "a.json").exists()
    assert (artifacts / "notes" / "summary.txt").read_text() == "summary"
    pictures = sorted(path.name for path in (artifacts / "images").iterdir())
    assert len(pictures) == 2
    assert all(name.startswith("samples~ema+step+128+timestamp+") for name in pictures)
    assert list((tmp_path / "run" / "spool" / "payload").iterdir()) == []
    assert find_run(uri, "digits", "run-a") == tracker.run_id
    assert find_run(uri, "digits", "run-b") is None
    assert find_run(uri, "nothing", "run-a") is None


def test_points_that_another_process_leaves_are_delivered_once(uri: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with Tracker(uri, "digits", "run-a", folder) as tracker:
        assert leave("digits", "run-a", folder, "test/fid_curve", {512: 9.0, 256: 10.0}) == 2
        assert leave("digits", "run-a", folder, "test/fid_curve", {512: 9.0, 768: float("inf")}) == 1
        assert leave("digits", "run-a", folder, "test/fid_curve", {512: 9.0, 768: 8.0}) == 0
        assert tracker.deliver(20)
    assert leave("digits", "run-a", folder, "test/fid_curve", {1024: 7.0}) == 1
    lines = (folder / "spool" / "records.jsonl").read_text().splitlines()
    assert sum(json.loads(line)["kind"] == "metrics" for line in lines) == 4
    with Tracker(uri, "digits", "run-a", folder):
        pass
    (run,) = all_runs(uri)
    assert history(uri, run.info.run_id, "test/fid_curve") == [(256, 10.0), (512, 9.0), (1024, 7.0)]
    assert history(uri, run.info.run_id, "test/fid_curve.nonfinite") == [(768, 1.0)]


def test_calls_return_at_once_and_wait_on_disk_while_mlflow_is_away(uri: str, tmp_path: Path) -> None:
    away = Tracker(f"http://127.0.0.1:{closed_port()}", "digits", "run-a", tmp_path / "run")
    times = []
    for step in range(400):
        start = time.perf_counter()
        away.metrics(step, {"loss": 1.0 / (step + 1), "grad": 1.0, "lr": 1e-3})
        times.append(time.perf_counter() - start)
    away.image("grid", 0, np.zeros((8, 8), np.uint8))
    assert statistics.median(times) < 1e-3
    assert away.run_id is None
    start = time.perf_counter()
    assert not away.close(timeout_s=0.3)
    assert time.perf_counter() - start < 2

    with Tracker(uri, "digits", "run-a", tmp_path / "run") as later:
        assert later.deliver(20)
    assert history(uri, known(later), "loss") == [(step, 1.0 / (step + 1)) for step in range(400)]
    assert client(uri).list_artifacts(known(later), "images")
    first = json.loads((tmp_path / "run" / "spool" / "records.jsonl").read_text().splitlines()[0])
    assert client(uri).get_run(known(later)).info.start_time == first["t"]  # it started then, not when MLflow came back


def test_a_resumed_run_is_the_same_run_without_double_points(
    uri: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    grid = np.zeros((8, 8, 1), np.uint8)
    with Tracker(uri, "digits", "run-a", tmp_path / "run") as first:
        first.params({"lr": 1, "batch": 8})
        first.image("grid", 3, grid)
        for step in range(5):
            first.metrics(step, {"loss": float(step)})
    with Tracker(
        uri, "digits", "run-a", tmp_path / "elsewhere"
    ) as second:  # the evaluate stage, in a folder of its own
        second.params({"lr": 2, "batch": 8, "new": "x"})
        second.image("grid", 3, grid + 1)
        second.image("grid", 6, grid)
        for step in range(3, 8):
            second.metrics(step, {"loss": float(step), "fid": 2.0})
            second.metrics(step, {"loss": -1.0})  # the same step once more within one process
        assert second.deliver(20)
        assert client(uri).get_run(known(second)).info.status == "RUNNING"
    assert second.run_id == first.run_id
    assert len(all_runs(uri)) == 1
    assert history(uri, known(first), "loss") == [(step, float(step)) for step in range(8)]
    assert history(uri, known(first), "fid") == [(step, 2.0) for step in range(3, 8)]
    run = client(uri).get_run(known(first))
    assert run.data.params == {"lr": "1", "batch": "8", "new": "x"}
    assert run.data.tags["langevin.param_changed.lr"] == "2"
    assert "parameter lr" in caplog.text
    assert "parameter batch" not in caplog.text
    assert len(client(uri).list_artifacts(known(first), "images")) == 4


@pytest.mark.parametrize("lost", ["position", "store"])
def test_bookkeeping_or_store_lost_after_delivery(uri: str, tmp_path: Path, empty_store: Path, lost: str) -> None:
    """A kill between delivery and bookkeeping leaves the first case; a new MLflow for an old run is the second."""
    with Tracker(uri, "digits", "run-a", tmp_path / "run") as before:
        before.params({"lr": 1})
        before.image("grid", 0, np.zeros((8, 8), np.uint8))
        before.metrics(0, {"loss": 1.0})
    if lost == "position":
        (tmp_path / "run" / "spool" / "position.json").unlink()
    else:
        uri = f"sqlite:///{tmp_path}/other.db"
        (tmp_path / "other.db").write_bytes(empty_store.read_bytes())
    with Tracker(uri, "digits", "run-a", tmp_path / "run") as after:
        after.metrics(1, {"loss": 0.5})
    assert (after.run_id == before.run_id) == (lost == "position")
    assert history(uri, known(after), "loss") == [(0, 1.0), (1, 0.5)]
    assert client(uri).get_run(known(after)).data.params == {"lr": "1"}
    assert len(all_runs(uri)) == 1
    assert len(client(uri).list_artifacts(known(after), "images")) == (2 if lost == "position" else 0)


def test_an_answer_lost_after_mlflow_has_done_the_work(
    uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every kind of call succeeds in the store and fails on its way back, once each: nothing may double."""
    lost: list[str] = []

    def loses_the_first_answer(name: str) -> None:
        call = getattr(MlflowClient, name)

        def wrapped(self: MlflowClient, *arguments: Any, **options: Any) -> Any:
            answer = call(self, *arguments, **options)
            if name not in lost:
                lost.append(name)
                raise ConnectionError("the answer was lost")
            return answer

        monkeypatch.setattr(MlflowClient, name, wrapped)

    calls = ("create_run", "log_batch", "log_artifact", "log_inputs", "set_tag", "set_terminated")
    for name in calls:
        loses_the_first_answer(name)
    with Tracker(uri, "digits", "run-a", tmp_path / "run") as tracker:
        tracker.metrics(0, {"loss": 1.0})
        tracker.image("grid", 0, np.zeros((8, 8), np.uint8))
        tracker.dataset("digits", "d", "/data", "training")
        tracker.metrics(0, {"loss": 1.0})
        tracker.metrics(1, {"loss": 0.5})
    assert set(lost) == set(calls)
    assert [run.info.run_id for run in all_runs(uri)] == [tracker.run_id]
    assert history(uri, known(tracker), "loss") == [(0, 1.0), (1, 0.5)]
    assert len(client(uri).list_artifacts(known(tracker), "images")) == 2
    run = client(uri).get_run(known(tracker))
    assert run.info.status == "FINISHED"
    assert run.inputs is not None
    assert len(run.inputs.dataset_inputs) == 1


def test_killed_while_it_logs_and_run_again_from_the_start(uri: str, tmp_path: Path) -> None:
    position = tmp_path / "run" / "spool" / "position.json"
    command = [sys.executable, "-c", CHILD, uri, str(tmp_path / "run")]
    child = subprocess.Popen([*command, "100000", "0.002"])
    deadline = time.monotonic() + 60
    while not (position.exists() and json.loads(position.read_text())["offset"] > 2000):
        assert time.monotonic() < deadline
        assert child.poll() is None
        time.sleep(0.02)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    reported = sum('"metrics"' in line for line in (position.parent / "records.jsonl").read_text().splitlines())
    assert all_runs(uri)[0].info.status == "RUNNING"

    steps = reported + 50
    assert subprocess.run([*command, str(steps), "0"], timeout=60).returncode == 0
    runs = all_runs(uri)
    assert len(runs) == 1
    assert runs[0].info.status == "FINISHED"
    for key in ("loss", "lr"):
        assert [step for step, _ in history(uri, runs[0].info.run_id, key)] == [step * 128 for step in range(steps)]


def test_two_processes_make_one_experiment_and_one_run_in_a_store_that_is_not_there_yet(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/new/mlflow.db"
    commands = [[sys.executable, "-c", CHILD, uri, str(tmp_path / name), "40", "0"] for name in ("one", "two")]
    # as a user has it: none of the switches that this process's import of langevin.tracking has set
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW", "DO_NOT"))}
    options: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "env": environment}
    children = [subprocess.Popen(command, **options) for command in commands]
    said = [child.communicate(timeout=120)[0] for child in children]
    assert [child.returncode for child in children] == [0, 0], said
    assert said == [b"", b""]
    active = [run for run in all_runs(uri) if run.info.lifecycle_stage == "active"]
    assert len(active) == 1
    assert {step for step, _ in history(uri, active[0].info.run_id, "loss")} == {step * 128 for step in range(40)}


def test_what_is_not_finite_is_marked_at_its_step(uri: str, tmp_path: Path) -> None:
    with Tracker(uri, "digits", "run-a", tmp_path / "run") as tracker:
        tracker.metrics(0, {"loss": 1.0})
        tracker.metrics(1, {"loss": float("nan"), "grad": float("-inf"), "lr": 0.1})
        tracker.metrics(2, {"loss": 0.5})
    assert history(uri, known(tracker), "loss") == [(0, 1.0), (2, 0.5)]
    assert history(uri, known(tracker), "loss.nonfinite") == [(1, 1.0)]
    assert history(uri, known(tracker), "grad.nonfinite") == [(1, 1.0)]
    assert history(uri, known(tracker), "lr") == [(1, 0.1)]


def test_large_batches_and_refused_records_do_not_stop_the_others(
    uri: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    many = {f"key{index:04}": float(index) for index in range(1201)}
    with Tracker(uri, "digits", "run-a", tmp_path / "run") as tracker:
        tracker.params(many)
        tracker.metrics(0, many)
        tracker._spool.append({"t": 1, "kind": "metrics", "step": 0, "values": {"../up": 1.0}})
        tracker._spool.append({"t": 1, "kind": "image", "key": "grid", "step": 0, "file": "gone.npy"})
        tracker._spool.append({"t": 1, "kind": "metrics", "step": "x", "values": [1]})
        tracker.artifact(tmp_path / "missing.txt")
        tracker.metrics(1, {"loss": 1.0})
        tracker.metrics(1, {"../odd//name": 2.0})
    run = client(uri).get_run(known(tracker))
    assert run.data.metrics == many | {"loss": 1.0, "odd/name": 2.0}
    assert len(run.data.params) == 1201
    refused = (tmp_path / "run" / "spool" / "refused.jsonl").read_text().splitlines()
    assert [json.loads(line)["kind"] for line in refused] == ["metrics", "image", "metrics"]
    assert "missing.txt" in caplog.text


def test_artifact_storage_that_is_away_holds_up_no_points(uri: str, tmp_path: Path) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where the artifacts' folder should be")
    tracker = Tracker(uri, "digits", "run-a", tmp_path / "run", artifact_root=str(blocked / "artifacts"))
    tracker.text("summary", "summary.txt")
    tracker.metrics(0, {"loss": 1.0})
    assert not tracker.deliver(1.5)
    assert history(uri, known(tracker), "loss") == [(0, 1.0)]
    blocked.unlink()
    assert tracker.close()
    assert [file.path for file in client(uri).list_artifacts(known(tracker))] == ["summary.txt"]


def test_a_line_cut_short_costs_only_itself(uri: str, tmp_path: Path) -> None:
    with Tracker(uri, "digits", "run-a", tmp_path / "run") as tracker:
        tracker.metrics(0, {"loss": 1.0})
    with (tmp_path / "run" / "spool" / "records.jsonl").open("a") as journal:
        journal.write('{"t":1,"kind":"metr')
    with Tracker(uri, "digits", "run-a", tmp_path / "run") as tracker:
        tracker.metrics(1, {"loss": 0.5})
    assert history(uri, known(tracker), "loss") == [(0, 1.0), (1, 0.5)]


def test_a_run_deleted_under_way_comes_back(uri: str, tmp_path: Path) -> None:
    with Tracker(uri, "digits", "run-a", tmp_path / "run") as tracker:
        tracker.metrics(0, {"loss": 1.0})
        assert tracker.deliver(20)
        client(uri).delete_run(known(tracker))
        tracker.metrics(1, {"loss": 0.5})
        assert tracker.deliver(20)
    assert [(run.info.run_id, run.info.lifecycle_stage) for run in all_runs(uri)] == [(tracker.run_id, "active")]
    assert history(uri, known(tracker), "loss") == [(0, 1.0), (1, 0.5)]


def test_the_status_says_how_the_run_ended(uri: str, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), Tracker(uri, "digits", "failed", tmp_path / "a"):
        raise RuntimeError
    with pytest.raises(KeyboardInterrupt), Tracker(uri, "digits", "killed", tmp_path / "b"):
        raise KeyboardInterrupt
    status = {run.info.run_name: run.info.status for run in all_runs(uri)}
    assert status == {"failed": "FAILED", "killed": "KILLED"}


def test_mistakes_are_named(uri: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match='run name = "it\'s": cannot name anything'):
        Tracker(uri, "digits", "it's", tmp_path / "run")
    Tracker(uri, "digits", "run-a", tmp_path / "run").close()
    with pytest.raises(ConfigError, match="belongs to the run 'run-a' of the experiment 'digits', not to 'run-b'"):
        Tracker(uri, "digits", "run-b", tmp_path / "run")
    with pytest.raises(TrackingError, match=r"127\.0\.0\.1"):
        find_run(f"http://127.0.0.1:{closed_port()}", "digits", "run-a")
    with Tracker(uri, "digits", "run-a", tmp_path / "run") as tracker, pytest.raises(ValueError, match="uint8"):
        tracker.image("grid", 0, np.zeros((8, 8)))
    with pytest.raises(ValueError, match="ends as one of FINISHED, FAILED, KILLED"):
        tracker.close("60")  # type: ignore[arg-type]


def test_children_and_their_parent_find_each_other_by_name_whoever_comes_first(uri: str, tmp_path: Path) -> None:
    for number in (1, 2, 1):  # the first one again, as after a kill
        with Tracker(uri, "digits", f"trial-{number}", tmp_path / f"trial-{number}") as tracker:
            tracker.parent("search")
    with Tracker(uri, "digits", "search", tmp_path / "search") as tracker:
        tracker.params({"algorithm": "grid"})
    runs = {run.info.run_name: run for run in all_runs(uri)}
    assert sorted(runs) == ["search", "trial-1", "trial-2"]
    assert len(all_runs(uri)) == 3
    above = runs.pop("search")
    assert above.data.params == {"algorithm": "grid"}
    assert {run.data.tags["mlflow.parentRunId"] for run in runs.values()} == {above.info.run_id}
    with pytest.raises(ConfigError, match="cannot name"), Tracker(uri, "digits", "x", tmp_path / "x") as tracker:
        tracker.parent("it's")


def test_a_kept_checkpoint_is_one_logged_model(uri: str, tmp_path: Path) -> None:
    """Reported by two lives of an evaluation and then registered: one model, one point, in the run and on the model."""
    kept = {"a" * 64: 128, "b" * 64: 256}
    for life in ("first", "second"):
        with Tracker(uri, "digits", "run-a", tmp_path / life) as tracker:
            for sha256, images in kept.items():
                tracker.metrics(images, {"test/fid_curve": 1000 / images})
                figures = {"test/fid_curve": 1000 / images, "test/broken": float("nan")}
                tracker.model(sha256, images, f"/runs/{images}", figures, ("digits", "d" * 36))
    experiment = client(uri).get_run(known(tracker)).info.experiment_id
    models = {model.tags["langevin.images"]: model for model in client(uri).search_logged_models([experiment])}
    assert {images: model.tags["langevin.checkpoint_sha256"] for images, model in models.items()} == {
        "128": "a" * 64, "256": "b" * 64,
    }  # fmt: skip
    for images, model in models.items():
        (metric,) = model.metrics or []
        assert (metric.key, metric.value, metric.step) == ("test/fid_curve", 1000 / int(images), int(images))
        assert (metric.dataset_name, metric.dataset_digest) == ("digits", "d" * 36)
        assert (model.source_run_id, model.status) == (tracker.run_id, "READY")
    assert history(uri, known(tracker), "test/fid_curve") == [(128, 1000 / 128), (256, 1000 / 256)]
    registry, tags = Registry(uri), {"langevin.checkpoint_sha256": "b" * 64, "langevin.recipe": "digits"}
    registry.register("digits", "/runs/256", known(tracker), tags)
    assert registry.resolve("models:/digits/1").model_id == models["256"].model_id
    assert client(uri).get_logged_model(models["256"].model_id).tags["langevin.recipe"] == "digits"
