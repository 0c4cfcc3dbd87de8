"""Ancestral sampling of the reverse chain."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from langevin.diffusion.denoiser import Denoises
from langevin.diffusion.kernels import posterior
from langevin.diffusion.variance import Lower, ReverseVariance
from langevin.randomness import Noise


@dataclass(frozen=True)
class Ancestral:
    """x_s ~ N(posterior mean at x_0 = D, variance). Ho et al. 2020, algorithm 2, between any two levels."""

    variance: ReverseVariance = field(default_factory=Lower)

    def __call__(self, model: Denoises, x: Tensor, t: Tensor, s: Tensor, cond: Any, noise: Noise) -> Tensor:
        here, there = model.schedule(t), model.schedule(s)
        mean = posterior(model(x, t, cond).x0, x, there, here).mean
        if float(there.sigma) == 0:  # the data themselves: the mean is D, and noise would only stay
            return mean
        return mean + self.variance(there, here).sqrt().to(x) * noise.normal("ancestral", x)
