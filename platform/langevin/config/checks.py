"""What only the parts themselves can tell of a recipe that is well-formed: combinations that cannot work, found when it is
read and not after the first hour. Each is a ConfigError in one line: the file, the field, the value, the mend."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from langevin.config import model as sections
from langevin.config.parts import PREDICTIONS, Task, grid, grid_name, has_signal, is_clean, schedule
from langevin.config.recipe import Recipe
from langevin.config.sampling import Bound, Sample
from langevin.diffusion.parameterizations import needs_signal
from langevin.diffusion.schedules import GeometricVE, LinearVE, Schedule, Tabulated
from langevin.errors import ConfigError
from langevin.methods.ncsn import improved_techniques
from langevin.networks.perceptual import LEAST_SIDE

OF_SCORES = ("sscs", "euler_maruyama", "probability_flow")  # all that a method without a denoiser can be sampled by
OF_OTHERS = ("autoregressive", "stages", "own")  # ways of models that are no denoisers
ALONG_SDES = ("euler_maruyama",)  # whose drift is infinite where no signal is left
SHORT_OF_DATA = (
    "euler_maruyama",
    "probability_flow",
)  # what they follow has no value at the data, or leaves noise in them
ENDING_AT_LAST = ("uniform", "quadratic", "uniform_log_snr")
NETWORKS = ("network", "classifier", "image")
ENDS = (("sigma_min", "sigma_max"), ("gamma_min", "gamma_max"), ("beta_min", "beta_max"))
LENGTHS = ("steps", "sigma_max", "beta_max", "gamma_max", "beta")  # what decides how much noise there is at t = 1
FAINTEST = 1e-3  # alpha / sigma up to which a network's error of a hundredth is ten times the image
NOISE_ALONE = 2.0  # sigma / alpha from which on an image that starts as pure noise is not too far from x_t


def check(recipe: Recipe, path: Path | None) -> None:
    """ConfigError where the recipe's parts do not fit together."""
    if recipe.train.workers > recipe.train.batch:
        _refuse(path, "train.batch", recipe.train.batch, f"fewer images than the {recipe.train.workers} workers",
                "give every worker at least one")  # fmt: skip
    share = recipe.train.batch // max(recipe.train.workers, 1)
    if recipe.train.accumulate > share:
        _refuse(path, "train.accumulate", recipe.train.accumulate, f"more parts than a worker's share has images, {share}",
                "lower it")  # fmt: skip
    _check_around(recipe, path)
    if not isinstance(recipe.model, sections.Gaussian):
        check_sampling(recipe.model, recipe.sample, recipe.bound, path)
        return
    try:
        along = schedule(recipe.model)
    except ValueError as error:
        _refuse(path, "model.schedule.steps", recipe.model.schedule.steps, str(error),  # type: ignore[union-attr]
                "raise it, or take the cosine schedule")  # fmt: skip
    _check_model(recipe.model, along, path)
    check_sampling(recipe.model, recipe.sample, recipe.bound, path, latent=recipe.latents is not None)


def _check_around(recipe: Recipe, path: Path | None) -> None:
    """What the model is wrapped in: a codec, a smaller image."""
    model, told = recipe.model, recipe.upsampling
    for section in ("latents", "upsampling"):
        if getattr(recipe, section) and not isinstance(model, sections.Gaussian):
            _refuse(path, section, None, f"is for denoising methods, and {model.method} is none", "remove it")
    if told and recipe.latents:
        _refuse(path, "upsampling", None, "enlarges images, and the model is one of latents", "remove one of the two")
    if told and isinstance(model, sections.CLD | sections.VDM | sections.EDM2 | sections.Guided | sections.CLIPGuided):
        _refuse(
            path, "model.method", model.method, "has a network that cannot be told a smaller image", "take ddpm or edm"
        )
    if told and isinstance(model.network, sections.DiT):  # type: ignore[union-attr]
        _refuse(path, "model.network.kind", "dit", "cannot be told a smaller image", "take unet")
    if told and told.augmentation != "noise" and told.level:
        _refuse(path, "upsampling.level", told.level, f"means nothing to augmentation {told.augmentation}", "remove it")
    if told and told.level > told.largest:
        _refuse(
            path,
            "upsampling.level",
            told.level,
            f"is above the largest = {told.largest} that training sees",
            "lower it",
        )
    if recipe.latents and isinstance(
        model, sections.Guided | sections.CLIPGuided | sections.CLD | sections.ImprovedDDPM
    ):
        _refuse(path, "model.method", model.method, "is for images, not for latents", "take ddpm, edm or rectified")


