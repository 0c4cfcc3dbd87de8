"""A real MLflow server that is away at first, dies by kill -9 half way, and comes back."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from langevin.tracking.models import LoggedModels
from langevin.tracking.registry import Registry
from langevin.tracking.runs import Tracker, find_run, history
from langevin.tracking.store import client, server_command


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def server(root: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    log = (root / "server.log").open("a")
    process = subprocess.Popen(server_command(root, port), stdout=log, stderr=log, start_new_session=True)
    try:
        for _ in range(600):
            assert process.poll() is None, (root / "server.log").read_text()
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1).read()
                break
            except OSError:
                time.sleep(0.1)
        yield process
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)  # its own session: the command and its one worker
    process.wait()


def test_a_server_that_is_away_dies_and_returns(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    tracker = Tracker(address, "digits", "run-a", tmp_path / "run")
    tracker.params({"lr": 1})
    for step in range(50):
        tracker.metrics(step, {"loss": float(step)})
    assert not tracker.deliver(0.2)

    with server(tmp_path, port) as process:
        assert tracker.deliver(60)
        tracker.image("grid", 50, np.zeros((16, 16, 3), np.uint8))
        for step in range(50, 3000):
            tracker.metrics(step, {"loss": float(step)})
        before = tracker._deliverer.delivered
        while tracker._deliverer.delivered < before + 20_000:  # somewhere inside the delivery
            tracker._wake.set()
            time.sleep(0.001)
        stop(process)
        assert tracker._deliverer.delivered < tracker._spool.end()
    for step in range(3000, 3050):
        tracker.metrics(step, {"loss": float(step)})
    assert not tracker.deliver(0.2)

    with server(tmp_path, port):
        assert tracker.close(timeout_s=60)
        run_id = tracker.run_id
        assert run_id is not None
        run = client(address).get_run(run_id)
        assert find_run(address, "digits", "run-a") == run_id
        assert (run.info.status, run.data.params) == ("FINISHED", {"lr": "1"})
        assert history(address, run_id, "loss") == [(step, float(step)) for step in range(3050)]
        assert len(client(address).list_artifacts(run_id, "images")) == 2
        assert len(client(address).search_runs([run.info.experiment_id])) == 1

        elsewhere = urllib.request.Request(f"{address}/api/2.0/mlflow/experiments/get?experiment_id=0")
        elsewhere.add_header("Host", "rebound.example.org")
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(elsewhere, timeout=10)

        registry, tags = Registry(address), {"langevin.checkpoint_sha256": "a" * 64, "langevin.images": "3000"}
        for _ in range(2):
            assert registry.register("ddpm-digits", str(tmp_path / "ckpt"), run_id, tags) == 1
        registry.set_alias("ddpm-digits", "champion", 1)
        found = registry.resolve("models:/ddpm-digits@champion")
        assert (found.source, found.run_id) == (str(tmp_path / "ckpt"), run_id)
        model_id = str(found.model_id)
        LoggedModels(client(address)).log(model_id, {"loss": 3000.0, "fid": 2.0}, ("digits", "d" * 36))
        metrics = client(address).get_logged_model(model_id).metrics or []
        assert sorted(metric.key for metric in metrics) == ["fid", "loss"]
        assert len(history(address, run_id, "loss")) == 3050
