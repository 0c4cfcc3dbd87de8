"""Where MLflow's things lie."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from langevin.errors import ConfigError
from langevin.tracking.store import artifact_folder, client, ensure_experiment, server_command, shown, tracking_uri


def test_the_store_is_beside_the_runs_unless_said_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    assert tracking_uri(Path("root")) == f"sqlite:///{tmp_path}/root/mlflow/mlflow.db"
    assert (tmp_path / "root" / "mlflow").is_dir()
    command = server_command(tmp_path / "root", 5000)
    assert command[command.index("--host") + 1] == "127.0.0.1"
    assert command[command.index("--allowed-hosts") + 1] == "127.0.0.1:5000,localhost:5000"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///here/a.db")
    assert tracking_uri(Path("root")) == f"sqlite:///{tmp_path}/here/a.db"  # whatever folder a worker runs in
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    assert tracking_uri(Path("root")) == "http://mlflow:5000"
    with pytest.raises(ConfigError, match="is a server already"):
        server_command(tmp_path, 5000)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "./mlruns")
    with pytest.raises(ConfigError, match=r"MLFLOW_TRACKING_URI = './mlruns'.*sqlite:///PATH"):
        tracking_uri(Path("root"))


def test_a_database_is_told_where_artifacts_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow itself would put them below whatever folder a worker happens to run in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_DEFAULT_ARTIFACT_ROOT", raising=False)
    database = "postgresql://ana:s3cret@db.example.org:5432/mlflow"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", database)
    with pytest.raises(ConfigError, match=r"MLFLOW_DEFAULT_ARTIFACT_ROOT: .*s3://BUCKET/PATH") as refused:
        tracking_uri(Path("root"))
    assert "s3cret" not in str(refused.value)
    monkeypatch.setenv("MLFLOW_DEFAULT_ARTIFACT_ROOT", "s3://bucket/x")
    assert tracking_uri(Path("root")) == database
    assert artifact_folder(database) == "s3://bucket/x"
    assert artifact_folder("https://mlflow.example.org") is None  # a server knows for itself
    monkeypatch.setenv("MLFLOW_DEFAULT_ARTIFACT_ROOT", "kept")
    assert artifact_folder(f"sqlite:///{tmp_path}/a.db") == f"{tmp_path}/kept"


def test_passwords_are_not_shown() -> None:
    assert shown("postgresql+psycopg://ana:s3%2Fcret@db:5432/x?a=b") == "postgresql+psycopg://ana:***@db:5432/x?a=b"
    assert shown("https://ana:pw@host:5000") == "https://ana:***@host:5000"
    for without in ("http://127.0.0.1:5000", "sqlite:////tmp/a@b:c.db", "postgresql://ana@db/x"):
        assert shown(without) == without


def test_an_experiment_keeps_its_artifacts_and_comes_back(uri: str, tmp_path: Path) -> None:
    mlflow = client(uri)
    made = ensure_experiment(mlflow, "digits")
    assert mlflow.get_experiment(made).artifact_location == f"{tmp_path}/mlflow/artifacts"
    mlflow.delete_experiment(made)
    assert ensure_experiment(mlflow, "digits") == made
    assert mlflow.get_experiment(made).lifecycle_stage == "active"
    assert mlflow.get_experiment(ensure_experiment(mlflow, "x", "s3://bucket/x")).artifact_location == "s3://bucket/x"


def test_a_store_whose_making_was_killed_is_made_anew(tmp_path: Path) -> None:
    """MLflow makes its tables one by one: what a killed process left of them must not be taken for a store."""
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    making = "from langevin.tracking.store import client; import sys; client(sys.argv[1])"
    child = subprocess.Popen([sys.executable, "-c", making, uri])
    while child.poll() is None and not list(tmp_path.glob("*mlflow.db*")):
        time.sleep(0.01)
    child.kill()
    child.wait()
    assert ensure_experiment(client(uri), "after") is not None
    assert not list(tmp_path.glob(".mlflow.db.unfinished*"))
