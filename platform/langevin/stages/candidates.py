"""Finished trainings times settings of the sampling: measured on common noise, by successive halving over the images."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from langevin.config.recipe import digest
from langevin.config.sampling import Sample
from langevin.evaluation.frechet import fid_figure
from langevin.evaluation.intervals import Figure
from langevin.evaluation.sets import FeatureSet
from langevin.search.front import Point, front, order
from langevin.search.halving import rounds
from langevin.search.space import Settings
from langevin.stages.evaluator import Evaluator
from langevin.stages.progress import Stage
from langevin.stages.trial import calls_of
from langevin.training.checkpoint import Checkpoint

FEWEST = 64  # images of a first round: FID of fewer says little of a model


@dataclass(frozen=True)
class Candidate:
    """A training and a way to sample from it. known: objectives that the sampling does not move."""

    run: str
    knobs: Settings
    sampling: Settings
    checkpoint: Checkpoint
    sample: Sample
    known: dict[str, float]


@dataclass
class Measured:
    """A candidate's figures, of so many images; interval: of its FID, where it came to the last round."""

    candidate: Candidate
    n: int
    figures: dict[str, float]
    interval: Figure | None = None

    def point(self, objectives: Sequence[str]) -> Point:
        return tuple(self.figures[name] for name in objectives)

    def to_json(self) -> dict[str, Any]:
        one, of = self.candidate, self.interval
        return {
            "run": one.run, "knobs": one.knobs, "sampling": one.sampling, "n": self.n, "figures": self.figures,
            "interval": None if of is None else [of.low, of.high],
        }  # fmt: skip


@dataclass(frozen=True)
class Swept:
    """last: the candidates of the last round, the best first; earlier: those that were given up; drawn: images in all."""

    last: list[Measured]
    earlier: list[Measured]
    drawn: int

    def front(self, objectives: Sequence[str]) -> list[Measured]:
        """Those of the last round, which alone have figures of the same number of images, that none of them dominates."""
        return [self.last[place] for place in front([one.point(objectives) for one in self.last])]


def sweep(
    candidates: Sequence[Candidate], evaluator: Evaluator, objectives: Sequence[str], folder: Path, in_time: Callable[[], bool]
) -> Swept:  # fmt: skip
    """All candidates at few images, the better half at twice as many, and so on up to the evaluation's own number.

    Better is front by front, so that what is cheap stays beside what is good; images of a round are the first of the
    next one's. folder: of the features, which are kept: nothing is drawn twice. in_time: asked before a round.
    """
    counts = rounds(len(candidates), evaluator.recipe.evaluate.images, FEWEST)
    alive, drawn = list(candidates), 0
    last: list[Measured] = []
    earlier: list[Measured] = []
    for before, count in zip([0, *counts], counts, strict=False):
        if not in_time():
            break
        more = count - before
        with Stage("sample", len(alive) * more) as stage:
            found = [_measured(one, evaluator, count, folder, stage, place * more) for place, one in enumerate(alive)]
        drawn += len(alive) * more
        earlier += last[len(alive) :]
        last = [found[place] for place in order([one.point(objectives) for one in found])]
        alive = [one.candidate for one in last[: math.ceil(len(last) / 2)]]
    for finalist in last:
        finalist.interval = _interval(finalist, evaluator, folder)
    return Swept(sorted(last, key=lambda one: one.point(objectives)), earlier, drawn)


def _measured(
    one: Candidate, evaluator: Evaluator, count: int, folder: Path, stage: Stage, before: int
) -> Measured:  # fmt: skip
    own = evaluator.sampled_by(one.sample)
    place = _place(one, evaluator, folder)
    known = _features(place)
    model = own.model(one.checkpoint)
    if len(known) < count:
        more = own.features(model, len(known), count, stage, before)
        known = torch.cat([known, more]) if len(known) else more
        _keep(place, known)
    figures = {
        "fid": evaluator.fid_of(known[:count]),
        "network_calls": float(calls_of(model, own)),
    }
    return Measured(one, count, figures | one.known)


def _interval(one: Measured, evaluator: Evaluator, folder: Path) -> Figure:
    """As `langevin evaluate` finds it."""
    seed, features = evaluator.recipe.evaluate.seed, _features(_place(one.candidate, evaluator, folder))[: one.n]
    ours = FeatureSet.of(features, seed, "generated", evaluator.labels[: one.n])
    return fid_figure(ours, FeatureSet.of(evaluator.reference, seed, "reference", evaluator.test.labels))


def _place(one: Candidate, evaluator: Evaluator, folder: Path) -> Path:
    """Named by all that the features depend on."""
    extractor, seed = evaluator.extractor.sha256, evaluator.recipe.evaluate.seed
    named = digest({"weights": one.checkpoint.sha256, "sample": one.sample.plain(), "seed": seed,
                    "extractor": extractor, "data": evaluator.manifest.digest})  # fmt: skip
    return folder / f"{named}.npy"


def _features(place: Path) -> Tensor:
    return torch.from_numpy(np.load(place, allow_pickle=False)) if place.exists() else torch.empty(0, 0)


def _keep(place: Path, features: Tensor) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    unfinished = place.with_suffix(".unfinished")
    with unfinished.open("wb") as file:
        np.save(file, features.numpy())
    os.replace(unfinished, place)
