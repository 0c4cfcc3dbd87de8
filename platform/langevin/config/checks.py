"""What only the parts themselves can tell of a recipe that is well-formed: combinations that cannot work, found when it is
read and not after the first hour. Each is a ConfigError in one line: the file, the field, the value, the mend."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from langevin.config import model as sections
from langevin.config.parts import PREDICTIONS, Task, grid, schedule
from langevin.config.recipe import Recipe
from langevin.config.sampling import Bound, Sample
from langevin.diffusion.parameterizations import needs_signal
from langevin.diffusion.schedules import Schedule, Tabulated
from langevin.errors import ConfigError

OF_SCORES = ("sscs", "euler_maruyama", "probability_flow")  # all that a method without a denoiser can be sampled by
ALONG_SDES = ("euler_maruyama",)  # whose drift is infinite where no signal is left
NETWORKS = ("network", "classifier")


def check(recipe: Recipe, path: Path | None) -> None:
    """ConfigError where the recipe's parts do not fit together."""
    try:
        along = schedule(recipe.model)
    except ValueError as error:
        _refuse(path, "model.schedule.steps", recipe.model.schedule.steps, str(error),  # type: ignore[union-attr]
                "raise it, or take the cosine schedule")  # fmt: skip
    _check_model(recipe.model, along, path)
    check_sampling(recipe.model, recipe.sample, recipe.bound, path)
    if recipe.train.workers > recipe.train.batch:
        _refuse(path, "train.batch", recipe.train.batch, f"fewer images than the {recipe.train.workers} workers",
                "give every worker at least one")  # fmt: skip


def _check_model(model: sections.Model, along: Schedule | None, path: Path | None) -> None:
    prediction = getattr(model, "prediction", None)
    if along is not None and prediction and not _has_signal(along) and needs_signal(PREDICTIONS[prediction]):
        _refuse(path, "model.prediction", prediction,
                f"{model.method} has no signal left at t = 1, where this prediction says nothing of the data",
                "take flow, velocity or data")  # fmt: skip
    if getattr(model, "times", None) == "loss_aware" and not isinstance(along, Tabulated):
        _refuse(path, "model.times", "loss_aware", "keeps a history for every step of a chain, and time is continuous here",
                "take uniform_log_snr or stratified, or the method improved_ddpm")  # fmt: skip
    for low, high in (("sigma_min", "sigma_max"), ("gamma_min", "gamma_max"), ("beta_min", "beta_max")):
        for section, prefix in ((model, "model"), (getattr(model, "schedule", None), "model.schedule")):
            if hasattr(section, low) and getattr(section, low) >= getattr(section, high):
                _refuse(path, f"{prefix}.{low}", getattr(section, low), f"is not below {high} = {getattr(section, high)}",
                        "lower it")  # fmt: skip


def check_sampling(model: sections.Model, sample: Sample, bound: Bound, path: Path | None) -> None:
    """ConfigError where a model of this method cannot be sampled or bounded so."""
    along, name = schedule(model), sample.sampler
    if isinstance(model, sections.CLD):
        if name not in OF_SCORES:
            _refuse(path, "sample.sampler", name, "needs a denoiser, and cld learns the score of a velocity",
                    f"take {', '.join(OF_SCORES)}")  # fmt: skip
        if sample.last == 0 and sample.grid in (None, "uniform", "quadratic"):
            _refuse(path, "sample.last", 0.0, "the score of the velocity is infinite at the data", "give 1e-3, say")
        if sample.guidance_interval or sample.threshold == "dynamic":
            field = "guidance_interval" if sample.guidance_interval else "threshold"
            _refuse(path, f"sample.{field}", getattr(sample, field), "works on a denoiser, which cld has not", "remove it")
        if bound.kind != "flow":
            _refuse(path, "bound.kind", bound.kind, "needs a denoiser, and cld learns the score of a velocity", "take flow")
    elif name == "sscs":
        _refuse(path, "sample.sampler", name, "splits the dynamics of position and velocity, which only cld has",
                "take euler_maruyama")  # fmt: skip
    if sample.variance == "learned" and not isinstance(model, sections.ImprovedDDPM):
        _refuse(path, "sample.variance", "learned", f"{model.method} learns no variance",
                "take lower or upper, or the method improved_ddpm")  # fmt: skip
    if along is not None and name in ALONG_SDES and not _has_signal(along):
        _refuse(path, "sample.sampler", name, f"the SDE of {model.method} is infinite at t = 1, where no signal is left",
                "take ddim, heun, dpm_solver or probability_flow")  # fmt: skip
    if name == "annealed_langevin" and (along is None or not _is_ladder(model)):
        _refuse(path, "sample.sampler", name, "walks down a ladder of noise levels, which only ncsn and ncsnv2 have",
                "take predictor_corrector")  # fmt: skip
    if sample.guidance_interval and sample.guidance_interval[0] >= sample.guidance_interval[1]:
        _refuse(path, "sample.guidance_interval", list(sample.guidance_interval), "is empty", "give [low, high]")
    try:
        grid(sample, along)
    except ValueError as error:
        beyond = isinstance(along, Tabulated) and sample.steps > along.steps
        field, value, mend = ("sample.steps", sample.steps, "lower it, or raise model.schedule.steps") if beyond else (
            "sample.grid", sample.grid, "take uniform")  # fmt: skip
        _refuse(path, field, value, str(error), mend)


def check_shape(model: sections.Model, task: Task) -> None:
    """ConfigError where images of this shape do not pass through the networks, or a method needs classes."""
    for name in NETWORKS:
        if section := getattr(model, name, None):
            _check_network(section, f"model.{name}", task)
    if isinstance(model, sections.Guided) and task.classes < 2:
        _refuse(None, "model.method", "guided", "trains a classifier, and the data have no classes", "take improved_ddpm")


def _check_network(network: sections.Network, field: str, task: Task) -> None:
    _, height, width = task.image_shape
    halvings = len(network.multipliers) - 1
    if height % 2**halvings or width % 2**halvings:
        _refuse(None, f"{field}.multipliers", network.multipliers,
                f"halves images of {height} x {width} pixels {halvings} times", "give fewer")  # fmt: skip
    sides = [height >> level for level in range(halvings + 1)]
    for side in network.attention:
        if side not in sides:
            _refuse(None, f"{field}.attention", side, "is no resolution of the network",
                    f"choose from {', '.join(map(str, sides))}")  # fmt: skip


def _has_signal(along: Schedule) -> bool:
    return float(along(torch.ones((), dtype=torch.float64)).alpha) > 0


def _is_ladder(model: sections.Model) -> bool:
    return isinstance(model, sections.NCSN | sections.NCSNv2)


def _refuse(path: Path | None, field: str, value: Any, problem: str, mend: str) -> None:
    raise ConfigError(problem, file=path, field=field, value=value, mend=mend)
