"""Critically-damped Langevin diffusion: a network for the velocity's score, and how it learns. Dockhorn et al. 2022."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from langevin.diffusion.flow import Divergence, Field
from langevin.diffusion.guidance import for_each
from langevin.diffusion.processes import CriticallyDampedLangevin, Process, Scores
from langevin.diffusion.times import Times
from langevin.protocols import Losses
from langevin.randomness import Noise


class VelocityScoreModel(nn.Module):
    """score_v = -eps / L_vv with eps = that of Gaussian data + F(state, t, cond): a mixed score. Section 3.2.

    L is the Cholesky factor at known data. The Gaussian part is the exact score for x_0 ~ N(0, data_var), the best guess
    that is linear in (x, v), so that F has nothing to do for such data; the paper's own is a function of v alone, the
    score of v over data at a point. network(z, t, cond) -> (B, C, ...) of z: (B, 2 C, ...), positions and velocities,
    each in units of its deviation over such data, and t: (B,) float32.
    """

    def __init__(self, network: nn.Module, process: CriticallyDampedLangevin, data_var: float = 1.0) -> None:
        super().__init__()
        self.network, self.process, self.data_var = network, process, data_var

    @property
    def start(self) -> tuple[float, float]:
        """Sigma_0 of the Gaussian data."""
        return self.data_var, self.process.hybrid[1]

    def eps(self, x: Tensor, t: Tensor, cond: Any = None) -> Tensor:
        """E[eps_v | state], (B, C, ...). x: (B, 2, C, ...); t: () or (B,) float64."""
        t = t.expand(len(x))
        given = self.process.cholesky(t, self.process.hybrid)[:, 1, 1]
        marginal = self.process.cholesky(t, self.start)
        slope = marginal[:, 1, 0] / marginal[:, 0, 0]  # E[v | x] = slope x
        gain = given / marginal[:, 1, 1] ** 2
        gaussian = _shaped(gain, x[:, 1]) * (x[:, 1] - _shaped(slope, x[:, 1]) * x[:, 0])
        deviations = torch.diagonal(self.process.covariance(t, self.start), dim1=-2, dim2=-1).sqrt()
        scaled = x / deviations.to(x).reshape(-1, 2, *(1,) * (x.ndim - 2))
        residual: Tensor = self.network(scaled.flatten(1, 2), t.to(x), cond)
        return gaussian + residual

    def score(self, x: Tensor, t: Tensor, cond: Any = None) -> Tensor:
        """grad_v log q(state at t), (B, C, ...)."""
        given = self.process.cholesky(t.expand(len(x)), self.process.hybrid)[:, 1, 1]
        return -self.eps(x, t, cond) / _shaped(given, x[:, 1])


@dataclass(frozen=True)
class GuidedScore:
    """score = null + scale (cond - null), as ``guidance.ClassifierFree`` of denoisers. Ho & Salimans 2022, eq. 6."""

    base: Scores
    scale: float
    null: Any = None

    @property
    def process(self) -> Process:
        return self.base.process

    def score(self, x: Tensor, t: Tensor, cond: Any = None) -> Tensor:
        if self.scale == 1:
            return self.base.score(x, t, cond)
        null = self.base.score(x, t, for_each(self.null, x))
        return null if self.scale == 0 else null + self.scale * (self.base.score(x, t, cond) - null)


@dataclass(frozen=True)
class VelocityScore:
    """E_t mean ||eps_v - eps_hat||^2 over diffused data: hybrid score matching, every time alike. Section 3.1.

    In units of noise variance per dimension; the weight L_vv^2 on the error of the score, where maximum likelihood asks
    for Gamma beta.
    """

    times: Times

    def __call__(self, model: VelocityScoreModel, x0: Tensor, cond: Any, noise: Noise) -> Losses:
        """(B,) losses of the images x0: (B, C, ...), a pure function of the weights, the images and the noise's keys."""
        t = self.times(noise)
        eps = noise.normal("forward", torch.stack([x0, x0], 1))
        error = eps[:, 1] - model.eps(model.process.diffuse(x0, eps, t), t, cond)
        return Losses(total=error.square().flatten(1).mean(1), terms={"time": t})


@dataclass(frozen=True)
class VelocityDivergence:
    """The divergence of a damped flow, whose positions have none of their own (dx/dt = beta v / M), by its velocities alone.

    Half of the Exact passes; and Hutchinson's probes would else pay for p_x p_v beta (1/M - 1), which is nothing in the mean
    and more than the whole log-likelihood in its deviation.
    """

    base: Divergence

    def __call__(self, field: Field, x: Tensor) -> tuple[Tensor, Tensor]:
        """field(x) and its divergence at x: (B, 2, ...) and (B,) float64."""
        slopes = []

        def driven(velocity: Tensor) -> Tensor:
            slopes.append(field(torch.cat([x[:, :1], velocity], 1)))
            return slopes[0][:, 1:]

        _, trace = self.base(driven, x[:, 1:])
        return slopes[0].detach(), trace


def _shaped(values: Tensor, x: Tensor) -> Tensor:
    """(B,) values in x's dtype, shaped to multiply x: (B, ...)."""
    return values.to(x).reshape((-1,) + (1,) * (x.ndim - 1))
