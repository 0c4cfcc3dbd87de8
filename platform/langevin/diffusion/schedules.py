"""Noise schedules: two formulas, alpha(t) and sigma(t), t = 0 data, t = 1 noise. All else is derived.

Drift and diffusion of the SDE dx = f x dt + g dw follow from them (Kingma et al. 2021, appendix A):
f = (log alpha)', g^2 = (sigma^2)' - 2 f sigma^2, so VP, sub-VP, VE and flows are schedules and not classes of SDEs.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import jvp

from langevin.diffusion.levels import NoiseLevel


class Schedule(ABC):
    """alpha(t), sigma(t) with strictly decreasing signal-to-noise ratio. t: tensors in [0, 1]; float64 keeps all digits."""

    @abstractmethod
    def __call__(self, t: Tensor) -> NoiseLevel:
        """The noise level at t, of t's shape and dtype."""

    def drift_rate(self, t: Tensor) -> Tensor:
        """f(t) = d log alpha / dt."""
        return _derivative(lambda u: torch.log(self(u).alpha), t)

    def diffusion_sq(self, t: Tensor) -> Tensor:
        """g(t)^2 = d sigma^2 / dt - 2 f(t) sigma^2."""
        t = t.clamp(min=torch.finfo(t.dtype).eps ** 2)  # at 0 itself the derivative of a root is infinite
        return _derivative(lambda u: self(u).sigma ** 2, t) - 2 * self.drift_rate(t) * self(t).sigma ** 2

    def log_snr_rate(self, t: Tensor) -> Tensor:
        """d log(alpha^2 / sigma^2) / dt < 0; -g^2 / sigma^2 of the SDE. Kingma et al. 2021, appendix A."""
        return _derivative(lambda u: self(u).log_snr, t)

    def time(self, log_snr: Tensor) -> Tensor:
        """The t at which the schedule has this log-SNR, by bisection; clipped to [0, 1] outside its range."""
        low, high = torch.zeros_like(log_snr), torch.ones_like(log_snr)
        for _ in range(64):  # halves [0, 1] below the spacing of float64
            middle = (low + high) / 2
            noisier = self(middle).log_snr > log_snr
            low, high = torch.where(noisier, middle, low), torch.where(noisier, high, middle)
        return (low + high) / 2


def _derivative(function: Callable[[Tensor], Tensor], t: Tensor) -> Tensor:
    slope: Tensor = jvp(function, (t,), (torch.ones_like(t),))[1]
    return slope


@dataclass(frozen=True)
class LinearVP(Schedule):
    """VP with beta(t) = beta_min + t (beta_max - beta_min). Song et al. 2021, eq. 33."""

    beta_min: float = 0.1
    beta_max: float = 20.0

    def __call__(self, t: Tensor) -> NoiseLevel:
        log_alpha = -(t**2) * (self.beta_max - self.beta_min) / 4 - t * self.beta_min / 2
        return NoiseLevel(t, torch.exp(log_alpha), _vp_sigma(log_alpha))


@dataclass(frozen=True)
class CosineVP(Schedule):
    """VP with alpha = cos(pi u / 2), u from t_min to t_max: both ends have a finite log-SNR. Nichol & Dhariwal 2021, eq. 17."""

    t_min: float = 0.01
    t_max: float = 0.995

    def __call__(self, t: Tensor) -> NoiseLevel:
        angle = (self.t_min + t * (self.t_max - self.t_min)) * (math.pi / 2)
        return NoiseLevel(t, torch.cos(angle), torch.sin(angle))


@dataclass(frozen=True)
class SubVP(Schedule):
    """LinearVP's alpha with the smaller sigma = 1 - alpha^2. Song et al. 2021, eq. 36."""

    beta_min: float = 0.1
    beta_max: float = 20.0

    def __call__(self, t: Tensor) -> NoiseLevel:
        log_alpha = -(t**2) * (self.beta_max - self.beta_min) / 4 - t * self.beta_min / 2
        return NoiseLevel(t, torch.exp(log_alpha), -torch.expm1(2 * log_alpha))


