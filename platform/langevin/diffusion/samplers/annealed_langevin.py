"""Annealed Langevin dynamics: at each level of a ladder of noise a few steps of a walk along the score."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from langevin.diffusion.denoiser import Denoises
from langevin.diffusion.processes import scores
from langevin.randomness import Noise


@dataclass(frozen=True)
class AnnealedLangevin:
    """``steps`` times x += e score + sqrt(2 e) z at the level s, e = step_lr (sigma_s / sigma_0)^2, sigma_0 at t = 0.

    Song & Ermon 2019, algorithm 1. It equilibrates where it arrives, so ``grids.ladder`` begins with 1, 1. On a schedule
    whose alpha changes x is scaled along.
    """

    steps: int = 100
    step_lr: float = 2e-5

    def __call__(self, model: Denoises, x: Tensor, t: Tensor, s: Tensor, cond: Any, noise: Noise) -> Tensor:
        here, there, lowest = model.schedule(t), model.schedule(s), model.schedule(0 * s)
        size = (self.step_lr * (there.sigma / lowest.sigma) ** 2).to(x)
        x = (there.alpha / here.alpha).to(x) * x
        for number in range(self.steps):
            z = noise.normal(f"langevin/{number}", x)
            x = x + size * scores(model).score(x, s, cond) + (2 * size).sqrt() * z
        return x


def consistent_step_lr(ratio: float, steps: int, sigma_min: float) -> float:
    """The step_lr that best keeps the deviation of x at sigma from level to level. Song & Ermon 2020, proposition 3.

    Of levels whose neighbours' ratio is ``ratio`` > 1, ``steps`` a level; in units of x^2. With e = step_lr, s = sigma_min
    and S = 2e / (s^2 - s^2 (1 - e/s^2)^2) the variance after a level's steps is, in units of the level's sigma^2,

        (1 - e/s^2)^2T (ratio^2 - S) + S  > 1,

    which falls from ratio^2 and rises again: golden-section search for its least.
    """

    def variance(share: float) -> float:  # share = e / s^2
        kept = (1 - share) ** 2
        settled = 2 * share / (1 - kept)
        return kept**steps * (ratio**2 - settled) + settled

    low, high, golden = 1e-12, 1.0, (math.sqrt(5) - 1) / 2
    for _ in range(64):
        left, right = high - golden * (high - low), low + golden * (high - low)
        low, high = (low, right) if variance(left) < variance(right) else (left, high)
    return (low + high) / 2 * sigma_min**2
