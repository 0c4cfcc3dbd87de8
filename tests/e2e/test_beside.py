"""Evaluation beside training: whatever is killed, each checkpoint's FID stands in MLflow once, at its step, or was thinned."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from pathlib import Path

import psutil
import pytest

from langevin.tracking.runs import history
from langevin.tracking.store import client

from .conftest import Homes
from .processes import Started, started, wait_until
from .recipes import command, environment, langevin, write_recipe

pytestmark = pytest.mark.slow
EVERY, IMAGES = 256, 4096
PATIENCE_S = 1800
KEY = "test/fid_curve"


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All of its 16 checkpoints are kept: what was thinned in a life that was killed is said in the next."""
    changes = {"images": IMAGES, "checkpoint_every": EVERY, "log_every": EVERY, "validate_every": IMAGES, "keep": 16}
    return write_recipe(
        tmp_path_factory.mktemp("r") / "r.yaml", evaluate__beside=True, **{f"train__{k}": v for k, v in changes.items()}
    )


def results(home: Path) -> dict[int, float]:
    found = [json.loads(path.read_text()) for path in home.glob("runs/small-*/curve/0*.json")]
    return {one["images"]: one["fid"] for one in found}


def evaluating(home: Path) -> list[int]:
    return [int(path.name) for path in home.glob("runs/small-*/evaluating/0*")]


def journalled(home: Path) -> list[int]:
    (journal,) = home.glob("runs/small-*/spool/records.jsonl")
    records = [json.loads(line) for line in journal.read_text().splitlines()]
    return [one["step"] for one in records if one["kind"] == "metrics" and KEY in one["values"]]


def is_trained(home: Path) -> bool:
    return bool(list(home.glob(f"runs/small-*/checkpoints/{IMAGES:012d}/checkpoint.json")))


def named(driver: Started, sign: str) -> list[psutil.Process]:
    """Processes that the driver started whose command line says this."""
    return [one for one in driver.descendants() if sign in _said(one)]


