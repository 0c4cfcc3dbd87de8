"""What training minimises where that is the likelihood's bound, of a chain or of continuous time. Bits per dimension."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from langevin.diffusion.denoiser import Denoises, Prediction
from langevin.diffusion.likelihood import reverse_kl
from langevin.diffusion.objectives import Look, look
from langevin.diffusion.schedules import Learned
from langevin.diffusion.times import Times
from langevin.diffusion.variance import ReverseVariance
from langevin.protocols import Losses
from langevin.randomness import Noise


@dataclass(frozen=True)
class VariationalBound:
    """L_vlb of a chain, one term an image: T KL(q(x_s | x_t, x_0) || p(x_s | x_t)), or T -log p(x_0 | x_t) in the step to
    the data, over the times' density. Bits per dimension. Nichol & Dhariwal 2021, eq. 4-7.

    steps: T; levels: the data's grey levels. terms: "time" and "unweighted" (before the density) for loss-aware times.
    """

    times: Times
    steps: int
    variance: ReverseVariance
    levels: int

    def __call__(self, model: Denoises, x0: Tensor, cond: Any, noise: Noise) -> Losses:
        seen = look(self.times, model, x0, cond, noise)
        bits = self.term(model, x0, seen, seen.prediction)
        return _reweighed(self.times, seen.level.t, bits, {"vlb": bits})

    def term(self, model: Denoises, x0: Tensor, seen: Look, prediction: Prediction) -> Tensor:
        """(B,) T times the term at each image's time, bits per dimension."""
        before = model.schedule((seen.level.t - 1 / self.steps).clamp(min=0))
        nats = reverse_kl(prediction, x0, seen.x, before, seen.level, self.variance, self.levels)
        return (nats * (self.steps / (x0[0].numel() * math.log(2)))).to(x0)


@dataclass(frozen=True)
class HybridBound:
    """L_simple + weight L_vlb with the bound's mean held fixed: L_vlb teaches the variance alone.

    Nichol & Dhariwal 2021, section 3.1: mean square error + 0.001 x bits per dimension of the whole chain.
    """

    bound: VariationalBound
    weight: float = 0.001

    def __call__(self, model: Denoises, x0: Tensor, cond: Any, noise: Noise) -> Losses:
        seen = look(self.bound.times, model, x0, cond, noise)
        fixed = seen.prediction._replace(x0=seen.prediction.x0.detach())
        mse, bits = seen.error(x0, torch.ones_like(seen.level.t)), self.bound.term(model, x0, seen, fixed)
        return _reweighed(self.bound.times, seen.level.t, mse + self.weight * bits, {"mse": mse, "vlb": bits})


@dataclass(frozen=True)
class ContinuousBound:
    """The continuous-time bound's integral, one time an image: 1/2 (-d log_snr/dt) ||eps - eps_hat||^2 over the times'
    density. Bits per dimension. Kingma et al. 2021, eq. 17.
    """

    times: Times

    def __call__(self, model: Denoises, x0: Tensor, cond: Any, noise: Noise) -> Losses:
        seen = look(self.times, model, x0, cond, noise)
        rate = -model.schedule.log_snr_rate(seen.level.t) / self.times.density(seen.level.t)
        losses = seen.error(x0, rate * (0.5 / math.log(2)))
        if isinstance(model.schedule, Learned):
            model.schedule.reduce_variance_of(losses)
        return Losses(losses, terms={"time": seen.level.t})


def _reweighed(times: Times, t: Tensor, losses: Tensor, terms: dict[str, Tensor]) -> Losses:
    noted = {"time": t, "unweighted": losses, **terms}
    weight = (1 / times.density(t)).to(losses)
    return Losses(losses * weight, terms={name: value.detach() for name, value in noted.items()})