def _check_model(model: sections.Gaussian, along: Schedule | None, path: Path | None) -> None:
    prediction = getattr(model, "prediction", None)
    if along is not None and prediction and not has_signal(along) and needs_signal(PREDICTIONS[prediction]):
        _refuse(path, "model.prediction", prediction,
                f"{model.method} has no signal left at t = 1, where this prediction says nothing of the data",
                "take flow, velocity or data")  # fmt: skip
    if getattr(model, "times", None) == "loss_aware" and not isinstance(along, Tabulated):
        _refuse(path, "model.times", "loss_aware", "keeps a history for every step of a chain, and time is continuous here",
                "take uniform_log_snr or stratified, or the method improved_ddpm")  # fmt: skip
    _check_parts(model, path)
    places = ((model, "model"), (getattr(model, "schedule", None), "model.schedule"))
    for section, prefix in places:
        for low, high in ENDS:
            if hasattr(section, low) and getattr(section, low) >= getattr(section, high):
                _refuse(path, f"{prefix}.{low}", getattr(section, low), f"is not below {high} = {getattr(section, high)}",
                        "lower it")  # fmt: skip
    if (
        isinstance(model, sections.Guided)
        and model.condition_dropout != sections.Guided(method="guided").condition_dropout
    ):
        _refuse(path, "model.condition_dropout", model.condition_dropout, "guided has a denoiser that sees no class at all",
                "remove it")  # fmt: skip
    if (
        not _is_ladder(model) and _most_noise(model, along) < NOISE_ALONE
    ):  # Langevin dynamics need no start of their own
        for section, prefix in places:
            for name in LENGTHS:
                if hasattr(section, name):
                    _refuse(path, f"{prefix}.{name}", getattr(section, name),
                            "leaves the image visible at t = 1, and samples start from noise alone", "raise it")  # fmt: skip


def _check_parts(model: sections.Model, path: Path | None) -> None:
    """Networks that a method cannot have."""
    network = getattr(model, "network", None)
    if isinstance(network, sections.DiT):
        if isinstance(model, sections.EDM2):
            _refuse(
                path, "model.network.kind", network.kind, "edm2 has the magnitude-preserving unet only", "take unet"
            )
        if network.width % network.heads or network.width % 4:
            _refuse(path, "model.network.width", network.width, f"is no multiple of 4 and of the {network.heads} heads",
                    "give one")  # fmt: skip
    text = getattr(model, "text", None)
    if isinstance(text, sections.Text) and text.width % text.heads:
        _refuse(path, "model.text.width", text.width, f"is no multiple of its {text.heads} heads", "give one")
    if text and isinstance(model, sections.EDM2 | sections.Guided):
        _refuse(path, "model.condition", "caption", f"{model.method} knows classes only", "take ddpm, edm or vdm")


def _most_noise(model: sections.Gaussian, along: Schedule | None) -> float:
    """sigma / alpha at t = 1."""
    if isinstance(model, sections.VDM):
        return math.exp(model.gamma_max / 2)
    if isinstance(model, sections.CLD):
        angle = model.beta / math.sqrt(model.mass)
        return math.exp(angle) / (1 + angle)
    assert along is not None
    end = along(torch.ones((), dtype=torch.float64))
    return float(end.sigma / end.alpha)


