"""Where training looks: a time in (0, 1] for every sample, from the sample's own noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from langevin.randomness import Noise

# floor(2^64 / golden ratio) as a signed integer: multiples of it, taken mod 2^64, fill the circle evenly
_GOLDEN = 0x9E3779B97F4A7C15 - 2**64


class Times(Protocol):
    def __call__(self, noise: Noise) -> Tensor:
        """(B,) float64 times, one for each of the noise's samples."""
        ...


@dataclass(frozen=True)
class Uniform:
    """t ~ U(t_min, 1]."""

    t_min: float = 0.0

    def __call__(self, noise: Noise) -> Tensor:
        u = noise.uniform("timestep", noise.keys.ordinals.double())
        return 1 - (1 - self.t_min) * u


@dataclass(frozen=True)
class Stratified:
    """U(t_min, 1] by the Kronecker sequence frac(u + ordinal / golden ratio): any run of n ordinals covers the
    interval with gaps of order 1 / n, on any number of workers, where VDM's stratification (Kingma et al. 2021,
    appendix I.1) needs to know its batch.
    """

    t_min: float = 0.0

    def __call__(self, noise: Noise) -> Tensor:
        ordinals = noise.keys.ordinals
        turns = (((ordinals * _GOLDEN) >> 11) & (2**53 - 1)).double() * 2.0**-53
        start = Noise(type(noise.keys)(noise.keys.seed, torch.zeros_like(ordinals[:1])), noise.scope)
        u = (turns + start.uniform("timestep", ordinals[:1].double())) % 1.0
        return 1 - (1 - self.t_min) * u


@dataclass(frozen=True)
class Discrete:
    """The nodes 1/T, ..., 1 of a chain, each with its share of ``base``'s density. Ho et al. 2020, algorithm 1."""

    steps: int
    base: Times

    def __call__(self, noise: Noise) -> Tensor:
        return (self.base(noise) * self.steps).ceil().clamp(min=1) / self.steps