@dataclass(frozen=True)
class GeometricVE(Schedule):
    """alpha = 1, sigma geometric from sigma_min to sigma_max. Song et al. 2021, eq. 30."""

    sigma_min: float = 0.01
    sigma_max: float = 50.0

    def __call__(self, t: Tensor) -> NoiseLevel:
        return NoiseLevel(t, torch.ones_like(t), self.sigma_min * (self.sigma_max / self.sigma_min) ** t)


@dataclass(frozen=True)
class LinearVE(Schedule):
    """alpha = 1, sigma from sigma_min to sigma_max in equal steps: EDM's time. Karras et al. 2022, table 1."""

    sigma_min: float = 0.002
    sigma_max: float = 80.0

    def __call__(self, t: Tensor) -> NoiseLevel:
        return NoiseLevel(t, torch.ones_like(t), self.sigma_min + t * (self.sigma_max - self.sigma_min))


@dataclass(frozen=True)
class Rectified(Schedule):
    """alpha = 1 - t, sigma = t: straight paths. Liu et al. 2022, eq. 1; zero signal at t = 1."""

    def __call__(self, t: Tensor) -> NoiseLevel:
        return NoiseLevel(t, 1 - t, t)


class Tabulated(Schedule):
    """A discrete chain q(x_i | x_{i-1}) = N(sqrt(1 - beta_i) x_{i-1}, beta_i), i = 1..T. Ho et al. 2020, eq. 2.

    State i lies at t = i / T and t = 0 is the data. Between the nodes log(alpha^2) is linear, which is the VP SDE with
    piecewise constant beta(t): a shorter chain is only a coarser grid, and any t is a valid time.
    betas: (T,) in (0, 1).
    """

    def __init__(self, betas: Tensor) -> None:
        betas = betas.double()
        if betas.ndim != 1 or not bool(((betas > 0) & (betas < 1)).all()):
            raise ValueError(
                f"betas must be a (T,) tensor in (0, 1), found {tuple(betas.shape)} up to {betas.max():.4g}"
            )
        self.steps = len(betas)
        self.log_alpha_sq = torch.cat([torch.zeros(1, dtype=torch.float64), torch.log1p(-betas).cumsum(0)])

    def __call__(self, t: Tensor) -> NoiseLevel:
        table = self.log_alpha_sq.to(t.device)
        place = t.double() * self.steps
        below = place.detach().floor().clamp(0, self.steps - 1)
        left, right = table[below.long()], table[below.long() + 1]
        log_alpha = ((left + (place - below) * (right - left)) / 2).to(t.dtype)
        return NoiseLevel(t, torch.exp(log_alpha), _vp_sigma(log_alpha))

    def time(self, log_snr: Tensor) -> Tensor:
        table = self.log_alpha_sq.to(log_snr.device)
        log_alpha_sq = torch.nn.functional.logsigmoid(log_snr.double()).contiguous()  # alpha^2 of a VP level
        right = torch.searchsorted(-table, -log_alpha_sq).clamp(1, self.steps)
        place = right - 1 + (log_alpha_sq - table[right - 1]) / (table[right] - table[right - 1])
        return (place / self.steps).clamp(0, 1).to(log_snr.dtype)


