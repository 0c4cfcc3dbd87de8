"""One trial of a search, in a worker: the recipe's own training brought to a rung, and measured there."""

from __future__ import annotations

import functools
import math
import os
from dataclasses import dataclass, field, replace
from pathlib import Path

from langevin.cluster.crew import crew
from langevin.cluster.train import train
from langevin.cluster.training import Training
from langevin.cluster.warm_start import every
from langevin.config.recipe import Recipe
from langevin.errors import CheckpointError, NumericsError
from langevin.evaluation.crew import ALONE
from langevin.protocols import Samples
from langevin.stages.evaluator import Evaluator, network_calls
from langevin.stages.progress import Stage
from langevin.tracking.runs import Tracker
from langevin.tracking.store import locked
from langevin.training import checkpoint as checkpoints
from langevin.training.checkpoint import Checkpoint


@dataclass(frozen=True)
class Trial:
    """What a worker is told. rungs: in images; measured_by: the searched recipe, as JSON, by whose data, extractor, seed and
    sampling every trial is measured; search: its name, under which the figures stand in MLflow; tags: more of what the run
    is.
    """

    training: Training
    rungs: tuple[int, ...]
    workers: int
    measured_by: str
    objectives: tuple[str, ...]
    search: str
    tags: dict[str, str] = field(default_factory=dict)


def advance(trial: Trial, rung: int) -> dict[str, float]:
    """Trains on to the rung, which is a place on the way of the whole training, learning rate and all, and measures there.

    images: seen; and each objective, infinite where the training or its samples were. A state at the rung that is there
    already, of this search or another or of `langevin train`, is only measured.
    """
    os.environ["LANGEVIN_HOME"] = trial.training.home
    training = replace(life(trial.training, trial.rungs[rung], trial.search), pause=trial.rungs[rung])
    folder = Path(training.folder)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / "lock"):  # after a kill of the driver, what it left may still be writing here for a moment
        try:
            train(training, None, trial.workers, lambda _: None, threads=1)
            reached = at(training, trial.rungs[rung])
            figures = _measured(reached, trial)
        except NumericsError:
            last = checkpoints.latest(training.checkpoints)
            return {"images": last.images if last else 0, **dict.fromkeys(trial.objectives, math.inf)}
        with Tracker(training.tracking_uri, training.recipe["name"], training.name, folder) as tracker:
            tracker.parent(trial.search)
            tracker.tags(trial.tags)
            tracker.metrics(reached.images, {f"{trial.search}/{name}": value for name, value in figures.items()})
    return {"images": reached.images, **figures}


def life(training: Training, images: int, search: str) -> Training:
    """The training whose state at these images counts: the one of this name, unless it went further and keeps that state no
    more. Then it is the same from the beginning again, in a run of the search's own: a later state in its place would
    beat the others by the images that it has seen.
    """
    reached = [one.images for one in every(training)]
    is_kept = any(images <= there < images + training.recipe["train"]["batch"] for there in reached)
    if is_kept or max(reached, default=0) < images:
        return training
    return replace(training, folder=f"{training.folder}-{search}")


def at(training: Training, images: int) -> Checkpoint:
    """The training's checkpoint at these images, of its life at them (``life``)."""
    found = next((one for one in every(training) if one.images >= images), None)
    if found is None:
        raise CheckpointError(f"holds no checkpoint of {images} images", file=training.checkpoints, mend="search again")
    return found


def _measured(checkpoint: Checkpoint, trial: Trial) -> dict[str, float]:
    if trial.workers == 0:
        return _measured_by(_evaluator(trial.measured_by), checkpoint, trial.objectives)
    with crew(None, trial.workers) as hands:  # the training's workers are gone, and have left their places
        evaluator = Evaluator(Recipe.model_validate_json(trial.measured_by), hands)
        return _measured_by(evaluator, checkpoint, trial.objectives)


def _measured_by(evaluator: Evaluator, checkpoint: Checkpoint, objectives: tuple[str, ...]) -> dict[str, float]:
    model, section = evaluator.model(checkpoint), evaluator.recipe.evaluate
    figures: dict[str, float] = {}
    for objective in objectives:
        match objective:
            case "fid":
                count = min(section.curve_images, section.images)
                with Stage("fid", count) as stage:
                    features = evaluator.features(model, 0, count, stage)
                figures["fid"] = evaluator.fid_of(features)
            case "nll":
                figures["nll"] = evaluator.nll(model)
            case "network_calls":
                figures["network_calls"] = float(calls_of(model, evaluator))
    return figures


def calls_of(model: Samples, evaluator: Evaluator) -> int:
    """How often a sample goes through a network; 0 where that is not known."""
    return network_calls(model, evaluator.asked[:1], evaluator.crew) or 0


@functools.lru_cache(maxsize=1)
def _evaluator(recipe: str) -> Evaluator:
    """One a process: trials follow one another in it."""
    return Evaluator(Recipe.model_validate_json(recipe), ALONE)