def check_sampling(
    model: sections.Model, sample: Sample, bound: Bound, path: Path | None, latent: bool = False
) -> None:
    """ConfigError where a model of this method cannot be sampled or bounded so. latent: it is a model of latents."""
    if not isinstance(model, sections.Gaussian):
        _check_own(model, sample, bound, path)
        return
    if sample.sampler in OF_OTHERS:
        _refuse(path, "sample.sampler", sample.sampler, f"is not for {model.method}, which denoises", "take ddim")
    if bound.kind in ("orders", "latent"):
        _refuse(path, "bound.kind", bound.kind, f"is not for {model.method}, which denoises", "take chain")
    if latent and sample.threshold != "none":
        _refuse(
            path,
            "sample.threshold",
            sample.threshold,
            "keeps images in their range, and latents have none",
            "give none",
        )
    if latent and bound.kind == "chain":
        _refuse(path, "bound.kind", "chain", "ends at grey levels, and latents have none", "take continuous or flow")
    along = schedule(model)
    _check_sampler(model, sample, along, path)
    _check_negative(model, sample, path)
    _check_guidance(model, sample, path)
    times = _check_grid(model, sample, along, path)
    _check_ends(model, sample, times, along, path)
    _check_bound(model, bound, along, path)


def _check_own(model: sections.Model, sample: Sample, bound: Bound, path: Path | None) -> None:
    """Models that are no denoisers have their own way to sample and their own bound."""
    autoregressive = isinstance(model, sections.ARDM)
    sampler = "autoregressive" if autoregressive else "stages" if isinstance(model, sections.Cascade) else "own"
    if sample.sampler != sampler:
        _refuse(path, "sample.sampler", sample.sampler, f"is for denoising methods, and {model.method} is none",
                f"take {sampler}")  # fmt: skip
    if isinstance(model, sections.Cascade) and sample.levels and len(sample.levels) != len(model.stages):
        _refuse(path, "sample.levels", list(sample.levels), f"are not one for each of the {len(model.stages)} stages",
                "give as many")  # fmt: skip
    kind = "orders" if autoregressive else "latent"
    if bound.kind != kind and not isinstance(model, sections.Cascade):
        _refuse(path, "bound.kind", bound.kind, f"is for denoising methods, and {model.method} is none", f"take {kind}")


def _check_sampler(model: sections.Gaussian, sample: Sample, along: Schedule | None, path: Path | None) -> None:
    name = sample.sampler
    if isinstance(model, sections.CLD):
        if name not in OF_SCORES:
            _refuse(path, "sample.sampler", name, "needs a denoiser, and cld learns the score of a velocity",
                    f"take {', '.join(OF_SCORES)}")  # fmt: skip
        if sample.guidance_interval or sample.threshold == "dynamic":
            field = "guidance_interval" if sample.guidance_interval else "threshold"
            _refuse(
                path, f"sample.{field}", getattr(sample, field), "works on a denoiser, which cld has not", "remove it"
            )
    elif name == "sscs":
        _refuse(path, "sample.sampler", name, "splits the dynamics of position and velocity, which only cld has",
                "take euler_maruyama")  # fmt: skip
    if sample.variance == "learned" and not isinstance(model, sections.ImprovedDDPM):
        _refuse(path, "sample.variance", "learned", f"{model.method} learns no variance",
                "take lower or upper, or the method improved_ddpm")  # fmt: skip
    if along is not None and name in ALONG_SDES and not has_signal(along):
        _refuse(path, "sample.sampler", name, f"the SDE of {model.method} is infinite at t = 1, where no signal is left",
                "take ddim, heun, dpm_solver or probability_flow")  # fmt: skip
    if name == "annealed_langevin" and not _is_ladder(model):
        _refuse(path, "sample.sampler", name, "walks down a ladder of noise levels, which only ncsn and ncsnv2 have",
                "take predictor_corrector")  # fmt: skip
    if name == "heun" and sample.churn_min >= sample.churn_max:
        _refuse(path, "sample.churn_min", sample.churn_min, f"is not below churn_max = {sample.churn_max}", "lower it")


