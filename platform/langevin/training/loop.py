"""The training loop: torch only, in one process or in each of a group. Progress is counted in images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn

from langevin.errors import NumericsError
from langevin.protocols import Adapts, Batch, Losses, own_device
from langevin.randomness import Keys
from langevin.training import parallel
from langevin.training.meter import Meter
from langevin.training.optimiser import LearningRate
from langevin.training.precision import Precision, multiplying
from langevin.training.state import TrainState

PATIENCE = 5  # steps in a row without a finite gradient before the run gives up


@dataclass(frozen=True)
class Plan:
    """What the loop does and when; every count is in images over all workers, ``batch`` is the global one.

    accumulate: in how many parts a process takes its share of a batch, one after the other: less memory, and
    the same gradient wherever a sample's loss is its own.
    """

    images: int
    batch: int
    seed: int
    learning_rate: LearningRate
    gradient_clip: float
    log_every: int
    validate_every: int
    checkpoint_every: int
    snapshot_every: int | None = None  # of the averages, for the making of others after the training; None: never
    precision: Precision = "fp32"
    accumulate: int = 1


class Observer(Protocol):
    """What happens beside the steps. Called on every process, at the same images."""

    def log(self, images: int, metrics: dict[str, float]) -> None: ...
    def skipped(self, images: int, ordinals: list[int]) -> None: ...
    def validate(self, state: TrainState) -> None: ...
    def snapshot(self, state: TrainState) -> None: ...
    def checkpoint(self, state: TrainState) -> None: ...


def fit(state: TrainState, batches: Iterator[Batch], plan: Plan, observer: Observer) -> None:
    """Trains ``state`` to the plan's images. batches: this process's share of the stream, from ``state.images`` on.

    Each sample's randomness is keyed by (plan.seed, its ordinal): the same for any number of workers. A step whose
    gradient is not finite changes nothing; NumericsError after PATIENCE of them in a row. A model that adapts is told
    the terms of the whole global batch after every step that counts, so that it stays the same on every process.
    """
    device = own_device()
    loss_of = parallel.distributed(state.model)
    adapts = state.model if isinstance(state.model, Adapts) else None
    parameters = [p for p in state.model.parameters() if p.requires_grad]
    meter, bad = Meter(device), 0
    while state.images < plan.images:
        batch = next(batches).to(device)
        for group in state.optimiser.param_groups:
            group["lr"] = plan.learning_rate(state.images)
        state.optimiser.zero_grad(set_to_none=True)
        losses = _differentiated(loss_of, batch, plan)
        norm = torch.nn.utils.clip_grad_norm_(parameters, plan.gradient_clip)
        before, state.images = state.images, state.images + plan.batch
        if torch.isfinite(norm):
            bad = 0
            state.optimiser.step()
            if adapts is not None:
                ordinals = torch.arange(before, state.images, device=device)
                adapts.adapt(ordinals, parallel.gathered(losses.terms, batch.ordinals - before, plan.batch))
            state.update_averages()  # of what the model has adapted to, too: this step is the first they may know
            meter.add(losses, norm)
        else:
            bad += 1
            observer.skipped(state.images, batch.ordinals[~torch.isfinite(losses.total)].tolist())
            if bad == PATIENCE:
                raise NumericsError(f"no finite gradient in {bad} steps in a row, the last after {state.images} images")
        done = state.images >= plan.images
        if done or _passed(plan.log_every, before, state.images):
            observer.log(state.images, meter.read() | {"lr": plan.learning_rate(before)})
        if done or _passed(plan.validate_every, before, state.images):
            observer.validate(state)
        if plan.snapshot_every and (done or _passed(plan.snapshot_every, before, state.images)):
            observer.snapshot(state)  # before the checkpoint: a run that goes on from there has it
        if done or _passed(plan.checkpoint_every, before, state.images):
            observer.checkpoint(state)


def _differentiated(loss_of: nn.Module, batch: Batch, plan: Plan) -> Losses:
    """The losses of this process's share, part by part, each with its gradient added to the weights'."""
    size = max(-(-len(batch) // plan.accumulate), 1)
    parts = [batch[at : at + size] for at in range(0, max(len(batch), 1), size)]
    found = []
    for part in parts:
        with parallel.averaging(loss_of, part is parts[-1]):
            with multiplying(plan.precision, batch.images.device):
                losses: Losses = loss_of(part, Keys(plan.seed, part.ordinals))
            # the group averages its gradients: this share of the global batch's mean counts world times
            (losses.total.sum() * (parallel.world() / plan.batch)).backward()
        found.append(Losses(losses.total.detach(), losses.terms))
    return Losses.joined(found)


def _passed(every: int, before: int, after: int) -> bool:
    return before // every < after // every