def _said(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return ""


def assert_each_once_or_thinned(home: Path, recipe: Path, log: Path, lost: set[int]) -> None:
    """lost: what was killed while it was evaluated."""
    found, said = results(home), log.read_text()
    thinned = {
        int(images.replace(",", ""))
        for line in re.findall(r"thinned: (.*)", said)
        for images in re.findall(r"\d+(?:,\d{3})*", line)
    }
    steps = set(range(EVERY, IMAGES + 1, EVERY))
    assert IMAGES in found
    assert set(found) | thinned | lost == steps
    assert not set(found) & (thinned - lost)
    assert sorted(journalled(home)) == sorted(found)  # once, and nothing that was not computed
    uri = f"sqlite:///{home}/mlflow/mlflow.db"
    store = client(uri)
    experiment = store.get_experiment_by_name("small")
    assert experiment is not None
    (run,) = store.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    points = history(uri, run.info.run_id, KEY)
    assert [step for step, _ in points] == sorted(found)
    assert dict(points) == pytest.approx(found)
    assert not list(home.glob("runs/small-*/evaluating"))

    files = {path: path.stat().st_mtime_ns for path in home.glob("runs/small-*/curve/0*.json")}
    evaluated = langevin("evaluate", recipe, home=home, timeout_s=PATIENCE_S)
    assert evaluated.returncode == 0, evaluated.stderr
    kept = {int(path.parent.name) for path in home.glob("runs/small-*/checkpoints/0*/checkpoint.json")}
    assert {path: path.stat().st_mtime_ns for path in files} == files  # nothing again
    curve = dict(row.split(",") for row in (home / "out/small/fid.csv").read_text().splitlines()[1:])
    assert {int(images) for images in curve} == set(found) | kept
    for images, value in found.items():
        assert float(curve[str(images)]) == pytest.approx(value, abs=1e-6)
    assert [step for step, _ in history(uri, run.info.run_id, KEY)] == sorted(set(found) | kept)

    # what was computed beside the training is what an evaluation afterwards computes
    for path in files:
        path.unlink()
    again = langevin("evaluate", recipe, home=home, timeout_s=PATIENCE_S)
    assert again.returncode == 0, again.stderr
    after = dict(row.split(",") for row in (home / "out/small/fid.csv").read_text().splitlines()[1:])
    assert {int(images) for images in after} == kept
    assert {images: float(value) for images, value in after.items()} == pytest.approx(
        {images: float(curve[images]) for images in after}, abs=2e-6
    )


def test_killed_at_every_turn_in_one_process(new_home: Homes, recipe: Path, tmp_path: Path) -> None:
    home, log = new_home("b"), tmp_path / "log"
    refused = langevin("train", recipe, home=home)
    assert refused.returncode == 2
    assert "no extractor lies here" in refused.stderr
    assert not is_trained(home)
    assert langevin("extractor", recipe, home=home).returncode == 0

    with started(command("train", recipe), environment(home), log) as driver:  # killed between a result and its report
        wait_until(lambda: bool(named(driver, "langevin.cluster.alone")) or driver.is_over, PATIENCE_S, "one", log)
        os.kill(driver.pid, signal.SIGSTOP)
        assert not is_trained(home), "too late to show anything"
        wait_until(lambda: bool(results(home)), PATIENCE_S, "its result", log)
        first = set(results(home))
        driver.kill()
    assert journalled(home) == []

    lost: set[int] = set()
    with started(command("train", recipe), environment(home), log) as driver:  # killed mid-evaluation
        children = lambda: named(driver, "langevin.cluster.alone")  # noqa: E731
        wait_until(lambda: bool(children()) or driver.is_over, PATIENCE_S, "another", log)
        assert sorted(journalled(home)) == sorted(first)
        orphans, current = children(), evaluating(home)
        driver.kill()
        _, alive = psutil.wait_procs(orphans, timeout=60)
        assert alive == []
        assert not is_trained(home), "too late to show anything"
        lost |= set(current) - set(results(home))
    with started(command("train", recipe), environment(home), log) as driver:  # the evaluation itself is killed
        children = lambda: named(driver, "langevin.cluster.alone")  # noqa: E731
        wait_until(lambda: bool(children()) or driver.is_over, PATIENCE_S, "a third", log)
        current = evaluating(home)
        children()[0].kill()
        wait_until(lambda: "failed: killed by SIGKILL" in log.read_text(), PATIENCE_S, "a word of it", log)
        lost |= set(current) - set(results(home))
        wait_until(lambda: driver.is_over, PATIENCE_S, "the end", log)
    again = langevin("train", recipe, home=home, timeout_s=PATIENCE_S)
    assert again.returncode == 0, again.stderr
    log.write_text(log.read_text() + again.stderr)
    assert_each_once_or_thinned(home, recipe, log, lost)


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="two workers need two CPUs")
def test_killed_on_ray_whose_cpus_are_all_taken(new_home: Homes, recipe: Path, tmp_path: Path) -> None:
    home, log = new_home("y"), tmp_path / "log"
    assert langevin("extractor", recipe, home=home).returncode == 0
    train = command("train", recipe, "--workers", "2")
    lost: set[int] = set()
    with started(train, environment(home), log) as driver:
        tasks = lambda: named(driver, "ray::_nicely")  # noqa: E731
        wait_until(lambda: bool(tasks()) or driver.is_over, PATIENCE_S, "a task", log)
        assert not driver.is_over, log.read_text()
        current, task = evaluating(home), tasks()[0]
        workers = named(driver, "RayTrainWorker")  # which have all of the CPUs
        task.kill()
        wait_until(lambda: "its process was killed" in log.read_text(), PATIENCE_S, "a word of it", log)
        lost |= set(current) - set(results(home))
        assert len(workers) == 2
        workers[0].kill()  # Ray begins again from the last checkpoint
        wait_until(lambda: bool(results(home)) or driver.is_over, PATIENCE_S, "a result", log)
        wait_until(lambda: bool(tasks()) or driver.is_over, PATIENCE_S, "another task", log)
        time.sleep(0.2)
        current, orphans = evaluating(home), tasks()
        driver.kill()
        _, alive = psutil.wait_procs(orphans, timeout=60)
        assert alive == []
        lost |= set(current) - set(results(home))
    again = langevin("train", recipe, "--workers", "2", home=home, timeout_s=PATIENCE_S)
    assert again.returncode == 0, again.stderr
    log.write_text(log.read_text() + again.stderr)
    assert_each_once_or_thinned(home, recipe, log, lost)
