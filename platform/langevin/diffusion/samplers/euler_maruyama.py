"""The reverse SDE by the Euler-Maruyama method, for any process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from langevin.diffusion.denoiser import Denoises
from langevin.diffusion.processes import Scores, scores
from langevin.randomness import Noise


@dataclass(frozen=True)
class EulerMaruyama:
    """x_s = x - (f - g^2 score) (t - s) + g sqrt(t - s) z. Song et al. 2021, eq. 6 and appendix D."""

    def __call__(self, model: Denoises | Scores, x: Tensor, t: Tensor, s: Tensor, cond: Any, noise: Noise) -> Tensor:
        scored, span = scores(model), (t - s).to(x)
        process = scored.process
        g_sq = process.diffusion_sq(t).to(x)
        push = g_sq * span * scored.score(x, t, cond) + (g_sq * span).sqrt() * noise.normal("wiener", process.driven(x))
        return x - process.drift(x, t) * span + process.drive(push)
