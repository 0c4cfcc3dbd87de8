"""Where MLflow's things lie, and that nothing of it speaks or phones home."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from langevin.errors import ConfigError
from langevin.tracking.store import client, ensure_experiment, server_command, tracking_uri


def test_the_store_is_beside_the_runs_unless_said_otherwise(tmp_path: Path, monkeypatch) -> None:
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


def test_an_experiment_keeps_its_artifacts_and_comes_back(uri: str, tmp_path: Path) -> None:
    mlflow = client(uri)
    made = ensure_experiment(mlflow, "digits")
    assert mlflow.get_experiment(made).artifact_location == f"{tmp_path}/mlflow/artifacts"
    mlflow.delete_experiment(made)
    assert ensure_experiment(mlflow, "digits") == made
    assert mlflow.get_experiment(made).lifecycle_stage == "active"
    assert mlflow.get_experiment(ensure_experiment(mlflow, "x", "s3://bucket/x")).artifact_location == "s3://bucket/x"


def test_importing_is_light_and_a_whole_run_is_silent(tmp_path: Path) -> None:
    code = """
import sys
import langevin.tracking.runs, langevin.tracking.registry, langevin.tracking.lineage
assert "mlflow" not in sys.modules and "pandas" not in sys.modules
from pathlib import Path
folder = Path(sys.argv[1])
with langevin.tracking.runs.Tracker(f"sqlite:///{folder}/new.db", "e", "r", folder / "run") as tracker:
    tracker.metrics(0, {"loss": 1.0})
    assert tracker.deliver(60)
from mlflow.telemetry.client import get_telemetry_client
assert get_telemetry_client() is None
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW", "DO_NOT"))}
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
