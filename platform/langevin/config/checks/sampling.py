"""Samplers, guidance, grids and bounds that a model cannot have."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor

from langevin.config import model as sections
from langevin.config.checks.refusal import check_rungs, is_ladder, refuse
from langevin.config.parts import PREDICTIONS, grid, grid_name, has_signal, is_clean, schedule
from langevin.config.sampling import Bound, Sample
from langevin.diffusion.parameterizations import needs_signal
from langevin.diffusion.schedules import LinearVE, Schedule, Tabulated

OF_SCORES = ("sscs", "euler_maruyama", "probability_flow")  # all that a method without a denoiser can be sampled by
OF_OTHERS = ("autoregressive", "stages", "own")  # ways of models that are no denoisers
ALONG_SDES = ("euler_maruyama",)  # whose drift is infinite where no signal is left
SHORT_OF_DATA = (
    "euler_maruyama",
    "probability_flow",
)  # what they follow has no value at the data, or leaves noise in them
ENDING_AT_LAST = ("uniform", "quadratic", "uniform_log_snr")
FAINTEST = 1e-3  # alpha / sigma up to which a network's error of a hundredth is ten times the image
NOISE_ALONE = 2.0  # sigma / alpha from which on an image that starts as pure noise is not too far from x_t


def check_sampling(
    model: sections.Model, sample: Sample, bound: Bound, path: Path | None, latent: bool = False
) -> None:
    """ConfigError where a model of this method cannot be sampled or bounded so. latent: it is a model of latents."""
    if not isinstance(model, sections.Gaussian):
        _check_own(model, sample, bound, path)
        return
    if sample.sampler in OF_OTHERS:
        refuse(path, "sample.sampler", sample.sampler, f"is not for {model.method}, which denoises", "take ddim")
    if bound.kind in ("orders", "latent"):
        refuse(path, "bound.kind", bound.kind, f"is not for {model.method}, which denoises", "take chain")
    if latent and sample.threshold != "none":
        refuse(
            path,
            "sample.threshold",
            sample.threshold,
            "keeps images in their range, and latents have none",
            "give none",
        )
    if latent and bound.kind == "chain":
        refuse(path, "bound.kind", "chain", "ends at grey levels, and latents have none", "take continuous or flow")
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
        refuse(path, "sample.sampler", sample.sampler, f"is for denoising methods, and {model.method} is none",
                f"take {sampler}")  # fmt: skip
    if isinstance(model, sections.Cascade) and sample.levels and len(sample.levels) != len(model.stages):
        refuse(path, "sample.levels", list(sample.levels), f"are not one for each of the {len(model.stages)} stages",
                "give as many")  # fmt: skip
    kind = "orders" if autoregressive else "latent"
    if bound.kind != kind and not isinstance(model, sections.Cascade):
        refuse(path, "bound.kind", bound.kind, f"is for denoising methods, and {model.method} is none", f"take {kind}")


def _check_sampler(model: sections.Gaussian, sample: Sample, along: Schedule | None, path: Path | None) -> None:
    name = sample.sampler
    if isinstance(model, sections.CLD):
        if name not in OF_SCORES:
            refuse(path, "sample.sampler", name, "needs a denoiser, and cld learns the score of a velocity",
                    f"take {', '.join(OF_SCORES)}")  # fmt: skip
        if sample.guidance_interval or sample.threshold == "dynamic":
            field = "guidance_interval" if sample.guidance_interval else "threshold"
            refuse(
                path, f"sample.{field}", getattr(sample, field), "works on a denoiser, which cld has not", "remove it"
            )
    elif name == "sscs":
        refuse(path, "sample.sampler", name, "splits the dynamics of position and velocity, which only cld has",
                "take euler_maruyama")  # fmt: skip
    if sample.variance == "learned" and not isinstance(model, sections.ImprovedDDPM):
        refuse(path, "sample.variance", "learned", f"{model.method} learns no variance",
                "take lower or upper, or the method improved_ddpm")  # fmt: skip
    if along is not None and name in ALONG_SDES and not has_signal(along):
        refuse(path, "sample.sampler", name, f"the SDE of {model.method} is infinite at t = 1, where no signal is left",
                "take ddim, heun, dpm_solver or probability_flow")  # fmt: skip
    if name == "annealed_langevin" and not is_ladder(model):
        refuse(path, "sample.sampler", name, "walks down a ladder of noise levels, which only ncsn and ncsnv2 have",
                "take predictor_corrector")  # fmt: skip
    if name == "heun" and sample.churn_min >= sample.churn_max:
        refuse(path, "sample.churn_min", sample.churn_min, f"is not below churn_max = {sample.churn_max}", "lower it")


def _check_guidance(model: sections.Gaussian, sample: Sample, path: Path | None) -> None:
    interval, scale = sample.guidance_interval, sample.guidance
    if interval and interval[0] >= interval[1]:
        refuse(path, "sample.guidance_interval", list(interval), "is empty", "give [low, high]")
    if isinstance(model, sections.Guided | sections.CLIPGuided):
        if interval:
            refuse(
                path, "sample.guidance_interval", list(interval), "is for guidance without a classifier", "remove it"
            )
        return
    if interval and scale == 1:
        refuse(path, "sample.guidance_interval", list(interval), "chooses where sample.guidance acts, which is off at 1.0",
                "remove it, or change sample.guidance")  # fmt: skip
    without, told = scale != 1 and not sample.negative, scale != 0 or sample.negative
    if (without and model.condition_dropout == 0) or (told and model.condition_dropout == 1):
        needed, dropout = ("without", "below") if model.condition_dropout == 0 else ("with", "above")
        mend = "give the share of images that are shown without it" if dropout == "below" else "lower it"
        refuse(path, "model.condition_dropout", model.condition_dropout,
                f"the model never learns to do {needed} a class, and sample.guidance = {scale} asks for it", mend)  # fmt: skip


def _check_negative(model: sections.Gaussian, sample: Sample, path: Path | None) -> None:
    """The text that guidance leads away from."""
    field, text, reads = "sample.negative", sample.negative, getattr(model, "text", None)
    if not text:
        return
    if reads is None:
        refuse(path, field, text, f"leads away from a text, and this {model.method} is told classes",
                "remove it, or give model.condition = caption")  # fmt: skip
    if isinstance(model, sections.CLIPGuided):
        refuse(path, field, text, "is for guidance without a CLIP", "remove it")
    if sample.guidance == 1:
        refuse(path, field, text, "is what guidance leads away from, and sample.guidance is off at 1.0",
                "remove it, or raise sample.guidance")  # fmt: skip
    if "\0" in text:
        refuse(path, field, text, "holds a zero byte", "remove it")
    size = len(text.encode())
    if isinstance(reads, sections.Text) and size > reads.length:
        refuse(path, field, text, f"has {size} bytes, of which model.text reads {reads.length}", "shorten it")


def _check_grid(model: sections.Gaussian, sample: Sample, along: Schedule | None, path: Path | None) -> Tensor:
    """The grid's times."""
    name, langevin = grid_name(sample, along), sample.sampler == "annealed_langevin"
    if langevin and name != "ladder":
        refuse(path, "sample.grid", name, "is not where annealed_langevin goes, down its ladder", "take ladder")
    if name == "ladder" and not langevin:
        refuse(path, "sample.grid", name, "is the grid of annealed_langevin and of no other sampler", "remove it")
    if langevin and isinstance(model, sections.NCSN | sections.NCSNv2) and model.levels:
        check_rungs(sample.steps, model.levels, path)
    if sample.last > 0 and name not in ENDING_AT_LAST:
        refuse(
            path, "sample.last", sample.last, f"means nothing to the grid {name}", f"take {' or '.join(ENDING_AT_LAST)}"
        )
    if name == "uniform_log_snr" and along is not None and sample.last == 0 and is_clean(along):
        refuse(path, "sample.last", 0.0, f"the log-SNR of {model.method} is infinite at the data", "give 1e-3, say")
    try:
        times = grid(sample, along)
    except ValueError as error:
        beyond = isinstance(along, Tabulated) and sample.steps > along.steps
        field, value, mend = ("sample.steps", sample.steps, "lower it, or raise model.schedule.steps") if beyond else (
            "sample.grid", sample.grid, "take uniform")  # fmt: skip
        refuse(path, field, value, str(error), mend)
    if not langevin and not bool((times.diff() < 0).all()):
        assert along is not None
        ends = along(torch.tensor([0.0, 1.0], dtype=torch.float64))
        low, high = (ends.sigma / ends.alpha).tolist()
        field = "sigma_max" if sample.sigma_max > high * (1 + 1e-9) else "sigma_min"
        refuse(path, f"sample.{field}", getattr(sample, field), f"the noise of {model.method} goes from {low:g} to {high:g}",
                f"give {high if field == 'sigma_max' else low:g}")  # fmt: skip
    return times


