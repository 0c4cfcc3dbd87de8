"""Where MLflow keeps things: the tracking URI, the artifact folder, the experiment, the server that shows them."""

from __future__ import annotations

import fcntl
import getpass
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from langevin.errors import ConfigError, TrackingError

if TYPE_CHECKING:
    from mlflow import MlflowClient

_SQLITE = re.compile(r"sqlite(?:\+\w+)?:///(?P<path>[^?]+)")
_SERVED = re.compile(r"(sqlite|postgresql|mysql|mssql)(\+\w+)?://|https?://|databricks")
_SERVER = ("http://", "https://", "databricks")
_PASSWORD = re.compile(r"(?<=://)([^/@:]*):[^/@]*@")
_ROOT_VARIABLE = "MLFLOW_DEFAULT_ARTIFACT_ROOT"  # MLflow's own name for it
_USER_VARIABLE = "MLFLOW_TRACKING_USERNAME"
_PROBE_S = 5.0


def tracking_uri(root: Path) -> str:
    """MLFLOW_TRACKING_URI where it is set, otherwise the SQLite store ``root/mlflow/mlflow.db``, whose folder it makes.

    A relative SQLite path becomes absolute: the workers of a cluster change their working directory. Raises ConfigError
    for a store that MLflow no longer writes to (plain folders), and for a database that does not say where artifacts go.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path(root).resolve()}/mlflow/mlflow.db"
    if not _SERVED.match(uri):
        raise ConfigError(
            "is not a store that MLflow can write to",
            field="MLFLOW_TRACKING_URI",
            value=shown(uri),
            mend="give sqlite:///PATH, a database URI or http(s)://HOST:PORT, or leave it unset",
        )
    database = sqlite_path(uri)
    if database is None:
        if not uri.startswith(_SERVER) and artifact_folder(uri) is None:
            raise ConfigError(f"says where artifacts of {shown(uri)} go, and is not set", field=_ROOT_VARIABLE,
                              mend="give s3://BUCKET/PATH or a folder that all see")  # fmt: skip
        return uri
    database.parent.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{database}"


def sqlite_path(uri: str) -> Path | None:
    """The absolute path of a SQLite store's file; None for every other store."""
    found = _SQLITE.match(uri)
    return Path(found["path"]).resolve() if found else None


def artifact_folder(uri: str) -> str | None:
    """Where the artifacts of a database lie: at MLFLOW_DEFAULT_ARTIFACT_ROOT, or beside a SQLite store. None for a server,
    which knows for itself.
    """
    if uri.startswith(_SERVER):
        return None
    if root := os.environ.get(_ROOT_VARIABLE):
        return root if "://" in root else str(Path(root).resolve())
    database = sqlite_path(uri)
    return str(database.parent / "artifacts") if database else None


def shown(uri: str) -> str:
    """The address as people and logs may see it: without the password in it."""
    return _PASSWORD.sub(r"\1:***@", uri)


def check_access(uri: str) -> None:
    """ConfigError where a server answers and refuses the caller's name and password: a training would end before anybody
    saw that. A server that is away is no reason to wait: its points are spooled.
    """
    if not uri.startswith(_SERVER):
        return
    import requests
    from mlflow.exceptions import MlflowException
    from mlflow.tracking._tracking_service.utils import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    try:
        answer = http_request(get_default_host_creds(uri), "/api/2.0/mlflow/experiments/get", "GET", max_retries=0,
                              timeout=_PROBE_S, params={"experiment_id": "0"})  # fmt: skip
    except (MlflowException, requests.RequestException):
        return
    if answer.status_code == requests.codes.unauthorized:
        raise _refused(uri)


def user() -> str:
    """Who reports: the account at a server, else the user of this machine."""
    return os.environ.get(_USER_VARIABLE) or getpass.getuser()


def client(uri: str) -> MlflowClient:
    """A client of exactly this store, whatever MLflow's global state says. Makes the tables of a new SQLite store."""
    database = sqlite_path(uri)
    if database is not None:
        database.parent.mkdir(parents=True, exist_ok=True)
    # two processes that make the tables of one new store at once would both fail
    with locked(database.with_suffix(".lock")) if database else nullcontext():
        from mlflow import MlflowClient

        if database is not None and not database.exists():
            # MLflow's tables are not made in one transaction: a kill half-way would leave a store that never opens again
            unfinished = database.with_name(f".{database.name}.unfinished")
            for left in database.parent.glob(f"{unfinished.name}*"):  # and its journal
                left.unlink()
            MlflowClient(tracking_uri=f"sqlite:///{unfinished}").search_experiments(max_results=1)
            os.replace(unfinished, database)
        return MlflowClient(tracking_uri=uri, registry_uri=uri)


def ensure_experiment(client: MlflowClient, name: str, artifact_root: str | None = None) -> str:
    """The id of the experiment, made where there is none (another process may make it at the same moment).

    artifact_root: where its artifacts go; by default beside a SQLite store, or wherever the server puts them.
    """
    from mlflow.exceptions import MlflowException

    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        try:
            return client.create_experiment(name, artifact_root or artifact_folder(client.tracking_uri))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            return ensure_experiment(client, name, artifact_root)
    if experiment.lifecycle_stage == "deleted":
        client.restore_experiment(experiment.experiment_id)
    return experiment.experiment_id


def server_command(root: Path, port: int) -> list[str]:
    """The command that serves the store of ``tracking_uri(root)`` with its UI on 127.0.0.1, for this machine alone.

    Raises ConfigError where that store is a server already.
    """
    uri = tracking_uri(root)
    if uri.startswith(_SERVER):
        raise ConfigError("is a server already", field="MLFLOW_TRACKING_URI", value=shown(uri),
                          mend="open it in a browser")  # fmt: skip
    artifacts = artifact_folder(uri)
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri]
    command += ["--artifacts-destination", artifacts] if artifacts else []
    command += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    # a page of another site that resolves its name to 127.0.0.1 is refused
    return [*command, "--allowed-hosts", f"127.0.0.1:{port},localhost:{port}"]


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds an advisory lock between processes; the kernel frees it when the holder dies."""
    with path.open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextmanager
def reachable(uri: str) -> Iterator[None]:
    """Turns what MLflow raises about its store or the way to it into one TrackingError that names the store, and a refused
    name, password or right into a ConfigError.
    """
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        code = getattr(error, "error_code", None)
        if code == "UNAUTHENTICATED":
            raise _refused(uri) from error
        if code == "PERMISSION_DENIED":
            raise ConfigError(f"is not allowed to do this by MLflow at {shown(uri)} ({reason})", field=_USER_VARIABLE,
                              value=os.environ.get(_USER_VARIABLE), mend="ask its admin for EDIT there") from error  # fmt: skip
        raise TrackingError(f"MLflow at {shown(uri)} did not answer: {shown(reason)}") from error


def _refused(uri: str) -> ConfigError:
    """Names no password, not even a wrong one."""
    user = os.environ.get(_USER_VARIABLE) or None
    problem = "is refused with this password" if user else "is not set, and a name and a password are wanted"
    return ConfigError(f"{problem} by MLflow at {shown(uri)}", field=_USER_VARIABLE, value=user,
                       mend="set it and MLFLOW_TRACKING_PASSWORD to your account there")  # fmt: skip
