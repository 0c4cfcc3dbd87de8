"""Names in recipes and the parts of a method that they stand for: plain tables, found by one grep."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from langevin.config import model as sections
from langevin.config.paths import within_home
from langevin.config.sampling import Bound, Sample
from langevin.data.records import as_captions
from langevin.diffusion import grids, parameterizations, samplers, times, weightings
from langevin.diffusion.denoiser import Clamped, Denoises, DynamicallyClamped
from langevin.diffusion.parameterizations import Parameterization
from langevin.diffusion.schedules import (
    CosineVP,
    GeometricVE,
    LinearVE,
    LinearVP,
    Rectified,
    Schedule,
    SubVP,
    Tabulated,
    cosine_betas,
    linear_betas,
    scaled_linear_betas,
    sigmoid_betas,
)
from langevin.diffusion.variance import Lower, ReverseVariance, Upper
from langevin.methods import bounding as bounds
from langevin.methods.gaussian import Bounding, Sampling
from langevin.methods.improved_ddpm import learned_variance
from langevin.methods.latent import Density, FlowDensity
from langevin.networks.dit import DiT
from langevin.networks.text import TextEncoder
from langevin.networks.unet import UNet
from langevin.networks.upsampler import Upsampler


@dataclass(frozen=True)
class Task:
    """What the data ask of a model: image_shape (C, H, W), classes (0: none), grey levels (0: latents, which have none),
    whether there are captions, and whether the network is told a smaller image.
    """

    image_shape: tuple[int, int, int]
    classes: int
    levels: int
    captions: bool = False
    upsampling: bool = False


BETAS: dict[str, Callable[[int], Tensor]] = {
    "linear": linear_betas,
    "cosine": cosine_betas,
    "scaled_linear": scaled_linear_betas,
    "sigmoid": sigmoid_betas,
}
PREDICTIONS: dict[str, Parameterization] = {
    "noise": parameterizations.Noise(),
    "data": parameterizations.Data(),
    "velocity": parameterizations.Velocity(),
    "score": parameterizations.Score(),
    "flow": parameterizations.Flow(),
}
WEIGHTINGS: dict[str, Callable[[Schedule], weightings.Weighting]] = {
    "simple": lambda _: weightings.Simple(),
    "snr": lambda _: weightings.TruncatedSNR(),
    "min_snr": lambda _: weightings.MinSNR(),
    "soft_min_snr": lambda _: weightings.SoftMinSNR(),
    "p2": lambda _: weightings.P2(),
    "velocity": lambda _: weightings.VelocityError(),
    "likelihood": weightings.Likelihood,
}
TIMES: dict[str, Callable[[Schedule, float], times.Times]] = {
    "stratified": lambda _, t_min: times.Stratified(t_min),
    "uniform": lambda _, t_min: times.Uniform(t_min),
    "antithetic": lambda _, t_min: times.Antithetic(t_min, 128),
    "uniform_log_snr": lambda schedule, t_min: times.UniformLogSNR(schedule, times.Stratified(t_min)),
}
THRESHOLDS: dict[str, Callable[[Denoises], Denoises]] = {
    "static": Clamped,
    "dynamic": DynamicallyClamped,
    "none": lambda model: model,
}
SAMPLERS: dict[str, Callable[[Sample, Any], samplers.Sampler]] = {
    "ddim": lambda sample, _: samplers.DDIM(sample.eta),
    "ancestral": lambda sample, variance: samplers.Ancestral(variance),
    "heun": lambda sample, _: samplers.Heun(
        min(sample.churn / sample.steps, math.sqrt(2) - 1), sample.churn_min, sample.churn_max, sample.churn_noise
    ),
    "dpm_solver": lambda sample, _: samplers.DPMSolver(sample.eta),
    "euler_maruyama": lambda sample, _: samplers.EulerMaruyama(),
    "reverse_diffusion": lambda sample, _: samplers.ReverseDiffusion(),
    "predictor_corrector": lambda sample, _: samplers.PredictorCorrector(
        samplers.ReverseDiffusion(), sample.corrector_snr, sample.corrector_steps
    ),
    "probability_flow": lambda sample, _: samplers.ProbabilityFlow(sample.tolerance, sample.tolerance),
    "sscs": lambda sample, _: samplers.SSCS(),
}


def reader(section: sections.Text | sections.FrozenText) -> nn.Module:
    """An encoder of captions: one to be trained, or one that is loaded."""
    if isinstance(section, sections.Text):
        return TextEncoder(section.width, section.layers, section.heads, section.length, section.merge)
    from langevin.interop.text_encoders import FrozenText

    folder = within_home(section.encoder)
    return FrozenText.load(folder if folder.is_dir() else section.encoder, section.kind, section.length)


def network(
    model: sections.Method | sections.CLIPGuided | sections.ARDM,
    task: Task,
    conditional: bool = True,
    channels_in: int | None = None,
    channels_out: int | None = None,
) -> UNet | DiT | Upsampler:
    """The model's network, with an encoder of captions where the model reads them."""
    part, reads = model.network, getattr(model, "text", None) if conditional else None
    text = reader(reads) if reads else None
    classes = task.classes if conditional and text is None else 0
    if isinstance(part, sections.DiT):
        return DiT(
            task.image_shape, part.patch, part.width, part.depth, part.heads, classes, text, channels_in, channels_out
        )
    colours = task.image_shape[0]
    unet = UNet(
        task.image_shape,
        part.channels,
        part.multipliers,
        part.blocks,
        part.attention,
        classes,
        2 * colours if task.upsampling else channels_in,
        channels_out,
        text=text,
    )
    return Upsampler(unet) if task.upsampling else unet


