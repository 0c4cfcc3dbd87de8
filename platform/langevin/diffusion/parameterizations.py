"""What a network predicts, as four coefficients of the noise level: D(x_t) = skip x_t + out F(in x_t, noise).

Karras et al. 2022, eq. 7. Noise and score need alpha > 0; velocity and data serve a schedule of zero terminal SNR too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from langevin.diffusion.levels import NoiseLevel


@dataclass(frozen=True)
class Coefficients:
    """skip, out, scale (of the input) and noise (what the network is told of the level), each of the level's shape."""

    skip: Tensor
    out: Tensor
    scale: Tensor
    noise: Tensor


class Parameterization(Protocol):
    def __call__(self, level: NoiseLevel) -> Coefficients: ...


@dataclass(frozen=True)
class Noise:
    """F = eps. Ho et al. 2020, eq. 11."""

    def __call__(self, level: NoiseLevel) -> Coefficients:
        one = torch.ones_like(level.t)
        return Coefficients(one / level.alpha, -level.sigma / level.alpha, one, level.t)


@dataclass(frozen=True)
class Data:
    """F = x_0."""

    def __call__(self, level: NoiseLevel) -> Coefficients:
        one = torch.ones_like(level.t)
        return Coefficients(0 * one, one, one, level.t)


@dataclass(frozen=True)
class Velocity:
    """F = alpha eps - sigma x_0 for VP. Salimans & Ho 2022, section 4; divided by alpha^2 + sigma^2 on other schedules."""

    def __call__(self, level: NoiseLevel) -> Coefficients:
        power = level.alpha**2 + level.sigma**2
        return Coefficients(level.alpha / power, -level.sigma / power, torch.ones_like(level.t), level.t)


@dataclass(frozen=True)
class Score:
    """F = grad log q(x_t). Song et al. 2021, eq. 7."""

    def __call__(self, level: NoiseLevel) -> Coefficients:
        one = torch.ones_like(level.t)
        return Coefficients(one / level.alpha, level.sigma**2 / level.alpha, one, level.t)


@dataclass(frozen=True)
class Karras:
    """Unit variance in and out at every level. Karras et al. 2022, table 1, with sigma / alpha for their sigma."""

    sigma_data: float = 0.5

    def __call__(self, level: NoiseLevel) -> Coefficients:
        sigma, data = level.sigma / level.alpha, self.sigma_data
        power = sigma**2 + data**2
        skip = data**2 / power / level.alpha
        return Coefficients(skip, sigma * data / power.sqrt(), 1 / (level.alpha * power.sqrt()), sigma.log() / 4)


@dataclass(frozen=True)
class Flow:
    """F = eps - x_0, the straight path's velocity. Liu et al. 2022, eq. 1; divided by alpha + sigma on other schedules."""

    def __call__(self, level: NoiseLevel) -> Coefficients:
        size = level.alpha + level.sigma
        return Coefficients(1 / size, -level.sigma / size, torch.ones_like(level.t), level.t)


@dataclass(frozen=True)
class Blind:
    """A network that is not told the noise level. Song & Ermon 2020, technique 3 (their score F / sigma is base Noise, -F)."""

    base: Parameterization

    def __call__(self, level: NoiseLevel) -> Coefficients:
        return replace(self.base(level), noise=torch.zeros_like(level.t))


@dataclass(frozen=True)
class UnitInput:
    """A network whose input has unit variance at every level, for data of unit variance. Karras et al. 2022, eq. 117's c_in."""

    base: Parameterization

    def __call__(self, level: NoiseLevel) -> Coefficients:
        given = self.base(level)
        return replace(given, scale=given.scale / torch.sqrt(level.alpha**2 + level.sigma**2))


@dataclass(frozen=True)
class ToldLogSNR:
    """A network that is told the log-SNR: 0 at ``high``, 1 at ``low``, whatever the time. Kingma et al. 2021, appendix B."""

    base: Parameterization
    low: float
    high: float

    def __call__(self, level: NoiseLevel) -> Coefficients:
        return replace(self.base(level), noise=(self.high - level.log_snr) / (self.high - self.low))


def needs_signal(parameterization: Parameterization) -> bool:
    """Whether D is undefined at alpha = 0: what the network predicts says nothing of x_0 there."""
    level = NoiseLevel(*torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64))
    found = parameterization(level)
    return not bool(torch.isfinite(found.skip) & torch.isfinite(found.out))