def _check_ends(
    model: sections.Gaussian, sample: Sample, times: Tensor, along: Schedule | None, path: Path | None
) -> None:
    name = sample.sampler
    if isinstance(model, sections.CLD) and float(times[-1]) == 0:
        refuse(path, "sample.last", 0.0, "the score of the velocity is infinite at the data", "give 1e-3, say")
    if along is None or name == "annealed_langevin":
        return
    first, last = along(times[0]), along(times[-1])
    if name in SHORT_OF_DATA and float(last.sigma) == 0:
        problem = f"{name} must end short of the data, where there is no score"
        if grid_name(sample, along) not in ("uniform", "quadratic"):
            refuse(
                path, "sample.grid", grid_name(sample, along), problem, "take uniform, and give sample.last, 1e-3 say"
            )
        refuse(path, "sample.last", sample.last, problem, "give 1e-3, say")
    if float(first.sigma) < NOISE_ALONE * float(first.alpha) and not (is_ladder(model) and float(times[0]) == 1):
        refuse(path, "sample.grid", sample.grid, f"starts at t = {float(times[0]):g}, where the image is still visible, "
                "and samples start from noise alone", "raise sample.steps, or take another grid")  # fmt: skip
    prediction = getattr(model, "prediction", "data")
    faint = float(first.alpha) < FAINTEST * float(first.sigma)
    if sample.threshold == "none" and faint and needs_signal(PREDICTIONS[prediction]):
        refuse(path, "sample.threshold", "none", f"of the image {float(first.alpha):.1g} is left at first, and prediction = "
                f"{prediction} divides its error by that", "take static, or the prediction velocity")  # fmt: skip
    if float(last.sigma) > float(last.alpha):
        refuse(path, "sample.last", sample.last, "the noise still outweighs the image where the grid ends", "lower it")
    if (
        isinstance(along, LinearVE)
        and grid_name(sample, along) in ("uniform", "quadratic")
        and name != "probability_flow"
    ):
        refuse(path, "sample.grid", grid_name(sample, along), f"has nearly all its steps where {model.method} sees noise "
                "alone", "take karras")  # fmt: skip


