"""Heun's method on the probability-flow ODE."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from langevin.diffusion.denoiser import Denoises
from langevin.randomness import Noise


@dataclass(frozen=True)
class Heun:
    """Second order in sigma / alpha: DDIM(0) is the Euler step, its slope is averaged with the slope where it lands.

    Karras et al. 2022, algorithm 1. Two network calls a step, one on the last (where sigma_s = 0).
    """

    def __call__(self, model: Denoises, x: Tensor, t: Tensor, s: Tensor, cond: Any, noise: Noise) -> Tensor:
        here, there = model.schedule(t), model.schedule(s)
        first = model(x, t, cond)
        eps = first.eps(x, here)
        euler = there.alpha.to(x) * first.x0 + there.sigma.to(x) * eps
        if float(there.sigma) == 0:
            return euler
        slope = (eps + model(euler, s, cond).eps(euler, there)) / 2
        stretch = there.sigma / there.alpha - here.sigma / here.alpha  # d(x / alpha) = eps d(sigma / alpha)
        return (there.alpha / here.alpha).to(x) * x + (there.alpha * stretch).to(x) * slope
