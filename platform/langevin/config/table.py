"""Names in recipes and what they build: plain tables, found by one grep."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from langevin.config.recipe import Bound, Model, Network, Recipe, Sample, Schedule
from langevin.diffusion import grids, parameterizations, weightings
from langevin.diffusion.denoiser import Denoiser
from langevin.diffusion.objectives import Denoising
from langevin.diffusion.samplers import DDIM, Ancestral, Sampler
from langevin.diffusion.schedules import Tabulated, cosine_betas, linear_betas, scaled_linear_betas
from langevin.diffusion.times import Discrete, Stratified
from langevin.diffusion.variance import Lower
from langevin.errors import ConfigError
from langevin.methods.ddpm import DDPM, Bounding, Sampling
from langevin.networks.unet import UNet


@dataclass(frozen=True)
class Task:
    """What the data ask of a model: image_shape (C, H, W), classes (0: none), grey levels."""

    image_shape: tuple[int, int, int]
    classes: int
    levels: int


BETAS: dict[str, Callable[[int], Tensor]] = {
    "linear": linear_betas,
    "cosine": cosine_betas,
    "scaled_linear": scaled_linear_betas,
}
PREDICTIONS: dict[str, Callable[[], parameterizations.Parameterization]] = {
    "noise": parameterizations.Noise,
    "data": parameterizations.Data,
    "velocity": parameterizations.Velocity,
}
WEIGHTINGS: dict[str, Callable[[], weightings.Weighting]] = {
    "simple": weightings.Simple,
    "velocity": weightings.VelocityError,
    "min_snr": weightings.MinSNR,
}
SAMPLERS: dict[str, Callable[[Sample], Sampler]] = {
    "ddim": lambda sample: DDIM(sample.eta),
    "ancestral": lambda sample: Ancestral(),
}


def ddpm(model: Model, sample: Sample, bound: Bound, task: Task) -> DDPM:
    part = model.network
    network = UNet(task.image_shape, part.channels, part.multipliers, part.blocks, part.attention, task.classes)
    steps = model.schedule.steps
    denoiser = Denoiser(network, schedule(model.schedule), PREDICTIONS[model.prediction]())
    objective = Denoising(Discrete(steps, Stratified()), WEIGHTINGS[model.weighting]())
    sampling = Sampling(SAMPLERS[sample.sampler](sample), grids.strided(sample.steps, steps), sample.guidance)
    chain = grids.uniform_log_snr(bound.steps, denoiser.schedule, bound.last)
    bounding = Bounding(chain, Lower(), task.levels, bound.calls)
    return DDPM(denoiser, objective, task.image_shape, model.condition_dropout, sampling, bounding)


METHODS: dict[str, Callable[[Model, Sample, Bound, Task], nn.Module]] = {"ddpm": ddpm}


def schedule(section: Schedule) -> Tabulated:
    return Tabulated(BETAS[section.name](section.steps))


def check_shape(network: Network, task: Task) -> None:
    """ConfigError where images of this shape do not pass through the network."""
    _, height, width = task.image_shape
    halvings = len(network.multipliers) - 1
    if height % 2**halvings or width % 2**halvings:
        raise ConfigError(
            f"halves images of {height} x {width} pixels {halvings} times", field="model.network.multipliers",
            value=network.multipliers, mend="give fewer",
        )  # fmt: skip
    sides = [height >> level for level in range(halvings + 1)]
    for side in network.attention:
        if side not in sides:
            raise ConfigError(
                "is no resolution of the network", field="model.network.attention", value=side,
                mend=f"choose from {', '.join(map(str, sides))}",
            )  # fmt: skip


def check(recipe: Recipe, path: Path) -> None:
    """What only the parts themselves can tell of a recipe that is well-formed. ConfigError."""
    chain = recipe.model.schedule
    try:
        schedule(chain)
    except ValueError as error:
        raise ConfigError(
            str(error), file=path, field="model.schedule.steps", value=chain.steps,
            mend="raise it, or take the cosine schedule",
        ) from None  # fmt: skip
    if recipe.sample.steps > chain.steps:
        raise ConfigError(
            f"more steps than the schedule's chain of {chain.steps} has", file=path, field="sample.steps",
            value=recipe.sample.steps, mend="lower it, or raise model.schedule.steps",
        )  # fmt: skip
    if recipe.train.workers > recipe.train.batch:
        raise ConfigError(
            f"fewer images than the {recipe.train.workers} workers", file=path, field="train.batch",
            value=recipe.train.batch, mend="give every worker at least one",
        )  # fmt: skip
