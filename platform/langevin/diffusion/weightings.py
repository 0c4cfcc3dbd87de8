"""How much training cares: a weight on ||eps - eps_hat||^2 = snr ||x_0 - D||^2 at each noise level."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from langevin.diffusion.levels import NoiseLevel


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
