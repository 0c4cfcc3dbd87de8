"""Diffusion processes as linear SDEs dx = f(x, t) dt + G(t) dw, from the data at t = 0 to a Gaussian at t = 1.

Samplers that follow the score (Euler-Maruyama, the probability flow, SSCS) and the likelihood along the flow ask no more
of a model than ``Scores``: the process and the score of the part that noise drives. That part is the whole state of an
isotropic process and the velocity of a damped one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from langevin.diffusion.denoiser import Denoises
from langevin.diffusion.schedules import Schedule
from langevin.randomness import Noise


class Process(Protocol):
    """x: (B, ...) a state; t: () or (B,) float64."""

    def drift(self, x: Tensor, t: Tensor) -> Tensor:
        """f(x, t), a state."""
        ...

    def diffusion_sq(self, t: Tensor) -> Tensor:
        """g(t)^2 >= 0, of t's shape: G(t) w = g(t) ``drive`` (w)."""
        ...

    def driven(self, x: Tensor) -> Tensor:
        """The part of the state that noise drives: where the score lives."""
        ...

    def drive(self, w: Tensor) -> Tensor:
        """The state that is w in the driven part and 0 elsewhere."""
        ...

    def prior(self, noise: Noise, like: Tensor) -> Tensor:
        """A draw of the state at t = 1 for data of like's shape (B, ...)."""
        ...

    def prior_log_prob(self, x: Tensor) -> Tensor:
        """(B,) float64 log-density of the prior, in nats."""
        ...


@runtime_checkable
class Scores(Protocol):
    """A model of grad log q(x_t) for the driven part of the process's state."""

    @property
    def process(self) -> Process: ...

    def score(self, x: Tensor, t: Tensor, cond: Any = None) -> Tensor: ...


@dataclass(frozen=True)
class IsotropicProcess:
    """dx = f(t) x dt + g(t) dw with the schedule's f and g. Song et al. 2021, eq. 5 and section 3.4."""

    schedule: Schedule

    def drift(self, x: Tensor, t: Tensor) -> Tensor:
        return _against(self.schedule.drift_rate(t), x) * x

    def diffusion_sq(self, t: Tensor) -> Tensor:
        return self.schedule.diffusion_sq(t)

    def driven(self, x: Tensor) -> Tensor:
        return x

    def drive(self, w: Tensor) -> Tensor:
        return w

    def prior(self, noise: Noise, like: Tensor) -> Tensor:
        return prior_deviation(self.schedule).to(like) * noise.normal("prior", like)

    def prior_log_prob(self, x: Tensor) -> Tensor:
        return normal_log_prob(x, prior_deviation(self.schedule).to(x.device))


