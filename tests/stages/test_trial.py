"""A trial of a search in one process: rungs on the way of the recipe's own training, and how they are measured."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from e2e.recipes import write_recipe

from langevin.cluster.train import train
from langevin.cluster.training import Training
from langevin.config.load import load_recipe
from langevin.config.recipe import Recipe
from langevin.errors import NumericsError
from langevin.search.halving import drawn as foreseen
from langevin.search.halving import rounds
from langevin.stages import trial as stage
from langevin.stages.candidates import FEWEST, Candidate, sweep
from langevin.stages.ema import averaged
from langevin.stages.evaluator import Evaluator
from langevin.stages.progress import Stage
from langevin.stages.trial import Trial, advance, at
from langevin.tracking.runs import find_run, history
from langevin.tracking.store import client, tracking_uri
from langevin.training import checkpoint as checkpoints

from .test_sweep import SMALL, rows, run

RUNGS = (64, 128, 256)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("p")
    section = SMALL["train"] | {
        "images": 256,
        "warmup": 64,
        "checkpoint_every": 96,
        "ema_stds": [0.1, 0.2],
        "snapshot_every": 64,
    }
    recipe = write_recipe(
        home / "small.yaml", **SMALL | {"train": section, "evaluate": SMALL["evaluate"] | {"images": 256}}
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LANGEVIN_HOME", str(home))
        for command in ("prepare", "extractor"):
            assert run(command, recipe) == 0
        client(tracking_uri(home))  # its tables take seconds to make
    return home


@pytest.fixture
def recipe(home: Path, prepared: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    """The recipe, in a copy of the home where its data are."""
    shutil.copytree(prepared, home, dirs_exist_ok=True)
    stage._evaluator.cache_clear()
    return load_recipe(home / "small.yaml")


def trial_of(recipe: Recipe, home: Path, **changes: Any) -> Trial:
    made = Trial(Training.of(recipe, home), RUNGS, 0, recipe.model_dump_json(), ("fid", "nll", "network_calls"), "s")
    return replace(made, **changes)


def bits(training: Training) -> dict[str, str]:
    last = checkpoints.latest(training.checkpoints)
    assert last is not None
    return {file: hashlib.sha256((last.folder / file).read_bytes()).hexdigest() for file in last.files}


def test_rung_by_rung_is_the_training_that_nothing_paused(recipe: Recipe, home: Path) -> None:
    trial = trial_of(recipe, home)
    figures = [advance(trial, rung) for rung in range(3)]
    assert [one["images"] for one in figures] == list(RUNGS)
    in_parts = bits(trial.training)
    shutil.rmtree(trial.training.folder)
    train(trial.training, None, 0, lambda _: None, threads=1)
    assert bits(trial.training) == in_parts

    known = advance(trial, 2)  # of a training that is there already
    assert known == figures[2]
    assert bits(trial.training) == in_parts


def test_a_rung_is_measured_as_an_evaluation_measures_and_stands_in_mlflow_once(recipe: Recipe, home: Path) -> None:
    trial = trial_of(recipe, home)
    for rung in (0, 1, 1):
        found = advance(trial, rung)
    checkpoint = at(trial.training, 128)
    evaluator = Evaluator(recipe)
    with Stage("test", 50) as shown:
        images = evaluator.images(evaluator.model(checkpoint), 50, shown)
    assert found["fid"] == pytest.approx(evaluator.fid(images), rel=1e-6)
    assert found["nll"] == evaluator.nll(evaluator.model(checkpoint))
    assert found["network_calls"] == 3

    uri = trial.training.tracking_uri
    child, parent = find_run(uri, "small", trial.training.name), find_run(uri, "small", "s")
    assert child is not None
    assert [step for step, _ in history(uri, child, "s/fid")] == [64, 128]
    own = client(uri).get_run(child).data
    assert own.tags["mlflow.parentRunId"] == parent
    assert own.params["model.prediction"] == "velocity"


def test_what_diverges_has_infinite_figures(recipe: Recipe, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def diverges(*_: Any, **__: Any) -> None:
        raise NumericsError("no finite gradient")

    monkeypatch.setattr(stage, "train", diverges)
    assert advance(trial_of(recipe, home), 0) == dict.fromkeys(("fid", "nll", "network_calls"), float("inf")) | {
        "images": 0
    }


def test_the_rung_of_a_training_that_went_further_is_its_next_checkpoint(recipe: Recipe, home: Path) -> None:
    trial = trial_of(recipe, home)
    train(trial.training, None, 0, lambda _: None, threads=1)
    assert [one.images for one in checkpoints.every(trial.training.checkpoints)] == [96, 192, 256]
    assert [advance(trial, rung)["images"] for rung in range(3)] == [96, 192, 256]


def test_twenty_settings_on_common_noise(
    recipe: Recipe, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By halving, in so many images as are foreseen, none twice, with the figures of `langevin sweep`."""
    trial = trial_of(recipe, home, objectives=("fid",))
    advance(trial, 2)
    checkpoint, evaluator = at(trial.training, 256), Evaluator(recipe)
    settings = [
        {"steps": steps, "guidance": guidance} for steps in (1, 2, 3, 4) for guidance in (0.5, 1.0, 1.25, 1.5, 2.0)
    ]
    candidates = [Candidate("r", {}, one, checkpoint, recipe.sample.model_copy(update=one), {}) for one in settings]
    drawn: list[int] = []
    features = Evaluator.features

    def counted(self: Evaluator, model: Any, first: int, count: int, *rest: Any) -> Any:
        drawn.append(count - first)
        return features(self, model, first, count, *rest)

    monkeypatch.setattr(Evaluator, "features", counted)
    found = sweep(candidates, evaluator, ("fid", "network_calls"), home / "drawn", lambda: True)
    counts = rounds(20, 256, FEWEST)
    assert counts == [64, 128, 256]
    assert sum(drawn) == found.drawn == foreseen(20, counts) < 20 * 256
    everything = [one.candidate.sampling for one in (*found.last, *found.earlier)]
    assert sorted(everything, key=str) == sorted(settings, key=str)
    assert {one.n for one in found.last} == {256}

    drawn.clear()
    again = sweep(candidates, evaluator, ("fid", "network_calls"), home / "drawn", lambda: True)
    assert drawn == []
    assert [one.to_json() for one in again.last] == [one.to_json() for one in found.last]

    best = found.last[0]
    write_recipe(
        home / "small.yaml", **json.loads(json.dumps(recipe.plain() | {"sample": best.candidate.sample.plain()}))
    )
    assert run("train", home / "small.yaml") == 0
    (swept,) = rows(capsys, home / "small.yaml", "steps", str(best.candidate.sampling["steps"]))
    assert best.interval is not None
    for end, value in (("value", best.figures["fid"]), ("low", best.interval.low), ("high", best.interval.high)):
        assert swept["fid"][end] == pytest.approx(value, rel=1e-5)