def _check_guidance(model: sections.Gaussian, sample: Sample, path: Path | None) -> None:
    interval, scale = sample.guidance_interval, sample.guidance
    if interval and interval[0] >= interval[1]:
        _refuse(path, "sample.guidance_interval", list(interval), "is empty", "give [low, high]")
    if isinstance(model, sections.Guided | sections.CLIPGuided):
        if interval:
            _refuse(
                path, "sample.guidance_interval", list(interval), "is for guidance without a classifier", "remove it"
            )
        return
    if interval and scale == 1:
        _refuse(path, "sample.guidance_interval", list(interval), "chooses where sample.guidance acts, which is off at 1.0",
                "remove it, or change sample.guidance")  # fmt: skip
    without, told = scale != 1 and not sample.negative, scale != 0 or sample.negative
    if (without and model.condition_dropout == 0) or (told and model.condition_dropout == 1):
        needed, dropout = ("without", "below") if model.condition_dropout == 0 else ("with", "above")
        mend = "give the share of images that are shown without it" if dropout == "below" else "lower it"
        _refuse(path, "model.condition_dropout", model.condition_dropout,
                f"the model never learns to do {needed} a class, and sample.guidance = {scale} asks for it", mend)  # fmt: skip


def _check_negative(model: sections.Gaussian, sample: Sample, path: Path | None) -> None:
    """The text that guidance leads away from."""
    field, text, reads = "sample.negative", sample.negative, getattr(model, "text", None)
    if not text:
        return
    if reads is None:
        _refuse(path, field, text, f"leads away from a text, and this {model.method} is told classes",
                "remove it, or give model.condition = caption")  # fmt: skip
    if isinstance(model, sections.CLIPGuided):
        _refuse(path, field, text, "is for guidance without a CLIP", "remove it")
    if sample.guidance == 1:
        _refuse(path, field, text, "is what guidance leads away from, and sample.guidance is off at 1.0",
                "remove it, or raise sample.guidance")  # fmt: skip
    if "\0" in text:
        _refuse(path, field, text, "holds a zero byte", "remove it")
    size = len(text.encode())
    if isinstance(reads, sections.Text) and size > reads.length:
        _refuse(path, field, text, f"has {size} bytes, of which model.text reads {reads.length}", "shorten it")


def _check_grid(model: sections.Gaussian, sample: Sample, along: Schedule | None, path: Path | None) -> Tensor:
    """The grid's times."""
    name, langevin = grid_name(sample, along), sample.sampler == "annealed_langevin"
    if langevin and name != "ladder":
        _refuse(path, "sample.grid", name, "is not where annealed_langevin goes, down its ladder", "take ladder")
    if name == "ladder" and not langevin:
        _refuse(path, "sample.grid", name, "is the grid of annealed_langevin and of no other sampler", "remove it")
    if langevin and isinstance(model, sections.NCSN | sections.NCSNv2) and model.levels:
        _check_rungs(sample.steps, model.levels, path)
    if sample.last > 0 and name not in ENDING_AT_LAST:
        _refuse(
            path, "sample.last", sample.last, f"means nothing to the grid {name}", f"take {' or '.join(ENDING_AT_LAST)}"
        )
    if name == "uniform_log_snr" and along is not None and sample.last == 0 and is_clean(along):
        _refuse(path, "sample.last", 0.0, f"the log-SNR of {model.method} is infinite at the data", "give 1e-3, say")
    try:
        times = grid(sample, along)
    except ValueError as error:
        beyond = isinstance(along, Tabulated) and sample.steps > along.steps
        field, value, mend = ("sample.steps", sample.steps, "lower it, or raise model.schedule.steps") if beyond else (
            "sample.grid", sample.grid, "take uniform")  # fmt: skip
        _refuse(path, field, value, str(error), mend)
    if not langevin and not bool((times.diff() < 0).all()):
        assert along is not None
        ends = along(torch.tensor([0.0, 1.0], dtype=torch.float64))
        low, high = (ends.sigma / ends.alpha).tolist()
        field = "sigma_max" if sample.sigma_max > high * (1 + 1e-9) else "sigma_min"
        _refuse(path, f"sample.{field}", getattr(sample, field), f"the noise of {model.method} goes from {low:g} to {high:g}",
                f"give {high if field == 'sigma_max' else low:g}")  # fmt: skip
    return times