@dataclass(frozen=True)
class CriticallyDampedLangevin:
    """du = beta K u dt + sqrt(2 Gamma beta) (0, dw), u = (x, v), K = [[0, 1/M], [-1, -Gamma/M]], Gamma = 2 sqrt(M).

    Dockhorn et al. 2022, eq. 5. The state is (B, 2, ...): the data and a velocity that starts as N(0, gamma M); noise
    enters by the velocity alone, and all comes to rest at N(0, diag(1, M)). With w = 1/sqrt(M), u = w beta t and velocities
    in units of sqrt(M), (K + w)^2 = 0 makes the moments short (their appendix B.1):

        E = e^-u [[1 + u, u], [-u, 1 - u]],    N = [[P, c], [c, P + 4 u e^-2u]],    P = gammainc(3, 2u), c = 2 u^2 e^-2u,

    the mean's matrix and the noise that came in since. P = 1 - e^-2u (1 + 2u + 2u^2) ~ 4/3 u^3 keeps its digits as the
    incomplete gamma function. Sigma_0 is diagonal: a pair (variance of x, variance of v).
    """

    beta: float = 4.0
    mass: float = 0.25
    gamma: float = 0.04

    @property
    def friction(self) -> float:
        """Gamma, at which the oscillation just dies."""
        return 2 * math.sqrt(self.mass)

    @property
    def hybrid(self) -> tuple[float, float]:
        """Sigma_0 for known data and unknown velocity: hybrid score matching. Dockhorn et al. 2022, section 3.1."""
        return 0.0, self.gamma * self.mass

    def mean_matrix(self, t: Tensor) -> Tensor:
        """E = exp(beta t K): E[u_t] = E u_0. (..., 2, 2) for t: (...)."""
        u, root = self._angle(t), math.sqrt(self.mass)
        return torch.exp(-u)[..., None, None] * _matrix(1 + u, u / root, -u * root, 1 - u)

    def covariance(self, t: Tensor, initial: tuple[float, float]) -> Tensor:
        """Sigma_t = diag(1, M) + E (Sigma_0 - diag(1, M)) E^T, as E Sigma_0 E^T + N. (..., 2, 2) for t: (...)."""
        (xx, xv, vv), root = self._variances(self._angle(t), initial), math.sqrt(self.mass)
        return _matrix(xx, xv * root, xv * root, vv * self.mass)

    def cholesky(self, t: Tensor, initial: tuple[float, float]) -> Tensor:
        """Lower triangular L with L L^T = Sigma_t. (..., 2, 2) for t: (...).

        At known data det Sigma ~ gamma u^3 is small against Sigma_xx Sigma_vv ~ gamma^2 u^2; it is summed from parts of
        its own size: det N and, for each column e of E, N's quadratic form of e turned by a right angle.
        """
        u, root = self._angle(t).clamp(min=1e-30), math.sqrt(self.mass)  # at 0 itself L_xv is 0 / 0
        (nxx, nxv, nvv), (sxx, sxv, _) = self._variances(u, (0.0, 0.0)), self._variances(u, initial)
        position, velocity = initial[0], initial[1] / self.mass
        decay = torch.exp(-2 * u)
        determinant = (
            (nxx * nvv - nxv**2)
            + position * decay * (nvv * (1 + u) ** 2 + 2 * nxv * (1 + u) * u + nxx * u**2)
            + velocity * decay * (nvv * u**2 - 2 * nxv * u * (1 - u) + nxx * (1 - u) ** 2)
            + position * velocity * decay**2
        )
        wide = sxx.sqrt()
        return _matrix(wide, torch.zeros_like(u), root * sxv / wide, root * determinant.sqrt() / wide)

    def evolve(self, x: Tensor, eps: Tensor, elapsed: Tensor, initial: tuple[float, float] = (0.0, 0.0)) -> Tensor:
        """E x + L eps after a time ``elapsed``, () or (B,): a draw of the process that was at x, in a cloud of Sigma_0."""
        return _mixed(self.mean_matrix(elapsed), x) + _mixed(self.cholesky(elapsed, initial), eps)

    def diffuse(self, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """The state at t over the data x0: (B, ...), its first velocity averaged out. eps: (B, 2, ...)."""
        return self.evolve(torch.stack([x0, torch.zeros_like(x0)], 1), eps, t, self.hybrid)

    def expected_data(self, x: Tensor, score: Tensor, t: Tensor) -> Tensor:
        """E[x_0 | u_t] by the score of the velocity, (B, ...): what ``diffuse`` says of x_0 where eps_v = -L_vv score.

        With r = L_vx / L_xx: v - r x + L_vv^2 score = (E_vx - r E_xx) x_0.
        """
        mean, lower = self.mean_matrix(t), self.cholesky(t, self.hybrid)
        r = lower[..., 1, 0] / lower[..., 0, 0]
        known = x[:, 1] - _against(r, score) * x[:, 0] + _against(lower[..., 1, 1] ** 2, score) * score
        return known / _against(mean[..., 1, 0] - r * mean[..., 0, 0], score)

    def drift(self, x: Tensor, t: Tensor) -> Tensor:
        position, velocity = x[:, 0], x[:, 1] / self.mass
        return self.beta * torch.stack([velocity, -position - self.friction * velocity], 1)

    def diffusion_sq(self, t: Tensor) -> Tensor:
        return torch.full_like(t, 2 * self.friction * self.beta)

    def driven(self, x: Tensor) -> Tensor:
        return x[:, 1]

    def drive(self, w: Tensor) -> Tensor:
        return torch.stack([torch.zeros_like(w), w], 1)

    def prior(self, noise: Noise, like: Tensor) -> Tensor:
        position, velocity = noise.normal("prior", like), noise.normal("prior/velocity", like)
        return torch.stack([position, math.sqrt(self.mass) * velocity], 1)

    def prior_log_prob(self, x: Tensor) -> Tensor:
        one = torch.ones((), dtype=torch.float64, device=x.device)
        return normal_log_prob(x[:, 0], one) + normal_log_prob(x[:, 1], math.sqrt(self.mass) * one)

    def _angle(self, t: Tensor) -> Tensor:
        """u = w tau, tau = beta t."""
        return t * (self.beta / math.sqrt(self.mass))

    def _variances(self, u: Tensor, initial: tuple[float, float]) -> tuple[Tensor, Tensor, Tensor]:
        """Sigma_xx, Sigma_xv, Sigma_vv with velocities in units of sqrt(M)."""
        position, velocity = initial[0], initial[1] / self.mass
        decay = torch.exp(-2 * u)
        arrived = torch.special.gammainc(torch.full_like(u, 3.0), 2 * u)
        xx = arrived + decay * (position * (1 + u) ** 2 + velocity * u**2)
        xv = decay * (2 * u**2 - position * (1 + u) * u + velocity * u * (1 - u))
        vv = arrived + decay * (4 * u + position * u**2 + velocity * (1 - u) ** 2)
        return xx, xv, vv


@dataclass(frozen=True)
class Tweedie:
    """The score that a denoiser implies: (alpha D - x) / sigma^2. Robbins 1956; Vincent 2011."""

    base: Denoises

    @property
    def process(self) -> IsotropicProcess:
        return IsotropicProcess(self.base.schedule)

    def score(self, x: Tensor, t: Tensor, cond: Any = None) -> Tensor:
        at = self.base.schedule(t).against(x)
        return (at.alpha * self.base(x, t, cond).x0 - x) / at.sigma**2


def scores(model: Denoises | Scores) -> Scores:
    """The model itself where it has a score, else the score of its denoiser."""
    return model if isinstance(model, Scores) else Tweedie(model)


def prior_deviation(schedule: Schedule, start: float = 1.0) -> Tensor:
    """() float64: 1 where the variance is preserved, sigma at ``start`` where it explodes. Song et al. 2021, appendix C."""
    return schedule(torch.tensor(start, dtype=torch.float64)).sigma.clamp(min=1.0)


def normal_log_prob(x: Tensor, deviation: Tensor) -> Tensor:
    """(B,) float64 log-density of x: (B, ...) under N(0, deviation^2), in nats."""
    dims = x[0].numel()
    squares = (x.double() / deviation.double()).square().flatten(1).sum(1)
    return -0.5 * squares - dims * (torch.log(deviation.double()) + 0.5 * math.log(2 * math.pi))


def _against(values: Tensor, x: Tensor) -> Tensor:
    """() or (B,) values in x's dtype, shaped to multiply x: (B, ...)."""
    return values.to(x).reshape((-1,) + (1,) * (x.ndim - 1))


def _matrix(xx: Tensor, xv: Tensor, vx: Tensor, vv: Tensor) -> Tensor:
    """(..., 2, 2) of four (...)."""
    return torch.stack([torch.stack([xx, xv], -1), torch.stack([vx, vv], -1)], -2)


def _mixed(matrix: Tensor, x: Tensor) -> Tensor:
    """(2, 2) or (B, 2, 2) times the pairs x: (B, 2, ...), in x's dtype."""
    rows = matrix.to(x).reshape(-1, 2, 2, *(1,) * (x.ndim - 2))
    return rows[:, :, 0] * x[:, :1] + rows[:, :, 1] * x[:, 1:]
