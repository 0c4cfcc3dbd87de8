"""What a team's MLflow needs, for real: a Postgres cluster, an S3 server, and the MLflow server on both. On loopback alone,
on free ports, in folders of their own; nothing of them is left behind.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import requests
from e2e.processes import free_ports, started, wait_until
from e2e.recipes import ROOT, environment

from langevin.tracking.store import server_command

S3 = ROOT / "infra/s3/server.sh"
MLFLOW = ROOT / "infra/mlflow/server.sh"
PATIENCE_S = 300  # of a loaded machine


@dataclass(frozen=True)
class Bucket:
    """Of an S3 server of its own. folder: the server's; keys: what a client reads from the environment."""

    name: str
    folder: Path
    ports: tuple[int, int]
    keys: Mapping[str, str]

    @property
    def client(self) -> Any:
        import boto3

        return boto3.client("s3", endpoint_url=self.keys["AWS_ENDPOINT_URL"], region_name=self.keys["AWS_DEFAULT_REGION"],
                            aws_access_key_id=self.keys["AWS_ACCESS_KEY_ID"],
                            aws_secret_access_key=self.keys["AWS_SECRET_ACCESS_KEY"])  # fmt: skip

    def start(self) -> None:
        command = [S3, "start", self.folder, *map(str, self.ports)]
        made = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
        assert made.returncode == 0, made.stderr

    def stop(self) -> None:
        subprocess.run([S3, "stop", self.folder], timeout=PATIENCE_S, check=True)


@dataclass(frozen=True)
class Store:
    """An MLflow server. variables: what a process needs to be let in, and no key of what is behind it; admin: the password
    of the user "admin", where there are users.
    """

    uri: str
    variables: Mapping[str, str]
    admin: str = ""


def needs(debian: Mapping[str, str], python: Mapping[str, str]) -> None:
    """Skips the test where a program (program -> Debian's package) or a module (module -> PyPI's package) is missing."""
    missing = sorted({package for program, package in debian.items() if program_of(program) is None})
    if missing:
        pytest.skip(f"not installed: apt-get install --no-install-recommends {' '.join(missing)}")
    missing = sorted(package for module, package in python.items() if find_spec(module) is None)
    if missing:
        pytest.skip(f"not in .venv: {', '.join(missing)}; make environment")


def program_of(name: str) -> str | None:
    """Its path. Debian keeps Postgres' programs off the PATH, by version."""
    installed = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return shutil.which(name) or (str(installed[-1]) if installed else None)


@contextmanager
def postgres() -> Iterator[str]:
    """The address of the database of a cluster of its own."""
    needs({"initdb": "postgresql", "postgres": "postgresql"}, {"psycopg": "psycopg[binary]"})
    initdb, server = program_of("initdb"), program_of("postgres")
    assert initdb is not None
    assert server is not None
    # not below pytest's folders, which are their owner's alone: as root it runs as the user of Debian's package
    folder = Path(tempfile.mkdtemp(prefix="langevin-postgres-"))
    owner = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
    (port,) = free_ports(1)
    password = f"{secrets.token_hex(8)}/100%@home"  # what has to be quoted in an address
    (folder / "password").write_text(password)
    if owner:
        who = pwd.getpwnam("postgres")
        for path in (folder, folder / "password"):
            os.chown(path, who.pw_uid, who.pw_gid)
    process = None
    try:
        arguments = [initdb, "-D", str(folder / "data"), "-U", "langevin", "-A", "scram-sha-256", "--no-sync"]
        arguments += ["--pwfile", str(folder / "password"), "--encoding=UTF8", "--locale=C.UTF-8"]
        subprocess.run(arguments, cwd=folder, check=True, capture_output=True, timeout=PATIENCE_S, **owner)  # type: ignore[call-overload]
        options = {"listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": "", "fsync": "off"}
        arguments = [server, "-D", str(folder / "data"), *(f"--{name}={value}" for name, value in options.items())]
        with (folder / "log").open("w") as log:
            process = subprocess.Popen(arguments, cwd=folder, stdout=log, stderr=log, **owner)  # type: ignore[call-overload]
        uri = f"postgresql://langevin:{quote(password, safe='')}@127.0.0.1:{port}/postgres"
        wait_until(lambda: process.poll() is not None or opens(uri), PATIENCE_S, "Postgres", folder / "log")
        assert process.poll() is None, (folder / "log").read_text()
        yield uri
    finally:
        if process is not None:
            process.send_signal(signal.SIGINT)  # TERM would wait for its clients to leave
            process.wait(PATIENCE_S)
        shutil.rmtree(folder)


