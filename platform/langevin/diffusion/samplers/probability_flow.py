"""The probability flow by an adaptive solver."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torchdiffeq import odeint

from langevin.diffusion.denoiser import Denoises
from langevin.diffusion.flow import velocity
from langevin.diffusion.processes import Scores
from langevin.randomness import Noise


@dataclass(frozen=True)
class ProbabilityFlow:
    """dx/dt = f - g^2 score / 2 from t to s by Dormand-Prince's method of order 5. Song et al. 2021, eq. 13.

    s needs noise, sigma_s > 0: the velocity has no value at the data. The solver chooses its steps by the error of the whole
    batch: a sample moves with its neighbours by the tolerance, which no sampler of fixed steps does.
    """

    rtol: float = 1e-5
    atol: float = 1e-5

    def __call__(self, model: Denoises | Scores, x: Tensor, t: Tensor, s: Tensor, cond: Any, noise: Noise) -> Tensor:
        times = torch.stack([t, s]).to(device=x.device, dtype=torch.float64)
        # step_t: without it the last step would look at the model beyond s, where there may be no level
        end: Tensor = odeint(
            lambda time, state: velocity(model, state.to(x.dtype), time, cond).double(), x.double(), times,
            rtol=self.rtol, atol=self.atol, method="dopri5", options={"step_t": times[-1:]},
        )[-1]  # fmt: skip
        return end.to(x.dtype)