class Learned(nn.Module, Schedule):
    """VP with log-SNR = -gamma(t), gamma from gamma_min to gamma_max along a learned monotone curve. Kingma et al. 2021, eq. 3-4.

    curve: a network from t to [0, 1], strictly increasing, 0 at 0 and 1 at 1. The bound does not depend on its shape, only
    the variance of its estimate does: after ``reduce_variance_of``, the curve's gradient is that of the squared losses
    (their appendix I.2), while the network's stays that of the losses.
    """

    def __init__(self, curve: nn.Module, gamma_min: float = -13.3, gamma_max: float = 5.0) -> None:
        super().__init__()
        if not gamma_min < gamma_max:
            raise ValueError(f"gamma_min = {gamma_min} must be below gamma_max = {gamma_max}")
        self.curve, self.gamma_min, self.gamma_max = curve, gamma_min, gamma_max
        self._twice_losses: Tensor | None = None

    def gamma(self, t: Tensor) -> Tensor:
        """-log-SNR at t, of t's shape and dtype."""
        share: Tensor = self.curve(t)
        return self.gamma_min + (self.gamma_max - self.gamma_min) * share

    def forward(self, t: Tensor) -> NoiseLevel:
        gamma = self._steered(self.gamma(t))
        log_alpha_sq, log_sigma_sq = nn.functional.logsigmoid(-gamma), nn.functional.logsigmoid(gamma)
        return NoiseLevel(t, torch.exp(log_alpha_sq / 2), torch.exp(log_sigma_sq / 2))

    def log_snr_rate(self, t: Tensor) -> Tensor:
        return -self._steered(_derivative(self.gamma, t))

    def reduce_variance_of(self, losses: Tensor) -> None:
        """losses: (B,), of which the next backward pass is the gradient, in the batch's order."""
        self._twice_losses = 2 * losses.detach()

    def _steered(self, values: Tensor) -> Tensor:
        if values.requires_grad:
            values.register_hook(  # type: ignore[no-untyped-call]
                lambda slope: slope if self._twice_losses is None else slope * self._twice_losses
            )
        return values


def _vp_sigma(log_alpha: Tensor) -> Tensor:
    return torch.sqrt(-torch.expm1(2 * log_alpha))  # expm1: 1 - alpha^2 loses all digits below t = 1e-4


def linear_betas(steps: int) -> Tensor:
    """(T,) float64: 1e-4 to 0.02 at T = 1000, times 1000 / T. Ho et al. 2020, section 4. ValueError where a beta reaches 1."""
    return _proper(torch.linspace(1e-4, 0.02, steps, dtype=torch.float64) * (1000 / steps))


def scaled_linear_betas(steps: int, beta_start: float = 0.0015, beta_end: float = 0.0195) -> Tensor:
    """(T,) float64, linear in sqrt(beta). Rombach et al. 2022 (their code calls it linear)."""
    return _proper(torch.linspace(beta_start**0.5, beta_end**0.5, steps, dtype=torch.float64) ** 2)


def cosine_betas(steps: int, offset: float = 0.008, largest: float = 0.999) -> Tensor:
    """(T,) float64 of alpha^2 = cos^2((u + s) / (1 + s) pi / 2), clipped at ``largest``. Nichol & Dhariwal 2021, eq. 17."""
    u = torch.arange(steps + 1, dtype=torch.float64) / steps
    alpha_sq = torch.cos((u + offset) / (1 + offset) * (math.pi / 2)) ** 2
    return (1 - alpha_sq[1:] / alpha_sq[:-1]).clamp(max=largest)


def sigmoid_betas(
    steps: int, start: float = -3.0, end: float = 3.0, tau: float = 1.0, largest: float = 0.999
) -> Tensor:
    """(T,) float64 of alpha^2 = a sigmoid of -(start + u (end - start)) / tau from 1 to 0. Jabri et al. 2022."""
    u = torch.arange(steps + 1, dtype=torch.float64) / steps
    curve = torch.sigmoid(-(start + u * (end - start)) / tau)
    alpha_sq = (curve - curve[-1]) / (curve[0] - curve[-1])
    return (1 - alpha_sq[1:] / alpha_sq[:-1]).clamp(max=largest)


def _proper(betas: Tensor) -> Tensor:
    if float(betas.max()) >= 1:
        raise ValueError(
            f"T = {len(betas)} steps are too few: the largest beta is {float(betas.max()):.3g}, not below 1"
        )
    return betas