def _check_ends(
    model: sections.Gaussian, sample: Sample, times: Tensor, along: Schedule | None, path: Path | None
) -> None:
    name = sample.sampler
    if isinstance(model, sections.CLD) and float(times[-1]) == 0:
        _refuse(path, "sample.last", 0.0, "the score of the velocity is infinite at the data", "give 1e-3, say")
    if along is None or name == "annealed_langevin":
        return
    first, last = along(times[0]), along(times[-1])
    if name in SHORT_OF_DATA and float(last.sigma) == 0:
        problem = f"{name} must end short of the data, where there is no score"
        if grid_name(sample, along) not in ("uniform", "quadratic"):
            _refuse(
                path, "sample.grid", grid_name(sample, along), problem, "take uniform, and give sample.last, 1e-3 say"
            )
        _refuse(path, "sample.last", sample.last, problem, "give 1e-3, say")
    if float(first.sigma) < NOISE_ALONE * float(first.alpha) and not (_is_ladder(model) and float(times[0]) == 1):
        _refuse(path, "sample.grid", sample.grid, f"starts at t = {float(times[0]):g}, where the image is still visible, "
                "and samples start from noise alone", "raise sample.steps, or take another grid")  # fmt: skip
    prediction = getattr(model, "prediction", "data")
    faint = float(first.alpha) < FAINTEST * float(first.sigma)
    if sample.threshold == "none" and faint and needs_signal(PREDICTIONS[prediction]):
        _refuse(path, "sample.threshold", "none", f"of the image {float(first.alpha):.1g} is left at first, and prediction = "
                f"{prediction} divides its error by that", "take static, or the prediction velocity")  # fmt: skip
    if float(last.sigma) > float(last.alpha):
        _refuse(path, "sample.last", sample.last, "the noise still outweighs the image where the grid ends", "lower it")
    if (
        isinstance(along, LinearVE)
        and grid_name(sample, along) in ("uniform", "quadratic")
        and name != "probability_flow"
    ):
        _refuse(path, "sample.grid", grid_name(sample, along), f"has nearly all its steps where {model.method} sees noise "
                "alone", "take karras")  # fmt: skip


def _check_bound(model: sections.Gaussian, bound: Bound, along: Schedule | None, path: Path | None) -> None:
    if isinstance(model, sections.CLD):
        if bound.kind != "flow":
            _refuse(
                path, "bound.kind", bound.kind, "needs a denoiser, and cld learns the score of a velocity", "take flow"
            )
        if bound.calls < 4:
            _refuse(path, "bound.calls", bound.calls, "a step along the flow takes four calls", "raise it")
    elif along is None:
        if bound.kind != "continuous":
            _refuse(path, "bound.kind", bound.kind, f"needs a schedule that is fixed, and {model.method} learns its own",
                    "take continuous")  # fmt: skip
    elif bound.kind == "continuous" and not has_signal(along):
        _refuse(path, "bound.kind", "continuous", f"{model.method} has no signal left at t = 1, which is infinitely far away",
                "take chain")  # fmt: skip
    elif bound.kind != "flow":
        last = along(torch.tensor(bound.last, dtype=torch.float64))
        if float(last.sigma) > float(last.alpha):
            quiet = float(along.time(torch.tensor(-2 * math.log(0.04), dtype=torch.float64)))
            _refuse(path, "bound.last", bound.last, "the noise still outweighs the image where the bound reconstructs it",
                    f"give {quiet:.2g}")  # fmt: skip
    if bound.kind == "flow" and bound.calls != Bound().calls and not isinstance(model, sections.CLD):
        _refuse(
            path, "bound.calls", bound.calls, "means nothing to flow, whose solver goes by bound.tolerance", "remove it"
        )