def opens(uri: str) -> bool:
    import psycopg

    try:
        psycopg.connect(uri, connect_timeout=5).close()
    except psycopg.OperationalError:
        return False
    return True


@contextmanager
def s3(folder: Path) -> Iterator[Bucket]:
    """A bucket on an S3 server of its own."""
    programs = {"ceph-mon": "ceph-mon", "ceph-osd": "ceph-osd", "ceph": "ceph-common", "radosgw": "radosgw"}
    needs(programs, {"boto3": "boto3"})
    port, monitor = free_ports(2)
    server = Bucket("experiments", folder, (port, monitor), {})
    try:
        server.start()
        lines = (folder / "env.sh").read_text().splitlines()
        found = replace(server, keys=dict(line.removeprefix("export ").split("=", 1) for line in lines))
        found.client.create_bucket(Bucket=found.name)
        yield found
    finally:
        server.stop()


def team_variables(database: str, bucket: Bucket, port: int, admin: str) -> dict[str, str]:
    """What infra/mlflow/server.sh is told. admin: its password."""
    return {
        **bucket.keys, "MLFLOW_BACKEND_STORE_URI": database, "MLFLOW_ARTIFACTS_DESTINATION": f"s3://{bucket.name}/team",
        "MLFLOW_PORT": str(port), "MLFLOW_AUTH_ADMIN_PASSWORD": admin, "MLFLOW_WORKERS": "1", "PYTHON": sys.executable,
    }  # fmt: skip


@contextmanager
def team(database: str, bucket: Bucket, home: Path) -> Iterator[Store]:
    """infra/mlflow/server.sh, with an account for ana."""
    needs({}, {"flask_wtf": "Flask-WTF"})
    (port,) = free_ports(1)
    admin, password, log = secrets.token_hex(8), secrets.token_hex(8), home / "server.log"
    variables = environment(home, **team_variables(database, bucket, port, admin))
    with serving([str(MLFLOW)], variables, f"http://127.0.0.1:{port}", log) as uri:
        account = {"username": "ana", "password": password}
        made = requests.post(
            f"{uri}/api/2.0/mlflow/users/create", json=account, auth=("admin", admin), timeout=PATIENCE_S
        )
        assert made.ok, made.text
        access = {"MLFLOW_TRACKING_URI": uri, "MLFLOW_TRACKING_USERNAME": "ana", "MLFLOW_TRACKING_PASSWORD": password}
        yield Store(uri, access, admin)


@contextmanager
def alone(home: Path) -> Iterator[Store]:
    """`langevin ui` on a home's own SQLite store: what it runs."""
    (port,) = free_ports(1)
    log = home / "server.log"
    with serving(server_command(home, port), environment(home), f"http://127.0.0.1:{port}", log) as uri:
        yield Store(uri, {})


@contextmanager
def serving(arguments: list[str], variables: dict[str, str], uri: str, log: Path) -> Iterator[str]:
    with started(arguments, variables, log) as server:
        wait_until(lambda: server.is_over or is_healthy(uri), PATIENCE_S, "MLflow", log)
        assert not server.is_over, log.read_text()
        server.descendants()
        yield uri


def is_healthy(uri: str) -> bool:
    try:
        return requests.get(f"{uri}/health", timeout=5).ok
    except requests.RequestException:
        return False
