"""`langevin tune` on the digits, on Ray Tune: what is killed goes on, and no training is done twice."""

from __future__ import annotations

import json
import random
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from langevin.config.load import load_recipe
from langevin.tracking.runs import history
from langevin.tracking.store import client

from .conftest import Homes
from .processes import started, wait_until
from .recipes import command, environment, langevin, write_recipe

pytestmark = pytest.mark.slow
SEARCH: dict[str, Any] = {
    "name": "search",
    "recipe": "small.yaml",
    "training": {"model.prediction": ["noise", "velocity", "data"], "train.lr": [2e-3, 5e-4]},
    "sampling": {"steps": [2, 4, 6], "guidance": [1.0, 1.5]},
    "scheduler": "halving",
    "rungs": [256, 512],
    "objectives": ["fid", "network_calls"],
}
POPULATION = SEARCH | {
    "training": {
        "train.lr": {"low": 1e-4, "high": 1e-2, "log": True},
        "train.ema_decay": [0.9, 0.95, 0.99],
        "model.weighting": ["simple", "min_snr"],
    },
    "sampling": {"steps": [2, 4]},
    "algorithm": "random",
    "trials": 4,
    "scheduler": "population",
    "reduction": 2,
}
SEARCHES = {"halving": SEARCH, "population": POPULATION}


@pytest.fixture(scope="module")
def ready(new_home: Homes) -> Path:
    """A home with the digits and their extractor."""
    home = new_home("s")
    assert (
        langevin("extractor", write_recipe(home / "small.yaml", train__checkpoint_every=128), home=home).returncode == 0
    )
    return home


def home_of(ready: Path, new_home: Homes, name: str, /, **changes: Any) -> Path:
    home = new_home(name)
    for part in ("small.yaml", "out/small"):
        copy = shutil.copytree if (ready / part).is_dir() else shutil.copy
        copy(ready / part, home / part)
    (home / "search.yaml").write_text(json.dumps(SEARCH | changes))
    return home


def found(home: Path, name: str = "search") -> dict[str, Any]:
    result: dict[str, Any] = json.loads((home / f"out/{name}/search.json").read_text())
    return result


def journal(home: Path) -> list[dict[str, Any]]:
    """What is noted so far, nothing before the search has begun."""
    text = "".join(path.read_text() for path in (home / "out/search").glob("journal-*.jsonl"))
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def assert_every_trial_once(home: Path) -> None:
    """In the journal, on disk and in MLflow: one run a training, one above them, no step twice, nothing else."""
    result = found(home)
    begun = [record["run"] for record in journal(home) if record["kind"] == "begun"]
    measured = [(record["run"], record["figures"]["images"]) for record in journal(home) if record["kind"] == "figures"]
    runs = sorted(row["run"] for row in result["trials"])
    assert sorted(begun) == runs
    assert len(set(measured)) == len(measured) == sum(len(row["figures"]) for row in result["trials"])
    assert sorted(path.name for path in (home / "runs").glob("small-*")) == runs
    uri = f"sqlite:///{home}/mlflow/mlflow.db"
    store = client(uri)
    (experiment,) = (one for one in store.search_experiments() if one.name == "small")
    logged = {run.info.run_name: run for run in store.search_runs([experiment.experiment_id])}
    assert sorted(logged) == sorted([*runs, "search"])
    assert len(store.search_runs([experiment.experiment_id])) == len(runs) + 1
    above = logged.pop("search").info.run_id
    for row in result["trials"]:
        run = logged[row["run"]]
        assert run.data.tags["mlflow.parentRunId"] == above
        assert run.data.tags["langevin.search.state"] == row["state"]
        assert run.info.status == "FINISHED"
        for knob, value in row["knobs"].items():
            assert run.data.params[knob] == str(value)
        first = result["objectives"][0]
        assert run.data.tags.get("langevin.search.copied_from") == row["copied_from"]
        points = history(uri, run.info.run_id, f"search/{first}")
        assert points == [(figures["images"], figures[first]) for figures in row["figures"]]


def same(result: dict[str, Any]) -> dict[str, Any]:
    """What another life of the search may not change. Trials arrive as they like."""
    return {name: result[name] for name in ("best", "front", "sampling", "images", "rungs")} | {
        "trials": sorted(result["trials"], key=lambda row: str(row["run"]))
    }


@pytest.fixture(scope="module")
def calm(ready: Path, new_home: Homes) -> Path:
    """The home of a search that nothing disturbed."""
    return undisturbed(home_of(ready, new_home, "c"))


@pytest.fixture(scope="module")
def calm_population(ready: Path, new_home: Homes) -> Path:
    return undisturbed(home_of(ready, new_home, "p", **POPULATION))


def undisturbed(home: Path) -> Path:
    searched = langevin("tune", home / "search.yaml", home=home, timeout_s=1200)
    assert searched.returncode == 0, searched.stderr
    return home


def test_a_search_finds_what_it_says(calm: Path) -> None:
    result = found(calm)
    assert_every_trial_once(calm)
    images = {row["run"]: row["images"] for row in result["trials"]}
    assert sorted(images.values()) == [256, 256, 256, 256, 512, 1024]
    assert result["images"] == {"trained": 4 * 256 + 512 + 1024, "of_all_trials_whole": 6 * 1024, "share": 0.4167}
    assert images[result["best"]["run"]] == 1024
    assert result["drawn"]["images"] < result["drawn"]["of_all_settings_whole"]
    best = load_recipe(calm / "out/search/best.yaml")
    assert best.sample.steps == result["best"]["sampling"]["steps"]

    trained = langevin("train", calm / "out/search/best.yaml", "--json", home=calm)
    assert "is complete" in trained.stderr
    assert json.loads(trained.stdout)["run"] == result["best"]["run"]
    assert langevin("evaluate", calm / "out/search/best.yaml", home=calm).returncode == 0
    measured = json.loads((calm / "out/small/metrics.json").read_text())["fid"]
    assert measured["value"] == pytest.approx(result["best"]["figures"]["fid"], rel=1e-4)
    assert measured["low"] == pytest.approx(result["best"]["interval"][0], rel=1e-4)


