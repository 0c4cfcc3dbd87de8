"""A trial of a search in one process: rungs on the way of the recipe's own training, and how they are measured."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from e2e.recipes import write_recipe

from langevin.cluster.train import train
from langevin.cluster.training import Training
from langevin.config.load import load_recipe
from langevin.config.load_search import Loaded
from langevin.config.paths import run_folder
from langevin.config.recipe import Recipe
from langevin.config.search import Search
from langevin.errors import CheckpointError, ConfigError, NumericsError
from langevin.search.budget import Budget
from langevin.search.conductor import Evolution, Leg
from langevin.search.halving import drawn as foreseen
from langevin.search.halving import rounds
from langevin.search.journal import Journal
from langevin.search.population import Copy, Exchange, Population
from langevin.stages import trial as stage
from langevin.stages.ancestry import starts
from langevin.stages.candidates import FEWEST, Candidate, sweep
from langevin.stages.ema import averaged
from langevin.stages.evaluator import Evaluator
from langevin.stages.lineages import branch, recipe_of, segments, settings_of, tags
from langevin.stages.progress import Stage
from langevin.stages.trial import Trial, advance, at
from langevin.tracking.registry import CHECKPOINT_TAG, Registry
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


def test_a_training_that_went_further_is_measured_at_no_more_images_than_the_others(recipe: Recipe, home: Path) -> None:
    """What it keeps of itself is of more; so it lives again up to the rung, and its end is measured as it is."""
    trial = trial_of(recipe, home)
    expected = [advance(trial, rung) for rung in range(3)]
    shutil.rmtree(trial.training.folder)
    train(trial.training, None, 0, lambda _: None, threads=1)
    whole = bits(trial.training)
    assert [one.images for one in checkpoints.every(trial.training.checkpoints)] == [96, 192, 256]
    assert [advance(trial, rung) for rung in range(3)] == expected
    again = Path(f"{trial.training.folder}-s/checkpoints")
    assert [one.images for one in checkpoints.every(again)] == [64, 96, 128]
    assert bits(trial.training) == whole


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


KNOBS = {
    "train.lr": {"low": 1e-4, "high": 1e-2, "log": True},
    "model.weighting": ["simple", "min_snr"],
    "train.ema_decay": [0.9, 0.99],
}


def population_of(recipe: Recipe, home: Path) -> Loaded:
    search = {"name": "s", "recipe": "small.yaml", "training": KNOBS, "algorithm": "random", "trials": 2, "reduction": 2,
              "scheduler": "population", "rungs": RUNGS[:-1], "objectives": ["nll"]}  # fmt: skip
    parsed = Search.model_validate_json(json.dumps(search))
    return Loaded(parsed, home / "s.yaml", recipe, json.loads((home / "small.yaml").read_text()))


def test_a_copy_of_a_state_with_the_same_knobs_is_the_training_that_nothing_copied(recipe: Recipe, home: Path) -> None:
    """Optimiser, averages and the order of the images included: it goes on at the images that the state has seen."""
    loaded, source = population_of(recipe, home), Training.of(recipe, home)
    train(replace(source, pause=128), None, 0, lambda _: None, threads=1)
    copy = branch(loaded, source, Exchange("r", source.name, {"train.lr": 2e-3}), 1, 128)
    other = branch(loaded, source, Exchange("r", source.name, {"train.lr": 1e-3}), 1, 128)
    at_the_copy = bits(source)
    train(source, None, 0, lambda _: None, threads=1)
    whole = bits(source)
    shutil.rmtree(source.folder)  # a copy needs it no more

    found = Training.of(loaded.recipe(settings_of(copy.knobs, copy)), home)
    assert found.name == copy.run not in (source.name, other.run)
    assert {file: hashlib.sha256((found.start / file).read_bytes()).hexdigest() for file in at_the_copy} == at_the_copy
    train(found, None, 0, lambda _: None, threads=1)
    assert bits(found) == whole
    assert [one.images for one in checkpoints.every(found.checkpoints)] == [192, 256]
    assert averaged(found, at(found, 256), 0.15, {}).snapshots == 2 * len((*RUNGS, 192))
    different = Training.of(loaded.recipe(settings_of(other.knobs, other)), home)
    train(different, None, 0, lambda _: None, threads=1)
    assert bits(different).keys() == whole.keys()
    assert all(bits(different)[file] != whole[file] for file in whole)


def test_a_copy_is_known_to_go_on_from_all_that_came_before(recipe: Recipe, home: Path) -> None:
    loaded, first = population_of(recipe, home), Training.of(recipe, home)
    train(replace(first, pause=64), None, 0, lambda _: None, threads=1)
    copy = branch(loaded, first, Exchange("r", first.name, {"train.lr": 2e-3}), 0, 64)
    second = Training.of(loaded.recipe(settings_of(copy.knobs, copy)), home)
    train(replace(second, pause=128), None, 0, lambda _: None, threads=1)
    last = branch(loaded, second, Exchange("r", second.name, {"train.lr": 1e-3}), 1, 128)
    registry = Registry(tracking_uri(home))
    registry.register("first", str(at(first, 64).folder), None, {CHECKPOINT_TAG: copy.sha256})
    assert starts(registry, Path(first.folder)) == []
    assert starts(registry, run_folder(last.run)) == [
        {"run": second.name, "images": 128, "sha256": last.sha256, "models": []},
        {"run": first.name, "images": 64, "sha256": copy.sha256, "models": ["models:/first/1"]},
    ]


def test_a_start_that_cannot_be_is_named(recipe: Recipe, home: Path) -> None:
    loaded, source = population_of(recipe, home), Training.of(recipe, home)
    train(source, None, 0, lambda _: None, threads=1)
    first, last = at(source, 96), at(source, 256)

    def begun(checkpoint: Path, sha256: str) -> None:
        section = {"checkpoint": checkpoint.relative_to(home).as_posix(), "sha256": sha256}
        train(Training.of(loaded.recipe({"train.warm_start": section}), home), None, 0, lambda _: None)

    with pytest.raises(CheckpointError, match="is no checkpoint"):
        begun(home / "runs/none", first.sha256)
    with pytest.raises(CheckpointError, match=f"is not the one that the recipe names; this one's is {first.sha256}"):
        begun(first.folder, last.sha256)
    with pytest.raises(ConfigError, match="has seen 256 images, and the training ends at 256"):
        begun(last.folder, last.sha256)
    made = averaged(source, last, 0.15, last.model).checkpoint
    with pytest.raises(CheckpointError, match="averaged weights alone"):
        begun(made.folder, made.sha256)


FEW = RUNGS[:2]


class Killed(BaseException):
    """The driver, in the middle of what it did."""


def lived(
    recipe: Recipe, home: Path, journal: Path, legs: int, branched: Callable[..., Copy] = branch
) -> list[tuple[str, int]]:
    """So many legs of the population's life, in this process; which they were."""
    loaded, trainings, done = population_of(recipe, home), dict[str, Training](), list[tuple[str, int]]()
    population = Population(loaded.search.knobs, 2, 0)
    with Journal.opened(journal) as opened:

        def succeed(exchange: Exchange, rung: int) -> Copy:
            copy = branched(loaded, trainings[exchange.source], exchange, rung, FEW[rung])
            trainings[copy.run] = Training.of(loaded.recipe(settings_of(copy.knobs, copy)), home)
            return copy

        evolution = Evolution(opened, Budget(), FEW, "nll", population, succeed)
        for run, knobs in evolution.candidates.items():
            trainings[run] = Training.of(recipe_of(loaded, opened, run, knobs), home)
        for knobs in loaded.search.settings or []:
            training = Training.of(loaded.recipe(knobs), home)
            trainings[training.name] = training
            evolution.add(training.name, knobs)
        while isinstance(leg := evolution.propose(), Leg):
            trial = Trial(trainings[leg.run], FEW, 0, recipe.model_dump_json(), ("nll",), "s", tags(evolution, leg.run))
            figures = advance(trial, leg.first)
            done.append((leg.run, leg.first))
            if len(done) == legs:
                return done  # measured, and not yet noted
            assert not evolution.reached(leg.run, figures)
            evolution.ended(leg.run)
        for run, copy in opened.copies.items():
            assert [one["run"] for one in segments(evolution, run)][-2:] == [copy.source, run]
    return done


