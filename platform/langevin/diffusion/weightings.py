"""How much training cares: a weight on ||eps - eps_hat||^2 = snr ||x_0 - D||^2 at each noise level."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from langevin.diffusion.levels import NoiseLevel
from langevin.diffusion.schedules import Schedule


class Weighting(Protocol):
    def __call__(self, level: NoiseLevel) -> Tensor:
        """Weights of the level's shape."""
        ...


@dataclass(frozen=True)
class Simple:
    """1: the noise error as it is. Ho et al. 2020, eq. 14."""

    def __call__(self, level: NoiseLevel) -> Tensor:
        return torch.ones_like(level.t)


@dataclass(frozen=True)
class DataError:
    """exp(-log_snr): the error of x_0."""

    def __call__(self, level: NoiseLevel) -> Tensor:
        return torch.exp(-level.log_snr)


@dataclass(frozen=True)
class VelocityError:
    """1 + exp(-log_snr): the error of v on a VP schedule. Salimans & Ho 2022, section 4."""

    def __call__(self, level: NoiseLevel) -> Tensor:
        return 1 + torch.exp(-level.log_snr)


@dataclass(frozen=True)
class MinSNR:
    """min(snr, gamma) / snr, whatever the network predicts. Hang et al. 2023, eq. 8."""

    gamma: float = 5.0

    def __call__(self, level: NoiseLevel) -> Tensor:
        return torch.clamp(self.gamma * torch.exp(-level.log_snr), max=1.0)


@dataclass(frozen=True)
class TruncatedSNR:
    """max(snr, 1) on the error of x_0, so max(1, 1 / snr) here. Salimans & Ho 2022, section 4."""

    def __call__(self, level: NoiseLevel) -> Tensor:
        return torch.exp(-level.log_snr).clamp(min=1.0)


@dataclass(frozen=True)
class SoftMinSNR:
    """gamma / (snr + gamma): min-SNR without its corner. Crowson et al. 2024, section 3.4."""

    gamma: float = 5.0

    def __call__(self, level: NoiseLevel) -> Tensor:
        return self.gamma / (torch.exp(level.log_snr) + self.gamma)


@dataclass(frozen=True)
class P2:
    """1 / (k + snr)^gamma: less care for imperceptible detail. Choi et al. 2022, eq. 8."""

    gamma: float = 1.0
    k: float = 1.0

    def __call__(self, level: NoiseLevel) -> Tensor:
        return (self.k + torch.exp(level.log_snr)) ** -self.gamma


@dataclass(frozen=True)
class EDM:
    """1 + (sigma / alpha)^2 / sigma_data^2: unit weight on the network's own error. Karras et al. 2022, table 1."""

    sigma_data: float = 0.5

    def __call__(self, level: NoiseLevel) -> Tensor:
        return 1 + torch.exp(-level.log_snr) / self.sigma_data**2


@dataclass(frozen=True)
class FlowError:
    """(1 + sigma / alpha)^2: the error of eps - x_0 where alpha + sigma = 1. Liu et al. 2022, eq. 1."""

    def __call__(self, level: NoiseLevel) -> Tensor:
        return (1 + torch.exp(-level.log_snr / 2)) ** 2


@dataclass(frozen=True)
class Likelihood:
    """g^2 / sigma^2, twice the bound's integrand. Song et al. 2021 (maximum likelihood), theorem 1."""

    schedule: Schedule

    def __call__(self, level: NoiseLevel) -> Tensor:
        return -self.schedule.log_snr_rate(level.t)