def test_a_population_copies_the_states_of_its_best(calm_population: Path) -> None:
    assert_every_trial_once(calm_population)
    result = found(calm_population)
    copies = [row for row in result["trials"] if row["copied_from"]]
    assert sorted(row["copied_at"] for row in copies) == [256, 256, 512, 512]
    assert sum(row["state"] == "replaced" for row in result["trials"]) == len(copies)
    assert sum(row["state"] == "complete" for row in result["trials"]) == 4
    assert result["images"] == {"trained": 4 * 1024, "of_all_trials_whole": 4 * 1024, "share": 1.0}
    rows = {row["run"]: row for row in result["trials"]}
    for row in copies:
        source = rows[row["copied_from"]]
        assert row["knobs"] != source["knobs"]
        assert row["copied_at"] in [figures["images"] for figures in source["figures"]]

    trained = langevin("train", calm_population / "out/search/best.yaml", "--json", home=calm_population)
    assert "is complete" in trained.stderr
    assert json.loads(trained.stdout)["run"] == result["best"]["run"] == result["best"]["segments"][-1]["run"]
    assert langevin("evaluate", calm_population / "out/search/best.yaml", home=calm_population).returncode == 0
    measured = json.loads((calm_population / "out/small/metrics.json").read_text())["fid"]
    assert measured["value"] == pytest.approx(result["best"]["figures"]["fid"], rel=1e-4)


def test_run_again_it_only_says_what_it_found(calm: Path) -> None:
    before, lines = same(found(calm)), journal(calm)
    again = langevin("tune", calm / "search.yaml", "--json", home=calm)
    assert again.returncode == 0, again.stderr
    assert "images: {" not in again.stderr
    assert same(json.loads(again.stdout)) == before
    assert journal(calm) == lines


def test_another_search_trains_nothing_that_is_there(calm: Path) -> None:
    one = SEARCH | {"name": "other", "training": {"model.prediction": ["noise", "velocity"]}, "scheduler": "none", "rungs": [],
                    "sampling": {}}  # fmt: skip
    (calm / "other.yaml").write_text(json.dumps(one))
    before = {path: path.stat().st_mtime_ns for path in (calm / "runs").glob("small-*/checkpoints/*/ema.safetensors")}
    complete = {row["run"] for row in found(calm)["trials"] if row["state"] == "complete"}
    assert langevin("tune", calm / "other.yaml", home=calm, timeout_s=900).returncode == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert complete & {row["run"] for row in found(calm, "other")["trials"]}


@pytest.mark.parametrize(
    ("search", "seed", "of"),
    [("halving", seed, 10) for seed in range(10)] + [("population", seed, 5) for seed in range(5)],
)
def test_killed_at_a_random_moment_and_run_again(
    search: str, seed: int, of: int, ready: Path, new_home: Homes, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """By what is noted and not by the clock, which says little of how far a search is: in each tenth of its lines once."""
    calm = request.getfixturevalue("calm" if search == "halving" else "calm_population")
    home, log = home_of(ready, new_home, f"{search[0]}{seed}", **SEARCHES[search]), tmp_path / "log"
    chance = random.Random(seed)
    lines = int((seed + chance.random()) / of * (len(journal(calm)) + 1))
    with started(command("tune", home / "search.yaml"), environment(home), log) as driver:
        wait_until(lambda: (bool(driver.descendants()) and len(journal(home)) >= lines) or driver.is_over, 1200,
                   f"{lines} lines of the journal", log)  # fmt: skip
        time.sleep(chance.uniform(0, 2))
        assert not driver.is_over, log.read_text()
        driver.kill()
    again = langevin("tune", home / "search.yaml", home=home, timeout_s=1200)
    assert again.returncode == 0, again.stderr
    assert_every_trial_once(home)
    assert same(found(home)) == same(found(calm))


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("a", {"scheduler": "asha", "concurrent": 2}),
        ("o", {"scheduler": "asha", "algorithm": "optuna", "trials": 4,
               "training": {"train.lr": {"low": 1e-4, "high": 1e-2, "log": True}, "model.prediction": ["noise", "velocity"]}}),
        ("n", {"algorithm": "random", "trials": 3, "objectives": ["nll"], "sampling": {}}),
        ("w", {"workers": 1, "training": {"model.prediction": ["noise", "velocity"]}}),
        ("b", {"budget": {"images": 6 * 256 + 100}}),
    ],
    ids=["asha", "optuna", "random by nll", "ray train", "budget"],
)  # fmt: skip
def test_other_ways_to_search(name: str, changes: dict[str, Any], ready: Path, new_home: Homes) -> None:
    home = home_of(ready, new_home, name, **changes)
    searched = langevin("tune", home / "search.yaml", home=home, timeout_s=1200)
    assert searched.returncode == 0, searched.stderr
    assert_every_trial_once(home)
    result = found(home)
    assert result["best"] is not None
    assert len(result["trials"]) == changes.get("trials", 2 if name == "w" else 6)
    if name == "b":
        assert result["images"]["trained"] == 6 * 256
        assert {row["images"] for row in result["trials"]} == {256}
    else:
        assert any(row["state"] == "complete" for row in result["trials"])
