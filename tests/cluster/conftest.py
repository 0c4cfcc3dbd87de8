"""A cluster of our own on loopback, that takes work only with its token."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests
from e2e.processes import free_ports, started, wait_until
from e2e.project import copy_project
from e2e.recipes import environment, write_recipe

from .servers import Bucket, Store, postgres, s3, team
from .way import Way, made_ready, walked

RECIPE = "pipelines/recipes/small.yaml"


@dataclass(frozen=True)
class Cluster:
    """Where it answers, what opens it, and where its jobs keep things."""

    dashboard: str
    gcs: str
    token: str
    home: Path

    def environment(self, project: Path, token: str | None = None) -> dict[str, str]:
        """Of somebody who works in the project's folder with this cluster; ``token`` for its own."""
        access = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token or self.token, "RAY_ADDRESS": self.dashboard}
        return environment(self.home, **access, PYTHONPATH=str(project / "platform"))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = copy_project(tmp_path_factory.mktemp("p"))
    write_recipe(folder / RECIPE, train__workers=2)
    return folder


@pytest.fixture(scope="module")
def cluster(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """`ray start --head` with two CPUs. Its processes are our descendants, and end with the test."""
    home, temporary = tmp_path_factory.mktemp("h"), tmp_path_factory.mktemp("r")
    ports = free_ports(9)
    names = ("port", "dashboard-port", "dashboard-agent-listen-port", "dashboard-agent-grpc-port", "metrics-export-port",
             "node-manager-port", "object-manager-port", "runtime-env-agent-port", "ray-client-server-port")  # fmt: skip
    arguments = ["ray", "start", "--head", "--block", "--num-cpus=2", "--node-ip-address=127.0.0.1"]
    arguments += [f"--{name}={port}" for name, port in zip(names, ports, strict=True)]
    arguments += ["--dashboard-host=127.0.0.1", f"--temp-dir={temporary}", "--object-store-memory=100000000"]
    found = Cluster(f"http://127.0.0.1:{ports[1]}", f"127.0.0.1:{ports[0]}", secrets.token_hex(32), home)
    variables = found.environment(project) | {"RAY_USAGE_STATS_ENABLED": "0"}
    del variables["RAY_ADDRESS"]
    log = temporary / "start.log"
    with started(arguments, variables, log, folder=temporary) as head:
        wait_until(lambda: head.is_over or answers(found), 120, "the cluster's dashboard", log)
        assert not head.is_over, log.read_text()
        yield found


def answers(cluster: Cluster) -> bool:
    """Whether jobs can be submitted, which takes the agent of the dashboard."""
    headers = {"Authorization": f"Bearer {cluster.token}"}
    try:
        jobs = requests.get(f"{cluster.dashboard}/api/jobs/", headers=headers, timeout=5)
        agents = requests.get(f"{cluster.dashboard}/nodes?view=summary", headers=headers, timeout=5)
    except requests.RequestException:
        return False
    return jobs.ok and agents.ok and "ALIVE" in agents.text


@pytest.fixture(scope="session")
def database() -> Iterator[str]:
    """The address of a Postgres database."""
    with postgres() as uri:
        yield uri


@pytest.fixture(scope="session")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bucket]:
    with s3(tmp_path_factory.mktemp("s3")) as found:
        yield found


@pytest.fixture(scope="session")
def team_store(database: str, bucket: Bucket, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A team's MLflow server on both, and ana's account there."""
    with team(database, bucket, tmp_path_factory.mktemp("server")) as store:
        yield store


@pytest.fixture(scope="session")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the digits and their extractor."""
    return made_ready(tmp_path_factory.mktemp("ready"))


@pytest.fixture(scope="session")
def team_way(ready: Path, team_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Way:
    """Two models that ana trained, evaluated and registered there."""
    return walked(ready, tmp_path_factory.mktemp("w"), team_store, then=("generate", "report"))
