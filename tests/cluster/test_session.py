"""How many workers a place has room for."""

from __future__ import annotations

import os
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from langevin.cluster.session import STARTS, cpus, enough, gpu_share, session
from langevin.cluster.submit import is_job_server
from langevin.errors import ConfigError, LangevinError


@pytest.mark.parametrize(("workers", "there"), [(0, 0), (1, 1), (2, 8)])
def test_enough_says_nothing(workers: int, there: int) -> None:
    enough(workers, there, "this machine")


def test_too_many_workers_are_named_with_what_there_is() -> None:
    with pytest.raises(ConfigError) as found:
        enough(5, 2, "the cluster at 127.0.0.1:6379")
    assert str(found.value) == (
        "workers = 5: more workers than the 2 CPUs of the cluster at 127.0.0.1:6379; take at most 2"
    )
    with pytest.raises(ConfigError, match="start a node with CPUs"):
        enough(1, 0, "the cluster")


def test_the_cpus_are_those_that_this_process_may_use() -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert cpus() == 1
    finally:
        os.sched_setaffinity(0, before)


def test_a_session_is_refused_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    with pytest.raises(ConfigError, match="more workers"), session(None, cpus() + 1):
        pytest.fail("it was started")
    assert "RAY_AUTH_TOKEN" not in os.environ


@pytest.mark.parametrize(
    ("workers", "gpus", "share"), [(2, 0, 0), (2, 8, 1), (8, 8, 1), (3, 2, 1 / 2), (9, 2, 1 / 5), (6, 1, 0.1666)]
)
def test_every_worker_finds_room_on_a_gpu(
    workers: int, gpus: int, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a cluster that is none: there is no GPU here."""
    monkeypatch.setitem(
        sys.modules, "ray", SimpleNamespace(cluster_resources=lambda: {"CPU": 16.0, "GPU": float(gpus)})
    )
    assert gpu_share(workers) == share
    assert share == 0 or gpus * int(1 / share + 1e-9) >= workers


@pytest.mark.parametrize("slow", [0, 1, STARTS])
def test_a_machine_that_is_too_busy_to_start_ray_is_asked_again(slow: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a Ray that is none: the real one is this late only by chance."""
    asked: list[dict[str, Any]] = []

    def init(**options: Any) -> None:
        asked.append(options)
        if len(asked) <= slow:
            raise Exception("The current node timed out during startup.")

    ray = SimpleNamespace(init=init, is_initialized=lambda: False, shutdown=lambda: None)
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    if slow < STARTS:
        with session(None, 1):
            assert len(asked) == slow + 1
    else:
        with pytest.raises(LangevinError, match="the machine is too busy; run it again"), session(None, 1):
            pytest.fail("it was started")
        assert len(asked) == STARTS


@pytest.mark.parametrize(
    ("address", "is_server"),
    [("http://127.0.0.1:8265", True), ("https://ray.example", True), ("127.0.0.1:6379", False), ("auto", False)],
)
def test_a_job_server_is_known_by_its_scheme(address: str, is_server: bool) -> None:
    assert is_job_server(address) is is_server