def test_no_round_is_begun_when_the_time_is_over(recipe: Recipe, home: Path) -> None:
    trial = trial_of(recipe, home, objectives=("fid",))
    advance(trial, 0)
    candidates = [Candidate("r", {}, {"steps": steps}, at(trial.training, 64),
                            recipe.sample.model_copy(update={"steps": steps}), {}) for steps in (1, 2, 3, 4)]  # fmt: skip
    left = [True]
    found = sweep(candidates, Evaluator(recipe), ("fid",), home / "drawn", lambda: bool(left and left.pop()))
    assert {one.n for one in found.last} == {rounds(4, 256, FEWEST)[0]}
    assert len(found.last) == 4
    assert sweep(candidates, Evaluator(recipe), ("fid",), home / "drawn", lambda: False).last == []


def test_averages_of_other_lengths_are_candidates(recipe: Recipe, home: Path) -> None:
    trial = trial_of(recipe, home, objectives=("fid",))
    advance(trial, 2)
    last = at(trial.training, 256)
    made = [averaged(trial.training, last, std, last.model).checkpoint for std in (0.05, 0.15)]
    candidates = [Candidate("r", {}, {"ema_std": one.model["ema_std"]}, one, recipe.sample, {}) for one in (last, *made)
                  if "ema_std" in one.model]  # fmt: skip
    found = sweep(candidates, Evaluator(recipe), ("fid",), home / "drawn", lambda: True)
    assert {one.candidate.sampling["ema_std"] for one in found.last} == {0.05, 0.15}
    assert len({one.figures["fid"] for one in found.last}) == 2
    assert len(os.listdir(home / "drawn")) == 2
