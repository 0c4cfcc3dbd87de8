"""How many workers a place has room for."""

from __future__ import annotations

import os

import pytest

from langevin.cluster.session import cpus, enough, session
from langevin.cluster.submit import is_job_server
from langevin.errors import ConfigError


@pytest.mark.parametrize(("workers", "there"), [(0, 0), (1, 1), (2, 8)])
def test_enough_says_nothing(workers: int, there: int) -> None:
    enough(workers, there, "this machine")


def test_too_many_workers_are_named_with_what_there_is() -> None:
    with pytest.raises(ConfigError) as found:
        enough(5, 2, "the cluster at 127.0.0.1:6379")
    assert str(found.value) == (
        "train.workers = 5: more workers than the 2 CPUs of the cluster at 127.0.0.1:6379; take --workers 2"
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
    ("address", "is_server"),
    [("http://127.0.0.1:8265", True), ("https://ray.example", True), ("127.0.0.1:6379", False), ("auto", False)],
)
def test_a_job_server_is_known_by_its_scheme(address: str, is_server: bool) -> None:
    assert is_job_server(address) is is_server
