"""A command as a job on a cluster: submitted once, watched to its end, found again after the watcher's death."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from langevin.config.paths import home
from langevin.errors import ConfigError, LangevinError
from langevin.tracking.lineage import COMMIT_VARIABLE, git_state

EXCLUDES = [".venv", ".git", ".dvc/cache", ".dvc/tmp", "out", "runs", "mlflow"]
CARRIED = ("MLFLOW_TRACKING_URI", "RAY_AUTH_MODE")
POLL_S = 1.0


def is_job_server(address: str) -> bool:
    """Whether an address is a job server's ("http://127.0.0.1:8265") and not a cluster's own ("127.0.0.1:6379", "auto")."""
    return address.startswith(("http://", "https://"))


def seen_by_jobs(path: Path) -> str:
    """How a job names a file: by its place in the project's folder, which is sent, or, where it lies elsewhere or in what
    is not sent, by its own, on file systems that both see.
    """
    folder, path = Path.cwd(), path.absolute()
    if not path.is_relative_to(folder) or any(path.is_relative_to(folder / left_out) for left_out in EXCLUDES):
        return str(path)
    return str(path.relative_to(folder))


def submit(command: str, recipe: Path, address: str, name: str, options: Sequence[str] = ()) -> None:
    """Runs jobs/COMMAND.py RECIPE OPTIONS there and prints its log until it ends. LangevinError where the job fails.

    The job's id comes from ``name``: a job of that name that still runs is watched, not started twice.
    """
    working_dir = Path.cwd()
    if not recipe.resolve().is_relative_to(working_dir):
        raise ConfigError(f"lies outside {working_dir}, which is what is sent to the cluster", file=recipe,
                          mend="run this from the project's folder")  # fmt: skip
    from ray.job_submission import JobStatus, JobSubmissionClient

    os.environ["RAY_ADDRESS"] = address  # Ray's client prefers the variable to what it is told
    try:
        client = JobSubmissionClient(address)
    except (ConnectionError, RuntimeError) as error:
        first = str(error).splitlines()[0]
        raise ConfigError(f"no job server answers ({first})", field="address", value=address,
                          mend="give the dashboard's address of a running cluster") from None  # fmt: skip
    earlier = {job.submission_id: job.status for job in client.list_jobs() if job.submission_id}
    attempt = 1
    while earlier.get(_id(command, name, attempt), JobStatus.RUNNING).is_terminal():
        attempt += 1
    job = _id(command, name, attempt)
    if job not in earlier:
        commit, changed = git_state(working_dir)
        told = {"LANGEVIN_HOME": str(home()), COMMIT_VARIABLE: commit + "+" * changed}
        variables = told | {key: os.environ[key] for key in CARRIED if key in os.environ}
        client.submit_job(
            entrypoint=shlex.join(
                ["python", f"jobs/{command}.py", str(recipe.resolve().relative_to(working_dir)), *options]
            ),
            submission_id=job,
            runtime_env={"working_dir": str(working_dir), "excludes": EXCLUDES, "env_vars": variables},
        )
    shown = 0
    while True:
        status = client.get_job_status(job)
        log = client.get_job_logs(job)
        sys.stderr.write(log[shown:])
        shown = len(log)
        if status.is_terminal():
            break
        time.sleep(POLL_S)
    if status != JobStatus.SUCCEEDED:
        raise LangevinError(f"job {job} at {address} ended as {status.value}: {client.get_job_info(job).message}")


def _id(command: str, name: str, attempt: int) -> str:
    return f"{command}-{name}" + (f"-{attempt}" if attempt > 1 else "")
