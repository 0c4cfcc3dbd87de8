"""A search: trials on Ray Tune, then sampling settings on the best of them; out/SEARCH says what was found."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from langevin.cluster.crew import crew
from langevin.cluster.proposals import Thinking
from langevin.cluster.session import cpus, enough
from langevin.cluster.submit import is_job_server, submit
from langevin.cluster.training import Training
from langevin.cluster.tune import Tuning, run_trials
from langevin.config.code import code_digest
from langevin.config.load import build, description
from langevin.config.load_search import Loaded, load_search
from langevin.config.paths import home, run_folder, within_home
from langevin.config.recipe import Recipe, digest
from langevin.data.manifest import Manifest
from langevin.errors import ConfigError
from langevin.protocols import Bounded, Samples, Trainable
from langevin.search.budget import Budget
from langevin.search.conductor import Conductor, Evolution, Leg
from langevin.search.journal import Journal
from langevin.search.population import Copy, Exchange, Population
from langevin.search.space import Settings
from langevin.stages.candidates import Candidate, Measured, Swept, sweep
from langevin.stages.ema import averaged
from langevin.stages.evaluator import Evaluator
from langevin.stages.extractor import extractor_of
from langevin.stages.found import found
from langevin.stages.lineages import branch, recipe_of, settings_of, tags
from langevin.stages.outputs import read_json, write_json, write_text
from langevin.stages.progress import say
from langevin.stages.trial import Trial, advance, at, life
from langevin.tracking.runs import Tracker
from langevin.tracking.store import check_access, tracking_uri

FINAL = "final"  # a trial's figure after the sampling was chosen, beside those of its rungs


def tune(path: Path, address: str | None) -> dict[str, Any]:
    """Runs the search of this file, or goes on with it; leaves out/SEARCH/search.json and best.yaml, a recipe.

    ConfigError before anything runs where a knob, a value or a combination cannot be used; DataError where the data set or
    the extractor of the recipe is not there.
    """
    loaded = load_search(path)
    manifest = _ready(loaded)
    check_access(tracking_uri(home()))
    if address is not None and is_job_server(address):
        submit("tune", path, address, loaded.search.name)
        return read_json(outputs(loaded) / "search.json", "tune")
    if address is None and (asked := _cpus(loaded)) > cpus():
        raise ConfigError(f"trials at a time take {asked} CPUs, and this machine has {cpus()}", file=path, field="concurrent",
                          value=loaded.search.concurrent, mend="lower it, or set workers to 0")  # fmt: skip
    if address is None:
        enough(loaded.base.evaluate.workers, cpus(), "this machine", path, "evaluate.workers")
    known = digest(_decides(loaded, manifest))
    with Journal.opened(outputs(loaded) / f"journal-{known}.jsonl") as journal, _parent(loaded) as parent:
        trained = Trained({}, {})
        conductor = _conductor(loaded, journal, trained)
        _train(loaded, conductor, trained, address)
        swept = _sample(loaded, manifest, conductor, trained, address)
        result = found(loaded, conductor, swept)
        _leave(loaded, result, parent, journal)
        _tell_children(loaded, result, trained)
    return result


def outputs(loaded: Loaded) -> Path:
    """The folder of what a search finds."""
    return home() / "out" / loaded.search.name


def _ready(loaded: Loaded) -> Manifest:
    """The data, the extractor and a model that has the objectives. Errors name what is missing."""
    manifest = Manifest.load(within_home(loaded.base.data.root))
    extractor_of(loaded.base)
    for knobs in loaded.search.settings or [{}]:
        model = build(loaded.recipe(knobs), manifest)
        needs = {"fid": Samples, "network_calls": Samples, "nll": Bounded}
        for objective in loaded.search.objectives:
            if not isinstance(model, needs[objective]) or not isinstance(model, Trainable):
                raise ConfigError(f"is nothing that {loaded.base.model.method} has", file=loaded.path,
                                  field="objectives", value=objective, mend="take another")  # fmt: skip
    return manifest


def _cpus(loaded: Loaded) -> int:
    return loaded.search.concurrent * max(_workers(loaded), 1)


def _workers(loaded: Loaded) -> int:
    search = loaded.search
    return loaded.base.train.workers if search.workers is None else search.workers


def _decides(loaded: Loaded, manifest: Manifest) -> dict[str, Any]:
    """What a trial's figures and the decisions on them depend on: a search that differs in it begins a journal of its own.
    More of a budget, more at a time or other sampling settings go on with the one that is there.
    """
    search = loaded.search.plain()
    for beside in ("name", "recipe", "budget", "concurrent", "workers", "sampling"):
        del search[beside]
    recipe = loaded.base.plain()
    for beside in ("beside", "workers"):  # trials are measured at their rungs, by whomever
        del recipe["evaluate"][beside]
    extractor = extractor_of(loaded.base).sha256
    return {
        "search": search,
        "recipe": recipe,
        "data": manifest.digest,
        "extractor": extractor,
        "code": code_digest(),
    }


def _parent(loaded: Loaded) -> Tracker:
    """The search's own MLflow run, above those of its trials."""
    search = loaded.search
    tracker = Tracker(tracking_uri(home()), loaded.base.name, search.name, run_folder(search.name))
    plain = search.plain()
    for section in ("training", "sampling"):
        tracker.params({f"{section}.{name}": json.dumps(values) for name, values in plain[section].items()})
    tracker.params({name: plain[name] for name in ("algorithm", "scheduler", "rungs", "objectives", "seed")})
    return tracker


