"""Methods by the name that a recipe gives them, and how each is put together. Found by one grep."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from langevin.codecs.vae import KLCodec, Laplace
from langevin.config import model as sections
from langevin.config.frozen import vgg16
from langevin.config.parts import (
    BETAS,
    PREDICTIONS,
    SAMPLERS,
    THRESHOLDS,
    TIMES,
    WEIGHTINGS,
    Task,
    bounding,
    fixed,
    grid,
    negative,
    network,
    reader,
    sampling,
    schedule,
)
from langevin.config.sampling import Bound, Sample
from langevin.diffusion import grids, samplers, times
from langevin.diffusion.processes import CriticallyDampedLangevin
from langevin.diffusion.schedules import GeometricVE, LinearVE
from langevin.diffusion.velocity_score import VelocityScore, VelocityScoreModel
from langevin.methods.ardm import ARDM, Drawing
from langevin.methods.autoencoder import Autoencoder, Weights
from langevin.methods.cld import CLD
from langevin.methods.cld import Bounding as FlowOfState
from langevin.methods.cld import Sampling as StateSampling
from langevin.methods.clip_guided import clip_guided
from langevin.methods.ddpm import ddpm
from langevin.methods.edm import edm
from langevin.methods.edm2 import edm2
from langevin.methods.gaussian import Bounding, Sampling
from langevin.methods.guided import guided
from langevin.methods.improved_ddpm import improved_ddpm
from langevin.methods.ncsn import improved_techniques, ncsn
from langevin.methods.rectified import rectified
from langevin.methods.score_sde import score_sde
from langevin.methods.vae import vae
from langevin.methods.vdm import vdm
from langevin.networks.autoencoder import Decoder, Encoder
from langevin.networks.classifier import NoisyClassifier
from langevin.networks.clip import NoisyCLIP
from langevin.networks.discriminator import PatchDiscriminator
from langevin.networks.dit import DiT
from langevin.networks.fourier import FourierFeatures
from langevin.networks.monotone import MonotoneNetwork
from langevin.networks.mp_unet import MPUNet, Uncertainty
from langevin.networks.perceptual import Perceptual
from langevin.networks.tokens import TokenUNet, token_channels
from langevin.networks.unet import UNet

Builder = Callable[[Any, Sample, Bound, Task], nn.Module]


def _drawn(model: sections.Model, sample: Sample, bound: Bound, task: Task) -> tuple[Sampling, Bounding]:
    along = schedule(model)
    return sampling(model, sample, along), bounding(model, bound, along, task)


def _ddpm(model: sections.DDPM, sample: Sample, bound: Bound, task: Task) -> nn.Module:
    along = fixed(model)
    return ddpm(
        network(model, task),
        BETAS[model.schedule.name](model.schedule.steps),
        task.image_shape,
        *_drawn(model, sample, bound, task),
        parameterization=PREDICTIONS[model.prediction],
        weighting=WEIGHTINGS[model.weighting](along),
        dropped=model.condition_dropout,
    )


def _improved_ddpm(model: sections.ImprovedDDPM, sample: Sample, bound: Bound, task: Task) -> nn.Module:
    return improved_ddpm(
        network(model, task, channels_out=2 * task.image_shape[0]),
        BETAS[model.schedule.name](model.schedule.steps),
        task.image_shape,
        task.levels,
        *_drawn(model, sample, bound, task),
        parameterization=PREDICTIONS[model.prediction],
        hybrid=model.objective == "hybrid",
        loss_aware=model.times == "loss_aware",
        dropped=model.condition_dropout,
    )


def _guided(model: sections.Guided, sample: Sample, bound: Bound, task: Task) -> nn.Module:
    along = fixed(model)
    part = model.classifier
    classifier = NoisyClassifier(
        task.image_shape, part.channels, part.multipliers, part.blocks, part.attention, task.classes
    )
    return guided(
        network(model, task, conditional=False),
        classifier,
        BETAS[model.schedule.name](model.schedule.steps),
        task.image_shape,
        *_drawn(model, sample, bound, task),
        parameterization=PREDICTIONS[model.prediction],
        weighting=WEIGHTINGS[model.weighting](along),
    )


def _clip_guided(model: sections.CLIPGuided, sample: Sample, bound: Bound, task: Task) -> nn.Module:
    part = model.image
    image = NoisyClassifier(task.image_shape, part.channels, part.multipliers, part.blocks, part.attention, model.width)
    return clip_guided(
        network(model, task, conditional=False),
        NoisyCLIP(image, reader(model.text), model.width),
        BETAS[model.schedule.name](model.schedule.steps),
        task.image_shape,
        *_drawn(model, sample, bound, task),
        parameterization=PREDICTIONS[model.prediction],
        weighting=WEIGHTINGS[model.weighting](fixed(model)),
    )


def _ncsn(model: sections.NCSN | sections.NCSNv2, sample: Sample, bound: Bound, task: Task) -> nn.Module:
    along = GeometricVE(model.sigma_min, model.sigma_max)
    levels, step_lr = model.levels, 2e-5 * (model.sigma_min / 0.01) ** 2
    if isinstance(model, sections.NCSNv2):
        levels, step_lr = improved_techniques(along, math.prod(task.image_shape), sample.corrector_steps, levels)
    assert levels is not None  # NCSN's is a number
    if sample.sampler == "annealed_langevin":
        drawn = Sampling(
            samplers.AnnealedLangevin(sample.corrector_steps, sample.step_lr or step_lr),
            grids.ladder(levels),
            sample.guidance,
            sample.guidance_interval,
            THRESHOLDS[sample.threshold],
            negative(sample),
        )
    else:
        drawn = sampling(model, sample, along)
    return ncsn(
        network(model, task),
        along,
        levels,
        task.image_shape,
        drawn,
        bounding(model, bound, along, task),
        blind=isinstance(model, sections.NCSNv2),
        dropped=model.condition_dropout,
    )


def _score_sde(model: sections.ScoreSDE, sample: Sample, bound: Bound, task: Task) -> nn.Module:
    along = fixed(model)
    return score_sde(
        network(model, task),
        along,
        task.image_shape,
        *_drawn(model, sample, bound, task),
        parameterization=PREDICTIONS[model.prediction],
        times=TIMES[model.times](along, model.t_min),
        weighting=WEIGHTINGS[model.weighting](along),
        dropped=model.condition_dropout,
    )


def _cld(model: sections.CLD, sample: Sample, bound: Bound, task: Task) -> nn.Module:
    colours = task.image_shape[0]
    state = network(model, task, channels_in=2 * colours, channels_out=colours)
    process = CriticallyDampedLangevin(model.beta, model.mass, model.gamma)
    flow = grids.quadratic(bound.calls // 4, model.t_min).flip(0)  # four calls a step
    return CLD(
        VelocityScoreModel(state, process),
        VelocityScore(times.Stratified(model.t_min)),
        task.image_shape,
        model.condition_dropout,
        StateSampling(SAMPLERS[sample.sampler](sample, None), grid(sample, None), sample.guidance, negative(sample)),
        FlowOfState(flow, task.levels, bound.probes),
    )


def _edm(model: sections.EDM, sample: Sample, bound: Bound, task: Task) -> nn.Module:
    along = LinearVE(model.sigma_min, model.sigma_max)
    return edm(
        network(model, task),
        along,
        task.image_shape,
        *_drawn(model, sample, bound, task),
        sigma_data=model.sigma_data,
        mean=model.mean,
        deviation=model.deviation,
        dropped=model.condition_dropout,
    )


def _edm2(model: sections.EDM2, sample: Sample, bound: Bound, task: Task) -> nn.Module:
    along = LinearVE(model.sigma_min, model.sigma_max)
    part = model.network
    assert isinstance(part, sections.UNet)  # the recipe is checked
    return edm2(
        MPUNet(task.image_shape, part.channels, part.multipliers, part.blocks, part.attention, task.classes),
        Uncertainty(),
        along,
        task.image_shape,
        *_drawn(model, sample, bound, task),
        sigma_data=model.sigma_data,
        mean=model.mean,
        deviation=model.deviation,
        dropped=model.condition_dropout,
    )


def _vdm(model: sections.VDM, sample: Sample, bound: Bound, task: Task) -> nn.Module:
    channels = task.image_shape[0] * (1 + 2 * len(model.fourier))
    return vdm(
        FourierFeatures(network(model, task, channels_in=channels), model.fourier),
        MonotoneNetwork(),
        task.image_shape,
        *_drawn(model, sample, bound, task),
        gamma_min=model.gamma_min,
        gamma_max=model.gamma_max,
        dropped=model.condition_dropout,
    )


def _rectified(model: sections.RectifiedFlow, sample: Sample, bound: Bound, task: Task) -> nn.Module:
    return rectified(
        network(model, task),
        task.image_shape,
        *_drawn(model, sample, bound, task),
        parameterization=PREDICTIONS[model.prediction],
        dropped=model.condition_dropout,
    )


def _autoencoder(model: sections.Autoencoder, sample: Sample, bound: Bound, task: Task) -> nn.Module:
    part = model.network
    shape = (task.image_shape, part.latent_channels, part.channels, part.multipliers, part.blocks)
    encoder, decoder = Encoder(*shape, patch=part.patch), Decoder(*shape, patch=part.patch)
    halvings = min(3, math.floor(math.log2(min(task.image_shape[1:]) / 3)))  # as many as leave a patch
    return Autoencoder(
        KLCodec(encoder, decoder, encoder.latent_shape, Laplace(task.levels)),
        PatchDiscriminator(task.image_shape, model.discriminator_channels, halvings) if model.adversarial else None,
        Weights(model.kl, model.adversarial, model.adversarial_from, model.perceptual_weight),
        Perceptual(partial(vgg16, model.perceptual)) if model.perceptual else None,
    )


def _vae(model: sections.VAE, sample: Sample, bound: Bound, task: Task) -> nn.Module:
    part = model.network
    return vae(
        task.image_shape,
        task.levels,
        dims=model.dims,
        channels=part.channels,
        multipliers=part.multipliers,
        patch=part.patch,
        classes=task.classes,
        dropped=model.condition_dropout,
        draws=bound.draws,
    )


def _ardm(model: sections.ARDM, sample: Sample, bound: Bound, task: Task) -> nn.Module:
    values = model.base or task.levels
    channels_in, channels_out = token_channels(task.image_shape[0], values)
    return ARDM(
        TokenUNet(network(model, task, channels_in=channels_in, channels_out=channels_out), task.levels, values),
        task.image_shape,
        task.levels,
        base=model.base,
        dropped=model.condition_dropout,
        drawing=Drawing(sample.steps, sample.guidance),
        calls=bound.calls,
    )


METHODS: dict[str, Builder] = {
    "ddpm": _ddpm,
    "improved_ddpm": _improved_ddpm,
    "guided": _guided,
    "clip_guided": _clip_guided,
    "ncsn": _ncsn,
    "ncsnv2": _ncsn,
    "score_sde": _score_sde,
    "cld": _cld,
    "edm": _edm,
    "edm2": _edm2,
    "vdm": _vdm,
    "rectified": _rectified,
    "autoencoder": _autoencoder,
    "vae": _vae,
    "ardm": _ardm,
}
NETWORKS = (UNet, MPUNet, DiT, NoisyClassifier, Decoder)  # of which one sample goes through some so and so often
