"""The trainings of a population: which of them go on from whose state, as recipes, on disk and for people."""

from __future__ import annotations

import json
from typing import Any

from langevin.cluster.training import Training
from langevin.cluster.warm_start import bring
from langevin.config.load_search import Loaded
from langevin.config.paths import home
from langevin.config.recipe import Recipe
from langevin.search.conductor import Conductor
from langevin.search.journal import Journal
from langevin.search.population import Copy, Exchange
from langevin.search.space import Settings
from langevin.stages.trial import at, life
from langevin.training.checkpoint import Checkpoint


def settings_of(knobs: Settings, copy: Copy | None) -> Settings:
    """The knobs and, of a copy, where it begins: together the recipe of a training, and so its name."""
    return knobs | ({"train.warm_start": {"checkpoint": copy.checkpoint, "sha256": copy.sha256}} if copy else {})


def recipe_of(loaded: Loaded, journal: Journal, run: str, knobs: Settings) -> Recipe:
    """The recipe of one of the search's trainings."""
    return loaded.recipe(settings_of(knobs, journal.copies.get(run)))


def branch(loaded: Loaded, source: Training, exchange: Exchange, rung: int, images: int) -> Copy:
    """The training that goes on from the source's state at the rung, which is after ``images`` images. The state is copied
    into its run: the source trains on and keeps few checkpoints.
    """
    state = at(life(source, images, loaded.search.name), images)
    made = _copy(exchange, rung, state, "")
    training = Training.of(loaded.recipe(settings_of(exchange.knobs, made)), loaded.path.parent)
    bring(training)
    return _copy(exchange, rung, state, training.name)


def _copy(exchange: Exchange, rung: int, state: Checkpoint, run: str) -> Copy:
    place = state.folder.relative_to(home()).as_posix()
    return Copy(run, exchange.replaces, exchange.source, rung, exchange.knobs, state.images, place, state.sha256)


def segments(conductor: Conductor, run: str) -> list[dict[str, Any]]:
    """How a training came to its state: what trained it before, from the beginning to its own last rung. images: seen when
    another went on from it, or at its last rung.
    """
    trials, copies = conductor.journal.trials, conductor.journal.copies
    found = [{"run": run, "images": trials[run].figures[-1]["images"] if run in trials and trials[run].figures else 0,
              "knobs": conductor.candidates[run]}]  # fmt: skip
    while copy := copies.get(run):
        run = copy.source
        found.append({"run": run, "images": copy.images, "knobs": conductor.candidates[run]})
    return found[::-1]


def tags(conductor: Conductor, run: str) -> dict[str, str]:
    """What MLflow is told of a copy: whose state it goes on from, and with which knobs that came about."""
    copy = conductor.journal.copies.get(run)
    if copy is None:
        return {}
    before = segments(conductor, run)[:-1]
    return {
        "langevin.search.copied_from": copy.source,
        "langevin.search.copied_at": str(copy.images),
        "langevin.search.in_place_of": copy.replaces,
        "langevin.search.history": json.dumps(before),
    }
