"""Guidance is a denoiser made of denoisers. One convention: scale 1 is the conditional model, 0 the unconditional one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from langevin.diffusion.denoiser import Denoises, Prediction
from langevin.diffusion.schedules import Schedule


@dataclass(frozen=True)
class ClassifierFree:
    """D = D_null + scale (D_cond - D_null); scale = 1 + w of Ho & Salimans 2022, eq. 6. null: the "no condition" value."""

    base: Denoises
    scale: float
    null: Any = None

    @property
    def schedule(self) -> Schedule:
        return self.base.schedule

    def __call__(self, x: Tensor, t: Tensor, cond: Any = None) -> Prediction:
        if self.scale == 1:  # the other half would be multiplied by nothing
            return self.base(x, t, cond)
        null = self.base(x, t, self.null)
        if self.scale == 0:
            return null
        conditional = self.base(x, t, cond)
        return conditional._replace(x0=null.x0 + self.scale * (conditional.x0 - null.x0))