def _check_bound(model: sections.Gaussian, bound: Bound, along: Schedule | None, path: Path | None) -> None:
    if isinstance(model, sections.CLD):
        if bound.kind != "flow":
            refuse(
                path, "bound.kind", bound.kind, "needs a denoiser, and cld learns the score of a velocity", "take flow"
            )
        if bound.calls < 4:
            refuse(path, "bound.calls", bound.calls, "a step along the flow takes four calls", "raise it")
    elif along is None:
        if bound.kind != "continuous":
            refuse(path, "bound.kind", bound.kind, f"needs a schedule that is fixed, and {model.method} learns its own",
                    "take continuous")  # fmt: skip
    elif bound.kind == "continuous" and not has_signal(along):
        refuse(path, "bound.kind", "continuous", f"{model.method} has no signal left at t = 1, which is infinitely far away",
                "take chain")  # fmt: skip
    elif bound.kind != "flow":
        last = along(torch.tensor(bound.last, dtype=torch.float64))
        if float(last.sigma) > float(last.alpha):
            quiet = float(along.time(torch.tensor(-2 * math.log(0.04), dtype=torch.float64)))
            refuse(path, "bound.last", bound.last, "the noise still outweighs the image where the bound reconstructs it",
                    f"give {quiet:.2g}")  # fmt: skip
    if bound.kind == "flow" and bound.calls != Bound().calls and not isinstance(model, sections.CLD):
        refuse(
            path, "bound.calls", bound.calls, "means nothing to flow, whose solver goes by bound.tolerance", "remove it"
        )
