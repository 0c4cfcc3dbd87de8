"""What training minimises: where to look (times) and how much to care there (weighting)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from langevin.diffusion.denoiser import Denoises
from langevin.diffusion.times import Times
from langevin.diffusion.weightings import Weighting
from langevin.randomness import Noise


@dataclass(frozen=True)
class Denoising:
    """E_t[w(t) mean ||eps - eps_hat||^2], in units of noise variance per dimension. Ho et al. 2020, eq. 12 and 14."""

    times: Times
    weighting: Weighting

    def __call__(self, model: Denoises, x0: Tensor, cond: Any, noise: Noise) -> Tensor:
        """(B,) losses of the images x0: (B, ...), a pure function of the weights, the images and the noise's keys."""
        level = model.schedule(self.times(noise))
        eps = noise.normal("forward", x0)
        x = level.diffuse(x0, eps)
        error = eps - model(x, level.t, cond).eps(x, level)
        return self.weighting(level).to(x0) * error.square().flatten(1).mean(1)
