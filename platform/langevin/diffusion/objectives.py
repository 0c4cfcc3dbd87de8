"""What training minimises: where to look (times) and how much to care there (weighting)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from langevin.diffusion.denoiser import Denoises, Prediction
from langevin.diffusion.levels import NoiseLevel
from langevin.diffusion.times import Times
from langevin.diffusion.weightings import Weighting
from langevin.protocols import Losses
from langevin.randomness import Noise


class Look(NamedTuple):
    """One look at each image: the noise level, x_t and what the model makes of it."""

    level: NoiseLevel
    x: Tensor
    prediction: Prediction

    def error(self, x0: Tensor, weight: Tensor) -> Tensor:
        """(B,) weight x mean ||eps - eps_hat||^2, as weight x snr x mean ||x_0 - D||^2: so it keeps its digits at alpha ~ 0.

        x0: (B, ...); weight: (B,), infinite at most where the snr is 0.
        """
        scale = (weight * torch.exp(self.level.log_snr)).nan_to_num(nan=0.0)
        return scale.to(x0) * (x0 - self.prediction.x0).square().flatten(1).mean(1)


def look(times: Times, model: Denoises, x0: Tensor, cond: Any, noise: Noise) -> Look:
    """At a time and with a noise of each image's own. x0: (B, ...)."""
    level = model.schedule(times(noise))
    x = level.diffuse(x0, noise.normal("forward", x0))
    return Look(level, x, model(x, level.t, cond))


@dataclass(frozen=True)
class Denoising:
    """E_t[w(t) mean ||eps - eps_hat||^2], in units of noise variance per dimension. Ho et al. 2020, eq. 12 and 14."""

    times: Times
    weighting: Weighting

    def __call__(self, model: Denoises, x0: Tensor, cond: Any, noise: Noise) -> Losses:
        """(B,) losses of the images x0: (B, ...), a pure function of the weights, the images and the noise's keys."""
        seen = look(self.times, model, x0, cond, noise)
        return Losses(seen.error(x0, self.weighting(seen.level)), terms={"time": seen.level.t})


@dataclass(frozen=True)
class Uncertain:
    """w / exp(u) error + u: a learned log-variance u(level) makes every noise level as important. Karras et al. 2024, eq. 14.

    base's weighted error; uncertainty: a network from what the denoiser's network is told of the level to u, (B,) -> (B,).
    """

    base: Denoising
    uncertainty: nn.Module

    def __call__(self, model: Any, x0: Tensor, cond: Any, noise: Noise) -> Losses:
        found = self.base(model, x0, cond, noise)
        told = model.parameterization(model.schedule(self.base.times(noise))).noise
        log_variance = self.uncertainty(told.to(x0))
        terms = {**found.terms, "error": found.total.detach()}
        return Losses(found.total / log_variance.exp() + log_variance, terms)
