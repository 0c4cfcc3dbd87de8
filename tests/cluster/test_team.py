"""A team's MLflow: Postgres behind it, artifacts in a real S3 through it, a password before it."""

from __future__ import annotations

import io
import json
import subprocess
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from e2e.processes import free_ports
from e2e.recipes import environment
from e2e.recipes import langevin as langevin_process
from mlflow import MlflowClient
from mlflow.entities import Run, ViewType
from PIL import Image

from langevin.errors import ConfigError
from langevin.tracking.registry import Registry
from langevin.tracking.runs import Tracker, history
from langevin.tracking.store import client, reachable

from .servers import MLFLOW, Bucket, team_variables
from .way import IMAGES, Way, langevin, surroundings

pytestmark = pytest.mark.cluster


@pytest.fixture
def mlflow(team_way: Way, monkeypatch: pytest.MonkeyPatch) -> Iterator[MlflowClient]:
    """Ana's client, in whose environment the test runs."""
    surroundings(monkeypatch, team_way.home, team_way.store)
    return client(team_way.store.uri)


def runs_of(mlflow: MlflowClient, experiment: str) -> list[Run]:
    found = mlflow.get_experiment_by_name(experiment)
    assert found is not None
    return mlflow.search_runs([found.experiment_id], run_view_type=ViewType.ALL)


def journal(home: Path, run: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (home / "runs" / run / "spool/records.jsonl").read_text().splitlines()]


def test_a_training_is_one_run_with_every_point_once(team_way: Way, mlflow: MlflowClient) -> None:
    runs = runs_of(mlflow, team_way.name)
    assert [(run.info.status, run.info.lifecycle_stage) for run in runs] == [("FINISHED", "active")] * 2
    assert {run.data.params["train.lr"] for run in runs} == {"0.002", "0.004"}
    for run in runs:
        assert run.data.tags["mlflow.user"] == "ana"
        said = {(key, one["step"]) for one in journal(team_way.home, str(run.info.run_name))
                if one["kind"] == "metrics" for key in one["values"]}  # fmt: skip
        points = Counter(
            (key, point.step) for key in run.data.metrics for point in mlflow.get_metric_history(run.info.run_id, key)
        )
        assert set(points) == said
        assert set(points.values()) == {1}
        assert {"train/loss", "validation/loss", "test/fid", "test/nll"} <= run.data.metrics.keys()
        assert {"system/cpu_utilization_percentage", "system/system_memory_usage_megabytes"} <= run.data.metrics.keys()


def test_every_kept_checkpoint_is_a_logged_model(team_way: Way, mlflow: MlflowClient) -> None:
    for run in runs_of(mlflow, team_way.name):
        kept = sorted((team_way.home / "runs" / str(run.info.run_name) / "checkpoints").iterdir())
        found = mlflow.search_logged_models([run.info.experiment_id], f"source_run_id = '{run.info.run_id}'")
        assert sorted(model.tags["langevin.source"] for model in found) == [str(folder) for folder in kept]
        for model in found:
            fid = {metric.step: metric.value for metric in model.metrics or [] if metric.key == "test/fid_curve"}
            images = int(model.tags["langevin.images"])
            assert fid == {images: dict(history(team_way.store.uri, run.info.run_id, "test/fid_curve"))[images]}


def test_runs_say_what_they_read(team_way: Way, mlflow: MlflowClient) -> None:
    digest = json.loads((team_way.home / "out/data/digits/manifest.json").read_text())["digest"]
    for run in runs_of(mlflow, team_way.name):
        assert run.inputs is not None
        read = {(one.tags[0].value, one.dataset.name, one.dataset.digest) for one in run.inputs.dataset_inputs}
        assert read == {("training", "digits/train", digest), ("test", "digits/test", digest)}


def test_the_registry_holds_both_and_one_is_the_champion(team_way: Way, mlflow: MlflowClient) -> None:
    first, second = Registry(team_way.store.uri).versions(team_way.name)
    assert (first.version, second.version) == (1, 2)
    assert sorted(alias for one in (first, second) for alias in one.aliases) in (
        ["challenger", "champion"],
        ["champion"],
    )
    assert {first.run_id, second.run_id} == {run.info.run_id for run in runs_of(mlflow, team_way.name)}
    assert Path(first.source).is_dir()
    model = mlflow.get_logged_model(str(first.model_id))
    assert {"test/fid", "test/nll"} <= {metric.key for metric in model.metrics or []}


def test_contact_sheets_lie_in_s3_and_come_through_the_server(
    team_way: Way, mlflow: MlflowClient, bucket: Bucket, tmp_path: Path
) -> None:
    for run in runs_of(mlflow, team_way.name):
        listed = [file.path for file in mlflow.list_artifacts(run.info.run_id, "images")]
        (sheet,) = [
            path for path in listed if path.startswith(f"images/test~samples+step+{IMAGES}+") and ".png" in path
        ]
        assert run.info.artifact_uri.startswith("mlflow-artifacts:/")  # no client needs the keys of S3
        (key,) = [one["Key"] for one in bucket.client.list_objects_v2(Bucket=bucket.name, Prefix="team/")["Contents"]
                  if one["Key"].endswith(f"{run.info.run_id}/artifacts/{sheet}")]  # fmt: skip
        stored = bucket.client.get_object(Bucket=bucket.name, Key=key)["Body"].read()
        fetched = Path(mlflow.download_artifacts(run.info.run_id, sheet, str(tmp_path)))
        assert fetched.read_bytes() == stored
        assert Image.open(io.BytesIO(stored)).size[0] >= 10 * 8  # ten digits a row


def test_what_was_generated_names_the_version(team_way: Way) -> None:
    manifest = json.loads((team_way.home / "out/small/generated/manifest.json").read_text())
    assert manifest["request"]["model"] == "models:/small/1"
    assert manifest["samples"] == 64