@dataclass(frozen=True)
class Trained:
    """The trainings of a search by their runs' names, as far as they went."""

    trainings: dict[str, Training]
    recipes: dict[str, Recipe]

    def add(self, recipe: Recipe, code: Path) -> str:
        """The name of the recipe's training, from now on known. code: a folder of the project."""
        training = Training.of(recipe, code)
        self.trainings[training.name], self.recipes[training.name] = training, recipe
        return training.name


def _conductor(loaded: Loaded, journal: Journal, trained: Trained) -> Conductor:
    search = loaded.search
    minutes = search.budget.minutes
    budget = Budget(search.budget.images, None if minutes is None else 60 * minutes)
    rungs = (*search.rungs, loaded.base.train.images)
    if search.scheduler == "population":

        def succeed(exchange: Exchange, rung: int) -> Copy:
            copy = branch(loaded, trained.trainings[exchange.source], exchange, rung, rungs[rung])
            trained.add(loaded.recipe(settings_of(copy.knobs, copy)), loaded.path.parent)
            return copy

        population = Population(search.knobs, search.reduction, search.seed)
        return Evolution(journal, budget, rungs, search.objectives[0], population, succeed)
    return Conductor(journal, budget, rungs, search.objectives[0], search.reduction, search.scheduler == "halving")


def _train(loaded: Loaded, conductor: Conductor, trained: Trained, address: str | None) -> None:
    """Runs the trials, or what is left of them."""
    search = loaded.search

    def register(knobs: Settings) -> str | None:
        try:
            recipe = loaded.recipe(knobs)
        except ConfigError as refused:  # Optuna's own idea: what is known before was checked before
            say(f"tune: {knobs} is left out: {refused}")
            return None
        run = trained.add(recipe, loaded.path.parent)
        return run if conductor.add(run, knobs) else None

    for run, knobs in conductor.candidates.items():
        trained.add(recipe_of(loaded, conductor.journal, run, knobs), loaded.path.parent)
    for knobs in search.settings or []:
        register(knobs)

    def trial_of(leg: Leg) -> Trial:
        say(f"tune: {leg.run} to {conductor.rungs[leg.last]:,} images: {conductor.candidates[leg.run]}")
        return Trial(trained.trainings[leg.run], tuple(conductor.rungs), _workers(loaded), loaded.base.model_dump_json(),
                     search.objectives, search.name, tags(conductor, leg.run))  # fmt: skip

    thinking = None
    if search.algorithm == "optuna":
        assert search.trials is not None
        thinking = Thinking(search.knobs, search.seed, search.trials, register)
    if conductor.has_work or (thinking and len(conductor.candidates) < thinking.trials):
        reduction = search.reduction if search.scheduler == "asha" else None
        tuning = Tuning(search.concurrent, _workers(loaded), reduction, run_folder(search.name) / "ray", thinking)
        run_trials(conductor, tuning, trial_of, advance, address)


