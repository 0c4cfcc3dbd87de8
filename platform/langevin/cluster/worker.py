"""One worker's whole training: build, resume, loop. Runs in a Ray Train worker, or alone."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

from langevin.cluster.observers import Bystander, FirstWorker
from langevin.cluster.training import Training
from langevin.cluster.warm_start import every
from langevin.config.load import build
from langevin.config.recipe import Recipe, Train
from langevin.data.manifest import Manifest
from langevin.data.reader import Reader
from langevin.errors import LangevinError
from langevin.protocols import own_device
from langevin.training import checkpoint as checkpoints
from langevin.training import parallel
from langevin.training.ema import EMA, PowerEMA
from langevin.training.loop import Plan, fit
from langevin.training.optimiser import Constant, Cosine, Decay, InverseSqrt, LearningRate, adamw
from langevin.training.state import TrainState


def work(config: dict[str, Any]) -> None:
    """config: a Training's fields. Goes on from the run's last complete checkpoint, or from the one that it begins with."""
    training = Training(**config)
    os.environ["LANGEVIN_HOME"] = training.home
    recipe, manifest = training.parsed(), Manifest.load(training.images)
    state = begun(recipe, manifest)
    if behind := every(training):
        checkpoints.load_state(behind[-1], state)
    plan = replace(plan_of(recipe), images=training.goal)  # the learning rate still goes by the recipe's images
    reader = Reader(training.data, "train", recipe.seed, plan.batch, parallel.rank(), parallel.world())
    reader.seek(state.images)
    if parallel.rank() != 0:
        fit(state, iter(reader), plan, Bystander())
        return
    first = FirstWorker(training, recipe, manifest)
    try:
        fit(state, iter(reader), plan, first)
    except LangevinError:
        first.tracker.close("FAILED")
        raise
    first.tracker.close()


def begun(recipe: Recipe, manifest: Manifest) -> TrainState:
    """The recipe's training before its first step, on this process's device."""
    section = recipe.train
    model = build(recipe, manifest).to(own_device())
    powers = tuple(PowerEMA(model, std) for std in section.ema_stds)
    optimiser = adamw(model, section.weight_decay, section.betas)
    return TrainState(model, EMA(model, section.ema_decay), optimiser, powers=powers)


def plan_of(recipe: Recipe) -> Plan:
    section = recipe.train
    return Plan(
        images=section.images,
        batch=section.batch,
        seed=recipe.seed,
        learning_rate=LearningRate(section.lr, section.warmup, _decay(section)),
        gradient_clip=section.gradient_clip,
        log_every=section.log_every,
        validate_every=section.validate_every,
        checkpoint_every=section.checkpoint_every,
        snapshot_every=section.snapshot_every if section.ema_stds else None,
        precision=section.precision,
        accumulate=section.accumulate,
    )


def _decay(section: Train) -> Decay:
    if section.decay == "inverse_sqrt":
        assert section.decay_images is not None  # the recipe is checked
        return InverseSqrt(section.decay_images)
    return Constant() if section.decay == "constant" else Cosine(section.images)
