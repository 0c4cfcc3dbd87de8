"""Heun's method on the probability flow, with churn."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from langevin.diffusion.denoiser import Denoises
from langevin.randomness import Noise


@dataclass(frozen=True)
class Heun:
    """Second order in sigma / alpha, two network calls a step, one in the step to the data. Karras et al. 2022, algorithm 2.

    churn: by which share the noise is raised before a step, min(S_churn / N, sqrt(2) - 1) in their letters, where
    s_min <= sigma / alpha <= s_max and never above the schedule's end; s_noise: the new noise's deviation.
    """

    churn: float = 0.0
    s_min: float = 0.0
    s_max: float = math.inf
    s_noise: float = 1.0

    def __call__(self, model: Denoises, x: Tensor, t: Tensor, s: Tensor, cond: Any, noise: Noise) -> Tensor:
        schedule = model.schedule
        if self.churn > 0:
            x, t = self._churned(model, x, t, noise)
        here, there = schedule(t), schedule(s)
        prediction = model(x, t, cond)
        eps = prediction.eps(x, here)
        first = there.alpha.to(x) * prediction.x0 + there.sigma.to(x) * eps  # Euler's step, without a division by alpha
        # nothing to correct where the step ends at the data; at alpha = 0 sigma / alpha is no coordinate
        if float(there.sigma) == 0 or float(here.alpha) == 0:
            return first
        correction = model(first, s, cond).eps(first, there) - eps
        return first + 0.5 * (there.sigma - there.alpha * here.sigma / here.alpha).to(x) * correction

    def _churned(self, model: Denoises, x: Tensor, t: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        schedule, here = model.schedule, model.schedule(t)
        sigma = here.sigma / here.alpha
        if not self.s_min <= float(sigma) <= self.s_max or math.isinf(float(sigma)):
            return x, t
        raised = schedule(schedule.time(here.log_snr - 2 * math.log1p(min(self.churn, math.sqrt(2) - 1))))
        added = ((raised.sigma / raised.alpha) ** 2 - sigma**2).clamp(min=0).sqrt() * self.s_noise
        moved = (raised.alpha / here.alpha).to(x) * x
        return moved + (raised.alpha * added).to(x) * noise.normal("churn", x), raised.t
