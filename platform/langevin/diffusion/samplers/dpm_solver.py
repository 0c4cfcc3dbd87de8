"""DPM-Solver++: the exponential integrator of the probability flow in log-SNR, and its stochastic form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from langevin.diffusion.denoiser import Denoises
from langevin.diffusion.levels import NoiseLevel
from langevin.diffusion.samplers.walk import Sampler
from langevin.randomness import Noise


@dataclass(frozen=True)
class DPMSolver:
    """DPM-Solver++(2M): second order with one network call a step, by what the step before saw of D.

    Lu et al. 2022 (DPM-Solver++), algorithm 2. eta = 0 follows the probability flow, eta = 1 the reverse SDE (their
    section 6, SDE-DPM-Solver++), any eta keeps the marginals. A single call, outside of a walk, is its first-order step;
    so is the first one of a walk, and the last where that ends at the data.
    """

    eta: float = 0.0

    def __call__(self, model: Denoises, x: Tensor, t: Tensor, s: Tensor, cond: Any, noise: Noise) -> Tensor:
        return self.step(model(x, t, cond).x0, x, model.schedule(t), model.schedule(s), noise)

    def fresh(self) -> Sampler:
        return _Remembering(self)

    def step(self, x0: Tensor, x: Tensor, here: NoiseLevel, there: NoiseLevel, noise: Noise) -> Tensor:
        """From x at ``here`` to ``there`` with D = x0 all the way."""
        h = (there.log_snr - here.log_snr) / 2
        keep = there.sigma / here.sigma
        if self.eta > 0:  # h may be infinite at either end, and 0 times that is no number
            keep = keep * torch.exp(-self.eta * h)
        x = keep.to(x) * x - (there.alpha * torch.expm1(-(1 + self.eta) * h)).to(x) * x0
        if self.eta == 0 or float(there.sigma) == 0:
            return x
        return x + (there.sigma * torch.sqrt(-torch.expm1(-2 * self.eta * h))).to(x) * noise.normal("dpm", x)


class _Remembering:
    """One walk's memory: the step before, as long as its step led here."""

    def __init__(self, solver: DPMSolver) -> None:
        self.solver = solver
        self.before: tuple[NoiseLevel, Tensor] | None = None

    def __call__(self, model: Denoises, x: Tensor, t: Tensor, s: Tensor, cond: Any, noise: Noise) -> Tensor:
        here, there = model.schedule(t), model.schedule(s)
        x0 = model(x, t, cond).x0
        looked = x0
        if self.before is not None and float(there.sigma) > 0:
            earlier, its_x0 = self.before
            ratio = (here.log_snr - earlier.log_snr) / (there.log_snr - here.log_snr)
            looked = x0 + (x0 - its_x0) / (2 * ratio).to(x0)
        self.before = (here, x0)
        return self.solver.step(looked, x, here, there, noise)