@pytest.mark.parametrize(("wrong", "told"), [
    ({"MLFLOW_TRACKING_PASSWORD": "not-hers-at-all"}, "MLFLOW_TRACKING_USERNAME = 'ana': is refused with this password"),
    ({"MLFLOW_TRACKING_USERNAME": "", "MLFLOW_TRACKING_PASSWORD": ""}, "MLFLOW_TRACKING_USERNAME: is not set"),
])  # fmt: skip
def test_a_wrong_password_is_one_line(
    team_way: Way, wrong: dict[str, str], told: str, mlflow: MlflowClient, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    for name, value in wrong.items():
        monkeypatch.setenv(name, value)
    for command in ("train", "evaluate", "promote", "generate"):
        capsys.readouterr()
        assert langevin(command, team_way.recipe) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert told in line
        assert team_way.store.uri in line
        assert "not-hers" not in line


def test_a_wrong_password_of_a_process(team_way: Way) -> None:
    more = {**team_way.store.variables, "MLFLOW_TRACKING_PASSWORD": "not-hers-at-all"}
    done = langevin_process("train", team_way.recipe, home=team_way.home, more=more)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1, done.stderr


def test_nobody_gets_in_without_a_password_or_by_another_name(team_way: Way) -> None:
    uri = team_way.store.uri
    assert requests.get(f"{uri}/api/2.0/mlflow/experiments/get?experiment_id=0", timeout=60).status_code == 401
    assert requests.get(f"{uri}/api/2.0/mlflow-artifacts/artifacts", timeout=60).status_code == 401
    elsewhere = urllib.request.Request(f"{uri}/api/2.0/mlflow/experiments/get?experiment_id=0")
    elsewhere.add_header("Host", "rebound.example.org")
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(elsewhere, timeout=60)


def test_another_member_reports_to_the_same_experiment_and_deletes_nothing(
    team_way: Way, mlflow: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    password = "twelve or more"
    store = team_way.store
    made = requests.post(f"{store.uri}/api/2.0/mlflow/users/create", json={"username": "ben", "password": password},
                         auth=("admin", store.admin), timeout=60)  # fmt: skip
    assert made.ok, made.text
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ben")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)
    ids = {run.info.run_id for run in runs_of(mlflow, team_way.name)}
    with Tracker(store.uri, team_way.name, "ben-1", tmp_path / "run") as tracker:
        tracker.metrics(0, {"train/loss": 1.0})
        tracker.image("samples", 0, np.zeros((8, 8), np.uint8))
    assert tracker.run_id not in ids
    Registry(store.uri).tag_version(team_way.name, 1, {"seen by": "ben"})
    with (
        pytest.raises(ConfigError, match="MLFLOW_TRACKING_USERNAME = 'ben': is not allowed to do this"),
        reachable(store.uri),
    ):
        mlflow.delete_registered_model(team_way.name)


def test_the_database_itself_with_artifacts_in_s3(
    database: str, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a server between: by who has the keys of both."""
    for name, value in bucket.keys.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database)
    monkeypatch.setenv("MLFLOW_DEFAULT_ARTIFACT_ROOT", f"s3://{bucket.name}/direct")
    for _ in range(2):  # the second life reports nothing twice
        with Tracker(database, "direct", "run-a", tmp_path / "run") as tracker:
            tracker.params({"lr": 1})
            for step in range(1500):
                tracker.metrics(step, {"loss": float(step)})
            tracker.image("grid", 0, np.zeros((16, 16, 3), np.uint8))
            assert tracker.deliver(120)
    assert tracker.run_id is not None
    assert history(database, tracker.run_id, "loss") == [(step, float(step)) for step in range(1500)]
    assert len(runs_of(client(database), "direct")) == 1
    stored = bucket.client.list_objects_v2(Bucket=bucket.name, Prefix="direct/")["Contents"]
    assert sorted(Path(one["Key"]).suffix for one in stored) == [".png", ".webp"]
    tags = {"langevin.checkpoint_sha256": "a" * 64, "langevin.images": "1500"}
    assert Registry(database).register("direct", str(tmp_path / "checkpoint"), tracker.run_id, tags) == 1


@pytest.mark.parametrize(("change", "told"), [
    ({"MLFLOW_BACKEND_STORE_URI": "sqlite:///a.db"}, "MLFLOW_BACKEND_STORE_URI: is not a Postgres database"),
    ({"MLFLOW_BACKEND_STORE_URI": "postgresql://nobody:wrong@127.0.0.1:{port}/postgres"}, "MLFLOW_BACKEND_STORE_URI: "),
    ({"MLFLOW_ARTIFACTS_DESTINATION": "/tmp"}, "MLFLOW_ARTIFACTS_DESTINATION: is not a place in S3"),
    ({"MLFLOW_ARTIFACTS_DESTINATION": "s3://nowhere"}, "MLFLOW_ARTIFACTS_DESTINATION: bucket nowhere cannot be used"),
    ({"MLFLOW_HOST": "0.0.0.0"}, "MLFLOW_SERVER_ALLOWED_HOSTS: is needed to listen on 0.0.0.0"),
])  # fmt: skip
def test_the_server_refuses_what_would_fail_later(
    database: str, bucket: Bucket, tmp_path: Path, change: dict[str, str], told: str
) -> None:
    (port,) = free_ports(1)
    told_of = team_variables(database, bucket, port, "a" * 12) | {
        key: value.format(port=port) for key, value in change.items()
    }
    done = subprocess.run(
        [MLFLOW], env=environment(tmp_path, **told_of), capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"langevin: {told}")
    assert "wrong" not in line