def schedule(model: sections.Model) -> Schedule | None:
    """The schedule of a method that has a fixed one. ValueError where its values make none."""
    match model:
        case sections.DDPM() | sections.ImprovedDDPM() | sections.Guided() | sections.CLIPGuided():
            return Tabulated(BETAS[model.schedule.name](model.schedule.steps))
        case sections.NCSN() | sections.NCSNv2():
            return GeometricVE(model.sigma_min, model.sigma_max)
        case sections.EDM() | sections.EDM2():
            return LinearVE(model.sigma_min, model.sigma_max)
        case sections.RectifiedFlow():
            return Rectified()
        case sections.ScoreSDE(schedule=sections.VP() as part):
            return LinearVP(part.beta_min, part.beta_max)
        case sections.ScoreSDE(schedule=sections.SubVP() as part):
            return SubVP(part.beta_min, part.beta_max)
        case sections.ScoreSDE(schedule=sections.VE() as part):
            return GeometricVE(part.sigma_min, part.sigma_max)
        case sections.ScoreSDE():
            return CosineVP()
    return None


def fixed(model: sections.Model) -> Schedule:
    """The same for a method that is known to have one."""
    along = schedule(model)
    assert along is not None
    return along


def grid(sample: Sample, along: Schedule | None) -> Tensor:
    """The times of the sampler's steps. ValueError where the schedule has no such grid."""
    chain, name = along.steps if isinstance(along, Tabulated) else None, grid_name(sample, along)
    if name in ("trailing", "strided", "spread"):
        if chain is None:
            raise ValueError(f"{name} picks steps of a chain, and time is continuous here")
        return {"trailing": grids.trailing, "strided": grids.strided, "spread": grids.spread}[name](sample.steps, chain)
    if name in ("uniform", "quadratic"):
        return {"uniform": grids.uniform, "quadratic": grids.quadratic}[name](sample.steps, sample.last)
    if name == "ladder":
        return grids.ladder(sample.steps)
    if along is None:
        raise ValueError(f"{name} needs a schedule that is fixed before training")
    if name == "karras":
        return grids.karras(sample.steps, along, sample.sigma_min, sample.sigma_max, sample.rho)
    return grids.distinct(grids.uniform_log_snr(sample.steps, along, sample.last, first(along)))


def grid_name(sample: Sample, along: Schedule | None) -> str:
    """The grid that is meant where the recipe names none."""
    if sample.sampler == "annealed_langevin":
        return sample.grid or "ladder"
    # Heun's coordinate is sigma / alpha, of which a chain's last even step leaps over nearly all
    if isinstance(along, LinearVE) or (sample.sampler == "heun" and isinstance(along, Tabulated)):
        return sample.grid or "karras"
    return sample.grid or ("trailing" if isinstance(along, Tabulated) else "uniform")


def first(along: Schedule) -> float:
    """Where a grid of log-SNR begins: at t = 1, or short of it where the log-SNR there is infinite."""
    return 1.0 if has_signal(along) else 0.999


def has_signal(along: Schedule) -> bool:
    """Whether any is left at t = 1."""
    return float(along(torch.ones((), dtype=torch.float64)).alpha) > 0


def is_clean(along: Schedule) -> bool:
    """Whether t = 0 is the data themselves."""
    return float(along(torch.zeros((), dtype=torch.float64)).sigma) == 0


def variance(name: str | None, along: Schedule | None, learned: bool) -> ReverseVariance:
    """Of the ancestral step and of the bound's: what the network learned, if it did, else the lower end."""
    if name == "learned" or (name is None and learned):
        assert isinstance(along, Tabulated)  # only chains learn one
        return learned_variance(along)
    return Upper() if name == "upper" else Lower()


def sampling(model: sections.Model, sample: Sample, along: Schedule | None) -> Sampling:
    learned = isinstance(model, sections.ImprovedDDPM)
    build = SAMPLERS[sample.sampler]
    return Sampling(
        build(sample, variance(sample.variance, along, learned)),
        grid(sample, along),
        sample.guidance,
        sample.guidance_interval,
        THRESHOLDS[sample.threshold],
        negative(sample),
    )


def negative(sample: Sample) -> Tensor | None:
    """The caption that guidance leads away from, (1, L) int64, where one is given."""
    return as_captions([sample.negative]) if sample.negative else None


def bounding(model: sections.Model, bound: Bound, along: Schedule | None, task: Task) -> Bounding:
    if task.levels == 0:
        if bound.kind == "flow":
            return FlowDensity(bound.probes, getattr(model, "t_min", 1e-5), bound.tolerance)
        return Density(bound.calls, bound.last)
    if bound.kind == "continuous" or along is None:
        clean = along is not None and is_clean(along)  # the log-SNR of the data is infinite
        return bounds.Continuous(task.levels, bound.calls, bound.last if clean else 0.0)
    if bound.kind == "flow":
        return bounds.Flow(task.levels, bound.draws, bound.probes, getattr(model, "t_min", 1e-5), bound.tolerance)
    levels = grids.uniform_log_snr(bound.steps, along, bound.last, first(along))
    learned = isinstance(model, sections.ImprovedDDPM)
    return bounds.Chain(levels, variance(None, along, learned), task.levels, bound.calls)
