"""A small real training: a DDPM on 4 x 4 images that are a function of their ordinals."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from langevin.diffusion import grids, parameterizations
from langevin.diffusion.samplers import DDIM
from langevin.diffusion.schedules import Tabulated, cosine_betas
from langevin.diffusion.variance import Lower
from langevin.methods.bounding import Chain
from langevin.methods.ddpm import ddpm
from langevin.methods.gaussian import GaussianDiffusion, Sampling
from langevin.methods.improved_ddpm import improved_ddpm
from langevin.networks.unet import UNet
from langevin.protocols import Batch
from langevin.training import checkpoint as checkpoints
from langevin.training import snapshots
from langevin.training.ema import EMA, PowerEMA
from langevin.training.loop import Plan
from langevin.training.optimiser import Cosine, LearningRate, adamw
from langevin.training.state import TrainState

SHAPE, BATCH = (1, 4, 4), 8


def model(seed: int = 0, channels: int = 16) -> GaussianDiffusion:
    betas = cosine_betas(100)
    torch.manual_seed(seed)
    network = UNet(SHAPE, channels, (1, 2), 1, (2,), 3)
    return ddpm(network, betas, SHAPE, *_use(betas), parameterization=parameterizations.Velocity())


def adapting(seed: int = 0, channels: int = 8) -> GaussianDiffusion:
    """Learns where its losses are large, on a chain so short that it soon knows: each step has its ten losses."""
    betas = cosine_betas(4)
    torch.manual_seed(seed)
    network = UNet(SHAPE, channels, (1, 2), 1, (2,), 3, channels_out=2 * SHAPE[0])
    return improved_ddpm(network, betas, SHAPE, 17, *_use(betas), hybrid=False, loss_aware=True)


def _use(betas: Tensor) -> tuple[Sampling, Chain]:
    schedule = Tabulated(betas)
    return (
        Sampling(DDIM(), grids.strided(min(5, len(betas)), len(betas))),
        Chain(grids.uniform_log_snr(10, schedule, 0.02), Lower(), 17, 3),
    )


def fresh(
    seed: int = 0,
    channels: int = 16,
    stds: tuple[float, ...] = (),
    make: Callable[[int, int], GaussianDiffusion] = model,
) -> TrainState:
    """A state before its first step."""
    method = make(seed, channels)
    powers = tuple(PowerEMA(method, std) for std in stds)
    return TrainState(method, EMA(method, 0.9), adamw(method, 0.01, (0.9, 0.99)), powers=powers)


def plan(steps: int, batch: int = BATCH, peak: float = 2e-3, **changes: int) -> Plan:
    """Of so many steps; what happens beside them happens at the end, unless it is said."""
    images = steps * batch
    every = {"log_every": images, "validate_every": images, "checkpoint_every": images} | changes
    return Plan(
        images, batch, seed=11, learning_rate=LearningRate(peak, 4 * batch, Cosine(images)), gradient_clip=1.0, **every
    )


def batch_of(ordinals: Tensor) -> Batch:
    """Stripes whose class is their direction, each shifted by its ordinal."""
    rows, columns = torch.meshgrid(torch.arange(4.0), torch.arange(4.0), indexing="ij")
    waves = torch.stack([rows, columns, rows + columns])[ordinals % 3]
    images = torch.sin(waves * 1.6 + ordinals[:, None, None] * 0.7)[:, None]
    return Batch(images, ordinals % 3, ordinals, tuple(str(int(i)) for i in ordinals))


def stream(
    start: int = 0, batch: int = BATCH, rank: int = 0, world: int = 1, damaged: Callable[[int], bool] = lambda i: False
) -> Iterator[Batch]:
    """One worker's share of the global batches from ``start`` on. damaged: ordinals whose images are not finite."""
    while True:
        ordinals = torch.arange(start + rank, start + batch, world)
        found = batch_of(ordinals)
        bad = torch.tensor([damaged(int(i)) for i in ordinals])
        found.images[bad] = torch.nan
        yield found
        start += batch


class CutOffError(Exception):
    """Stands for the end of a process in the middle of its work."""


@dataclass
class Diary:
    """Writes down what the loop tells it; saves checkpoints to ``folder`` and snapshots to ``shots``; ends the run after
    ``until`` images.
    """

    folder: Path | None = None
    until: int | None = None
    shots: Path | None = None
    logged: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    skips: list[tuple[int, list[int]]] = field(default_factory=list)
    validated: list[int] = field(default_factory=list)
    saved: list[int] = field(default_factory=list)
    kept: list[int] = field(default_factory=list)

    def log(self, images: int, metrics: dict[str, float]) -> None:
        self.logged.append((images, metrics))

    def skipped(self, images: int, ordinals: list[int]) -> None:
        self.skips.append((images, ordinals))

    def validate(self, state: TrainState) -> None:
        self.validated.append(state.images)

    def snapshot(self, state: TrainState) -> None:
        self.kept.append(state.images)
        if self.shots is not None:
            snapshots.save(self.shots, state)

    def checkpoint(self, state: TrainState) -> None:
        self.saved.append(state.images)
        if self.folder is not None:
            checkpoints.save(self.folder / f"{state.images:012d}", state, {"plain": "json"})
        if self.until is not None and state.images >= self.until:
            raise CutOffError


def differing(a: TrainState, b: TrainState) -> list[str]:
    """The names of the numbers in which two states differ, in any bit."""
    ours, theirs = a.tensors(), b.tensors()
    return sorted(
        name
        for name in ours.keys() | theirs.keys()
        if name not in ours or name not in theirs or not torch.equal(ours[name], theirs[name])
    )