def _sample(loaded: Loaded, manifest: Manifest, conductor: Conductor, trained: Trained, address: str | None) -> Swept:
    """The sampling settings, on the trainings that came furthest."""
    objectives, trials = loaded.search.objectives, conductor.journal.trials
    candidates = _candidates(loaded, manifest, conductor, trained)
    if candidates and "fid" in objectives:
        torch.set_num_threads(1)  # what is drawn side by side takes no thread from its neighbour
        folder = outputs(loaded) / "drawn"
        with crew(address, loaded.base.evaluate.workers) as hands:
            swept = sweep(
                candidates, Evaluator(loaded.base, hands), objectives, folder, lambda: conductor.budget.in_time
            )
        if swept.last:
            return swept
    # nothing that sampling moves, or no time for a single round: what the last rung says, of the recipe's own sampling
    own = {one.run: replace(one, sampling={}, sample=trained.recipes[one.run].sample) for one in candidates}
    last = [Measured(one, 0, {name: trials[run].figures[-1][name] for name in objectives}) for run, one in own.items()]
    return Swept(sorted(last, key=lambda one: one.point(objectives)), [], 0)


def _candidates(loaded: Loaded, manifest: Manifest, conductor: Conductor, trained: Trained) -> list[Candidate]:
    trials = conductor.journal.trials
    finite = [run for run, trial in trials.items() if trial.figures and math.isfinite(conductor.last(run))]
    furthest = max((conductor.at(run) for run in finite), default=0)
    found = []
    for run in (run for run in finite if conductor.at(run) == furthest):
        recipe, rung = trained.recipes[run], conductor.rungs[furthest - 1]
        training = life(trained.trainings[run], rung, loaded.search.name)
        checkpoint = at(training, rung)
        says = description(recipe, manifest)
        unmoved = {str(name): trials[run].figures[-1][name] for name in loaded.search.objectives if name == "nll"}
        for settings, sample, std in loaded.samples(recipe):
            weights = checkpoint if std is None else averaged(training, checkpoint, std, says).checkpoint
            found.append(Candidate(run, trials[run].knobs, settings, weights, sample, unmoved))
    return found


def _leave(loaded: Loaded, result: dict[str, Any], parent: Tracker, journal: Journal) -> None:
    folder, best = outputs(loaded), result["best"]
    write_json(folder / "search.json", result)
    parent.text(json.dumps(result, indent=1), "search.json")
    images = result["images"]
    parent.metrics(images["trained"], {"images": images["trained"], "share": images["share"] or 0.0})
    if best is not None:
        text = loaded.text(settings_of(best["knobs"], journal.copies.get(best["run"])), best["sampling"])
        write_text(folder / "best.yaml", text)
        parent.text(text, "best.yaml")
        parent.metrics(images["trained"], {f"best/{name}": value for name, value in best["figures"].items()})
        parent.tags({"langevin.search.best": best["run"]})


def _tell_children(loaded: Loaded, result: dict[str, Any], trained: Trained) -> None:
    """What became of every trial, in its own run: also hands over what MLflow could not take before."""
    finals: dict[str, dict[str, Any]] = {}
    for one in result["sampling"]:
        finals.setdefault(one["run"], one)
    for row in result["trials"]:
        training, state = trained.trainings[row["run"]], row["state"]
        status = "FAILED" if state == "diverged" else "FINISHED"
        tracker = Tracker(training.tracking_uri, loaded.base.name, training.name, Path(training.folder))
        tracker.parent(loaded.search.name)
        tracker.tags({"langevin.search": loaded.search.name, "langevin.search.state": state})
        if final := finals.get(row["run"]):
            tracker.params({f"{loaded.search.name}/{name}": value for name, value in final["sampling"].items()})
            tracker.metrics(
                int(row["images"]),
                {f"{loaded.search.name}/{FINAL}_{name}": value for name, value in final["figures"].items()},
            )
        tracker.close(status)  # type: ignore[arg-type]