def check_task(model: sections.Model, sample: Sample, task: Task) -> None:
    """ConfigError where images of this shape do not pass through the networks, or classes are needed and there are none."""
    for name in NETWORKS:
        section = getattr(model, name, None)
        if isinstance(section, sections.Codec):
            if any(side % section.patch for side in task.image_shape[1:]):
                _refuse(None, f"model.{name}.patch", section.patch, "does not divide images of "
                        f"{task.image_shape[1]} x {task.image_shape[2]} pixels", "give a divisor")  # fmt: skip
            _check_halvings(section.multipliers, f"model.{name}", task, section.patch)
            looks, (colours, *sides) = getattr(model, "perceptual", None), task.image_shape
            if looks and (min(sides) < LEAST_SIDE or colours not in (1, 3)):
                _refuse(None, "model.perceptual", looks, f"looks at grey or colour images of {LEAST_SIDE} pixels a side or more",
                        "remove it")  # fmt: skip
        elif section:
            _check_network(section, f"model.{name}", task)
    if isinstance(model, sections.Guided) and task.classes < 2:
        _refuse(None, "model.method", "guided", f"trains a classifier, and the data have {task.classes} classes",
                "take improved_ddpm")  # fmt: skip
    if task.classes == 0 and sample.guidance not in (0, 1) and not getattr(model, "text", None):
        _refuse(None, "sample.guidance", sample.guidance, "leads to a class, and the data have no classes", "remove it")
    if getattr(model, "text", None) and not task.captions:
        _refuse(None, "model.condition", "caption", "is what images are to be drawn for, and the data have none",
                "take class")  # fmt: skip
    if isinstance(model, sections.NCSNv2) and sample.sampler == "annealed_langevin":
        along = GeometricVE(model.sigma_min, model.sigma_max)
        levels, _ = improved_techniques(along, math.prod(task.image_shape), sample.corrector_steps, model.levels)
        _check_rungs(sample.steps, levels, None)


def _check_rungs(steps: int, levels: int, path: Path | None) -> None:
    if steps != levels:
        _refuse(path, "sample.steps", steps, f"annealed Langevin dynamics visit each of the {levels} levels of the ladder",
                f"give {levels}")  # fmt: skip


def _check_network(network: sections.UNet | sections.DiT, field: str, task: Task) -> None:
    _, height, width = task.image_shape
    if isinstance(network, sections.DiT):
        if height % network.patch or width % network.patch:
            _refuse(None, f"{field}.patch", network.patch, f"does not divide images of {height} x {width} pixels",
                    "give a divisor")  # fmt: skip
        return
    _check_halvings(network.multipliers, field, task)
    sides = [height >> level for level in range(len(network.multipliers))]
    for side in network.attention:
        if side not in sides:
            _refuse(None, f"{field}.attention", side, "is no resolution of the network",
                    f"choose from {', '.join(map(str, sides))}")  # fmt: skip


def _check_halvings(multipliers: tuple[int, ...], field: str, task: Task, patch: int = 1) -> None:
    height, width = (side // patch for side in task.image_shape[1:])
    halvings = len(multipliers) - 1
    if height % 2**halvings or width % 2**halvings:
        _refuse(None, f"{field}.multipliers", multipliers,
                f"halves images of {height} x {width} pixels {halvings} times", "give fewer")  # fmt: skip


def _is_ladder(model: sections.Model) -> bool:
    return isinstance(model, sections.NCSN | sections.NCSNv2)


def _refuse(path: Path | None, field: str, value: Any, problem: str, mend: str) -> NoReturn:
    raise ConfigError(problem, file=path, field=field, value=value, mend=mend)