def test_a_population_lives_on_after_kills_as_if_there_had_been_none(recipe: Recipe, home: Path) -> None:
    calm = lived(recipe, home, home / "calm", 0)
    assert len(calm) == 2 * len(FEW)
    assert len({run for run, _ in calm}) == 2 + len(FEW) - 1
    with Journal.opened(home / "calm") as journal:
        wanted = {name: (trial.figures, trial.stopped, trial.copy) for name, trial in journal.trials.items()}
    uri = tracking_uri(home)
    for name, (_, _, copy) in wanted.items():
        child = find_run(uri, "small", name)
        assert child is not None
        told = client(uri).get_run(child).data.tags
        assert told.get("langevin.search.copied_from") == (copy and copy.source)
        if copy:
            assert [one["run"] for one in json.loads(told["langevin.search.history"])][-1] == copy.source

    shutil.rmtree(home / "runs")
    lived(recipe, home, home / "killed", 1)

    def copied(*arguments: Any) -> Copy:
        branch(*arguments)
        raise Killed  # and not yet noted

    with pytest.raises(Killed):
        lived(recipe, home, home / "killed", 0, copied)
    lived(recipe, home, home / "killed", 2)
    lived(recipe, home, home / "killed", 0)
    with Journal.opened(home / "killed") as journal:
        assert {name: (trial.figures, trial.stopped, trial.copy) for name, trial in journal.trials.items()} == wanted


def test_the_recipe_of_a_copy_as_a_file_is_its_training(recipe: Recipe, home: Path) -> None:
    loaded, source = population_of(recipe, home), Training.of(recipe, home)
    train(replace(source, pause=64), None, 0, lambda _: None, threads=1)
    copy = branch(loaded, source, Exchange("r", source.name, {"train.lr": 1e-3}), 0, 64)
    (home / "best.yaml").write_text(loaded.text(settings_of(copy.knobs, copy), {}))
    assert Training.of(load_recipe(home / "best.yaml"), home).name == copy.run
