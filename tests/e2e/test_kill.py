"""Whatever is killed, the same command run again ends with the same bytes, and tracking has every point once."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path

import psutil
import pytest

from langevin.tracking.registry import Registry
from langevin.tracking.runs import find_run, history
from langevin.tracking.store import client

from .conftest import Homes
from .processes import free_ports, started, wait_until
from .recipes import command, environment, langevin, write_recipe

IMAGES = 8192
BITS = ("ema.safetensors", "state.safetensors")
PATIENCE_S = 240
pytestmark = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="two workers need two CPUs")


@pytest.fixture(scope="session")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe(tmp_path_factory.mktemp("r") / "r.yaml", train__images=IMAGES, train__workers=2)


@pytest.fixture(scope="session")
def uninterrupted(new_home: Homes, recipe: Path) -> Path:
    """The home of a training with two workers that nothing disturbed."""
    home = new_home("u")
    trained = langevin("train", recipe, home=home)
    assert trained.returncode == 0, trained.stderr
    return home


def run_folder(home: Path) -> Path:
    return next((home / "runs").glob("small-*"))


def checkpoint_is_there(home: Path, images: int) -> bool:
    return bool(list(home.glob(f"runs/small-*/checkpoints/{images:012d}/checkpoint.json")))


def bits(home: Path) -> dict[str, str]:
    last = run_folder(home) / f"checkpoints/{IMAGES:012d}"
    return {name: hashlib.sha256((last / name).read_bytes()).hexdigest() for name in BITS}


def points(home: Path, name: str = "small") -> dict[str, list[tuple[int, float]]]:
    """Every point of every metric of the one run that there is."""
    uri = f"sqlite:///{home}/mlflow/mlflow.db"
    return points_at(uri, name)


def points_at(uri: str, name: str) -> dict[str, list[tuple[int, float]]]:
    store = client(uri)
    experiment = store.get_experiment_by_name(name)
    assert experiment is not None
    runs = store.search_runs([experiment.experiment_id])
    assert len(runs) == 1
    assert runs[0].info.status == "FINISHED"
    assert find_run(uri, name, runs[0].info.run_name) == runs[0].info.run_id
    return {key: history(uri, runs[0].info.run_id, key) for key in runs[0].data.metrics}


def assert_same_training(home: Path, reference: Path) -> None:
    assert bits(home) == bits(reference)
    ours, theirs = points(home), points(reference)
    steps = {key: [step for step, _ in found] for key, found in ours.items()}
    assert steps == {key: [step for step, _ in found] for key, found in theirs.items()}
    assert all(sorted(set(found)) == found for found in steps.values())
    for key in ("train/loss", "train/gradient_norm", "train/lr", "validation/loss"):
        assert ours[key] == theirs[key], key


def test_a_killed_driver_goes_on_from_the_last_checkpoint(
    new_home: Homes, recipe: Path, uninterrupted: Path, tmp_path: Path
) -> None:
    home, log = new_home("k"), tmp_path / "log"
    with started(command("train", recipe), environment(home), log) as driver:
        wait_until(lambda: checkpoint_is_there(home, 1024) or driver.is_over, PATIENCE_S, "a checkpoint", log)
        orphans = driver.kill()
        assert len(orphans) >= 4  # Ray's own and two workers
        assert not checkpoint_is_there(home, IMAGES), "killed too late to show anything"
        _, alive = psutil.wait_procs(orphans, timeout=20)
        # nothing that a dead driver left goes on writing; Ray's own agents may take minutes to notice, and write nothing
        assert [name for name in (_name(one) for one in alive) if "Agent" not in name] == []
    again = langevin("train", recipe, home=home)
    assert again.returncode == 0, again.stderr
    assert "goes on from" in again.stderr
    assert_same_training(home, uninterrupted)


def test_a_killed_worker_is_replaced_without_a_word(
    new_home: Homes, recipe: Path, uninterrupted: Path, tmp_path: Path
) -> None:
    home, log = new_home("w"), tmp_path / "log"
    with started(command("train", recipe), environment(home), log) as driver:
        wait_until(lambda: checkpoint_is_there(home, 1024) or driver.is_over, PATIENCE_S, "a checkpoint", log)
        workers = [one for one in driver.descendants() if "RayTrainWorker" in " ".join(one.cmdline())]
        assert len(workers) == 2
        min(workers, key=lambda one: one.pid).kill()
        assert not checkpoint_is_there(home, IMAGES), "killed too late to show anything"
        wait_until(lambda: driver.is_over, PATIENCE_S, "the end of the training", log)
        assert checkpoint_is_there(home, IMAGES), log.read_text()[-3000:]
    assert_same_training(home, uninterrupted)
    assert (home / "out/small/training.json").read_bytes() == (uninterrupted / "out/small/training.json").read_bytes()


def test_a_killed_generation_gives_the_same_bytes(new_home: Homes, tmp_path: Path) -> None:
    home, log = new_home("g"), tmp_path / "log"
    recipe = write_recipe(tmp_path / "r.yaml", train__images=64, sample__steps=100, generate__images=320)
    assert langevin("train", recipe, home=home).returncode == 0
    _register(home)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert langevin("generate", recipe, "--out", whole, home=home).returncode == 0
    with started(command("generate", recipe, "--out", broken), environment(home), log) as driver:
        wait_until(lambda: len(list(broken.glob("*.tar"))) >= 3 or driver.is_over, PATIENCE_S, "three units", log)
        driver.kill()
    assert not (broken / "manifest.json").exists()
    done = {path: path.stat().st_mtime_ns for path in sorted(broken.glob("*.tar"))[:2]}
    again = langevin("generate", recipe, "--out", broken, home=home)
    assert again.returncode == 0, again.stderr
    assert {path: path.stat().st_mtime_ns for path in done} == done  # not made twice
    assert _contents(broken) == _contents(whole)
    assert json.loads((whole / "manifest.json").read_text())["request"]["model"] == "models:/small/1"


@pytest.mark.cluster
def test_training_goes_on_without_mlflow_and_delivers_later(new_home: Homes, tmp_path: Path) -> None:
    home, log = new_home("m"), tmp_path / "log"
    (port,) = free_ports(1)
    uri = f"http://127.0.0.1:{port}"
    recipe = write_recipe(tmp_path / "r.yaml")
    reached = langevin("train", recipe, home=new_home("n"))
    assert reached.returncode == 0, reached.stderr
    before = time.monotonic()
    trained = langevin("train", recipe, home=home, more={"MLFLOW_TRACKING_URI": uri})
    assert trained.returncode == 0, trained.stderr
    assert time.monotonic() - before < 120
    assert checkpoint_is_there(home, 1024)
    assert len((home / "out/small/history.csv").read_text().splitlines()) == 5  # every 256 images, and the header
    assert langevin("extractor", recipe, home=home).returncode == 0
    refused = langevin("evaluate", recipe, home=home, more={"MLFLOW_TRACKING_URI": uri})
    assert refused.returncode == 1
    assert f"MLflow at {uri} did not answer" in refused.stderr
    with started(command("ui", "--port", str(port)), environment(home), log) as server:
        wait_until(lambda: server.is_over or "startup complete" in log.read_text(), PATIENCE_S, "the server", log)
        evaluated = langevin("evaluate", recipe, home=home, more={"MLFLOW_TRACKING_URI": uri})
        assert evaluated.returncode == 0, evaluated.stderr
        found = points_at(uri, "small")
    for key in ("train/loss", "train/lr"):
        assert [step for step, _ in found[key]] == [256, 512, 768, 1024]
    assert [step for step, _ in found["validation/loss"]] == [512, 1024]
    assert [step for step, _ in found["test/fid"]] == [1024]


def _name(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.NoSuchProcess:
        return "an Agent until now"


def _register(home: Path) -> None:
    """The trained checkpoint as models:/small/1, without evaluating it."""
    said = json.loads((home / "out/small/training.json").read_text())
    registry = Registry(f"sqlite:///{home}/mlflow/mlflow.db")
    tags = {"langevin.checkpoint_sha256": said["sha256"]}
    version = registry.register("small", str(home / said["checkpoint"]), None, tags)
    registry.set_alias("small", "champion", version)


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
