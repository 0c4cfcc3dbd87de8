"""Denoising diffusion implicit models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from langevin.diffusion.denoiser import Denoises
from langevin.diffusion.kernels import ancestral_variance
from langevin.randomness import Noise


@dataclass(frozen=True)
class DDIM:
    """x_s = alpha_s D + sqrt(sigma_s^2 - c^2) eps_hat + c z, c = eta x the posterior's standard deviation.

    Song et al. 2020, eq. 12 and 16. eta = 0 is the deterministic map, eta = 1 ancestral sampling with the lower variance.
    """

    eta: float = 0.0

    def __call__(self, model: Denoises, x: Tensor, t: Tensor, s: Tensor, cond: Any, noise: Noise) -> Tensor:
        here, there = model.schedule(t), model.schedule(s)
        prediction = model(x, t, cond)
        churned = self.eta**2 * ancestral_variance(there, here)
        kept = (there.sigma**2 - churned).clamp(min=0).sqrt()
        x = there.alpha.to(x) * prediction.x0 + kept.to(x) * prediction.eps(x, here)
        return x + churned.sqrt().to(x) * noise.normal("ddim", x) if self.eta else x
