"""The same training as a job on a cluster: as the README says it, and through `langevin train --address`."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from e2e.recipes import command, write_recipe

from .conftest import RECIPE, Cluster

pytestmark = pytest.mark.cluster
TIMEOUT_S = 400


def submit(cluster: Cluster, project: Path, token: str | None = None) -> subprocess.CompletedProcess[str]:
    """What the README says, to the letter."""
    said = ["ray", "job", "submit", "--working-dir", ".", "--", "python", "jobs/train.py", RECIPE]
    return _run(said, cluster, project, token)


def train(cluster: Cluster, project: Path, recipe: str) -> subprocess.CompletedProcess[str]:
    return _run([*command("train", recipe), "--address", cluster.dashboard], cluster, project)


def test_a_job_without_the_token_is_refused(cluster: Cluster, project: Path) -> None:
    refused = submit(cluster, project, token="0" * 64)
    assert refused.returncode != 0
    assert not (cluster.home / "runs").exists()


def test_a_submitted_job_trains_to_the_end(cluster: Cluster, project: Path) -> None:
    done = submit(cluster, project)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    trained = json.loads((cluster.home / "out/small/training.json").read_text())
    assert trained["images"] == 1024
    assert (cluster.home / trained["checkpoint"] / "checkpoint.json").exists()
    again = submit(cluster, project)
    assert again.returncode == 0, again.stdout[-3000:] + again.stderr[-3000:]
    assert "is complete, 1,024 images" in again.stdout


def test_the_thin_client_submits_watches_and_finds_again(cluster: Cluster, project: Path) -> None:
    recipe = str(write_recipe(project / "pipelines/recipes/thin.yaml", name="thin", train__workers=2))
    assert _run(command("prepare", recipe), cluster, project).returncode == 0
    done = train(cluster, project, recipe)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    trained = (cluster.home / "out/thin/training.json").read_bytes()
    assert json.loads(trained)["images"] == 1024
    again = train(cluster, project, recipe)
    assert again.returncode == 0, again.stderr[-3000:]
    assert "is complete, 1,024 images" in again.stderr
    assert (cluster.home / "out/thin/training.json").read_bytes() == trained


def test_the_cluster_s_workers_evaluate(cluster: Cluster, project: Path) -> None:
    recipe = str(write_recipe(project / "pipelines/recipes/seen.yaml", name="seen", train__workers=2))
    for arguments in (("prepare", recipe), ("extractor", recipe), ("train", recipe, "--workers", "0")):
        assert _run(command(*arguments), cluster, project).returncode == 0
    asked = [*command("evaluate", recipe, "--workers", "2"), "--address", cluster.dashboard]
    done = _run(asked, cluster, project)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    by_job = json.loads((cluster.home / "out/seen/evaluation.json").read_text())
    assert by_job["sha256"] == json.loads((cluster.home / "out/seen/training.json").read_text())["sha256"]
    here = {name: value for name, value in cluster.environment(project).items() if name != "RAY_ADDRESS"}
    subprocess.run(command("evaluate", recipe), cwd=project, env=here, timeout=TIMEOUT_S, check=True)
    alone = json.loads((cluster.home / "out/seen/evaluation.json").read_text())
    ours, theirs = (json.loads(found["evaluation"]) for found in (alone, by_job))
    assert ours["figures"] == theirs["figures"]


def test_a_job_that_fails_says_why(cluster: Cluster, project: Path) -> None:
    recipe = str(write_recipe(project / "pipelines/recipes/wide.yaml", name="wide", train__workers=64, train__batch=64))
    failed = train(cluster, project, recipe)
    assert failed.returncode == 1
    assert "more workers than the 2 CPUs" in failed.stderr


def test_the_given_address_counts_more_than_the_variable(cluster: Cluster, project: Path) -> None:
    refused = _run([*command("train", RECIPE), "--address", "http://127.0.0.1:9"], cluster, project)
    assert refused.returncode == 2
    assert "no job server answers" in refused.stderr.splitlines()[-1]
    assert "address = 'http://127.0.0.1:9'" in refused.stderr.splitlines()[-1]


def _run(
    arguments: list[str], cluster: Cluster, project: Path, token: str | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        arguments, cwd=project, env=cluster.environment(project, token),
        capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
    )  # fmt: skip
