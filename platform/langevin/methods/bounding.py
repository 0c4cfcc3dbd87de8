"""How a method's likelihood is bounded: the variational bound of a chain, its limit of infinitely many steps, the flow."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from langevin.diffusion.denoiser import Clamped, Denoises
from langevin.diffusion.likelihood import (
    Hutchinson,
    continuous_bound,
    dequantised_bound,
    log_prob_ode,
    stratified_bound,
)
from langevin.diffusion.variance import ReverseVariance
from langevin.protocols import Bound, Cond
from langevin.randomness import Noise


@dataclass(frozen=True)
class Chain:
    """The bound of the chain with the grid's times (n + 1,), of whose terms ``calls`` are looked at for each image."""

    grid: Tensor
    variance: ReverseVariance
    levels: int
    calls: int

    def __call__(self, model: Denoises, x0: Tensor, cond: Cond, noise: Noise) -> Bound:
        model = Clamped(model)  # at alpha ~ 0 an unclamped D is noise / alpha
        return stratified_bound(model, x0, cond, noise, self.grid, self.variance, self.levels, self.calls)


@dataclass(frozen=True)
class Continuous:
    """The continuous-time bound by ``calls`` looks an image, down to t = ``last``. Kingma et al. 2021, eq. 11."""

    levels: int
    calls: int
    last: float = 0.0

    def __call__(self, model: Denoises, x0: Tensor, cond: Cond, noise: Noise) -> Bound:
        return continuous_bound(Clamped(model), x0, cond, noise, self.levels, self.calls, self.last)


@dataclass(frozen=True)
class Flow:
    """The density of dequantised images along the probability flow, from t_min to 1. Song et al. 2021, section 4.3.

    draws: of the dequantisation; probes: of the divergence's trace; tolerance: of the solver, relative and absolute.
    """

    levels: int
    draws: int
    probes: int
    t_min: float
    tolerance: float

    def __call__(self, model: Denoises, x0: Tensor, cond: Cond, noise: Noise) -> Bound:
        def log_prob(x: Tensor, scope: Noise) -> Tensor:
            divergence = Hutchinson(scope, self.probes)
            return log_prob_ode(model, x, cond, divergence, self.t_min, self.tolerance, self.tolerance)

        return dequantised_bound(log_prob, x0, noise, self.levels, self.draws)
