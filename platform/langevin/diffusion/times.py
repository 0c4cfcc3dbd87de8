"""Where training looks: a time in (0, 1] for every sample, from the sample's own noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from langevin.diffusion.schedules import Schedule
from langevin.randomness import Keys, Noise

# floor(2^64 / golden ratio) as a signed integer: multiples of it, taken mod 2^64, fill the circle evenly
_GOLDEN = 0x9E3779B97F4A7C15 - 2**64


class Times(Protocol):
    def __call__(self, noise: Noise) -> Tensor:
        """(B,) float64 times, one for each of the noise's samples."""
        ...

    def density(self, t: Tensor) -> Tensor:
        """Of the times, relative to the uniform one on (0, 1] (for a chain: on its nodes). (B,) float64."""
        ...


@dataclass(frozen=True)
class Uniform:
    """t ~ U(t_min, 1]."""

    t_min: float = 0.0

    def __call__(self, noise: Noise) -> Tensor:
        u = noise.uniform("timestep", noise.keys.ordinals.double())
        return 1 - (1 - self.t_min) * u

    def density(self, t: Tensor) -> Tensor:
        return torch.full_like(t, 1 / (1 - self.t_min))


@dataclass(frozen=True)
class Stratified(Uniform):
    """U(t_min, 1] by the Kronecker sequence frac(u + ordinal / golden ratio): any run of n ordinals covers the
    interval with gaps of order 1 / n, on any number of workers, where VDM's stratification (Kingma et al. 2021,
    appendix I.1) needs to know its batch.
    """

    def __call__(self, noise: Noise) -> Tensor:
        ordinals = noise.keys.ordinals
        turns = (((ordinals * _GOLDEN) >> 11) & (2**53 - 1)).double() * 2.0**-53
        u = (turns + _shared(noise, torch.zeros_like(ordinals[:1]))) % 1.0
        return 1 - (1 - self.t_min) * u


@dataclass(frozen=True)
class Antithetic(Uniform):
    """U(t_min, 1] by t = (u + i / n) mod 1: each n samples in a row, ordinals k n to k n + n - 1, share one u.

    Kingma et al. 2021, appendix I.1, for batches of ``count`` = n. Evenly spaced within the batch, left to chance between
    two of them.
    """

    count: int = 2

    def __call__(self, noise: Noise) -> Tensor:
        ordinals = noise.keys.ordinals
        place = (ordinals % self.count).double() / self.count
        u = (place + _shared(noise, ordinals // self.count)) % 1.0
        return 1 - (1 - self.t_min) * u


@dataclass(frozen=True)
class Discrete:
    """The nodes 1/T, ..., 1 of a chain, each with its share of ``base``'s density. Ho et al. 2020, algorithm 1."""

    steps: int
    base: Uniform

    def __call__(self, noise: Noise) -> Tensor:
        return (self.base(noise) * self.steps).ceil().clamp(min=1) / self.steps

    def density(self, t: Tensor) -> Tensor:
        """T times the node's probability."""
        low = self.base.t_min * self.steps
        return (t * self.steps - low).clamp(0, 1) * self.base.density(t)


@dataclass(frozen=True)
class Ladder:
    """The levels t = 0, 1 / (n - 1), ..., 1, equally likely: a schedule whose t = 0 is noisy has one there too.

    Song & Ermon 2019, section 4.2.
    """

    levels: int
    base: Uniform = Stratified()

    def __call__(self, noise: Noise) -> Tensor:
        return ((self.base(noise) * self.levels).ceil().clamp(min=1) - 1) / (self.levels - 1)

    def density(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)


@dataclass(frozen=True)
class LogNormalSigma:
    """ln(sigma / alpha) ~ N(mean, deviation^2), of which what lies beyond the schedule's ends is left out.

    Karras et al. 2022, section 5.
    """

    schedule: Schedule
    mean: float = -1.2
    deviation: float = 1.2
    base: Uniform = Stratified()

    def __call__(self, noise: Noise) -> Tensor:
        low, high = self._ends()
        u = low + (high - low) * (1 - self.base(noise)) / (1 - self.base.t_min)
        z = torch.special.ndtri(u.clamp(2.0**-53, 1 - 2.0**-53))  # 0 and 1 are no levels
        return self.schedule.time(-2 * (self.mean + self.deviation * z))

    def density(self, t: Tensor) -> Tensor:
        low, high = self._ends()
        slope = -0.5 * self.schedule.log_snr_rate(t) / self.deviation  # dz / dt
        return torch.exp(-0.5 * self._z(t) ** 2) / math.sqrt(2 * math.pi) * slope / (high - low)

    def _z(self, t: Tensor) -> Tensor:
        return (-0.5 * self.schedule(t).log_snr - self.mean) / self.deviation

    def _ends(self) -> tuple[Tensor, Tensor]:
        ends = torch.special.ndtr(self._z(torch.tensor([0.0, 1.0], dtype=torch.float64)))
        return ends[0], ends[1]


@dataclass(frozen=True)
class UniformLogSNR:
    """log-SNR uniform between the schedule's ends (those at t_min and 1). Kingma et al. 2021, section 5.1."""

    schedule: Schedule
    base: Uniform = Stratified()

    def __call__(self, noise: Noise) -> Tensor:
        low, high = self._ends()
        u = (self.base(noise) - self.base.t_min) / (1 - self.base.t_min)
        return self.schedule.time(high + u * (low - high))

    def density(self, t: Tensor) -> Tensor:
        low, high = self._ends()
        return self.schedule.log_snr_rate(t) / (low - high)

    def _ends(self) -> tuple[Tensor, Tensor]:
        ends = self.schedule(torch.tensor([1.0, self.base.t_min], dtype=torch.float64)).log_snr
        return ends[0], ends[1]


class LossAware(nn.Module):
    """The nodes i / T of a chain, each as likely as its losses are large. Nichol & Dhariwal 2021, section 3.3.

    p_i ~ root of the mean of the last ``memory`` squared losses, mixed with ``floor`` of the uniform one; uniform until
    every node has that many. The history is a buffer: it is saved and loaded with the model that holds it.
    """

    def __init__(self, steps: int, memory: int = 10, floor: float = 0.001) -> None:
        super().__init__()
        self.steps, self.memory, self.floor = steps, memory, floor
        self.register_buffer("losses", torch.zeros(steps, memory, dtype=torch.float64))
        self.register_buffer("seen", torch.zeros(steps, dtype=torch.int64))

    def probabilities(self) -> Tensor:
        """(T,) float64, of the nodes 1 / T, ..., 1."""
        losses, seen = self.get_buffer("losses"), self.get_buffer("seen")
        if bool((seen < self.memory).any()):
            return torch.full_like(losses[:, 0], 1 / self.steps)
        size = losses.square().mean(1).sqrt()
        return (1 - self.floor) * size / size.sum() + self.floor / self.steps

    def forward(self, noise: Noise) -> Tensor:
        edges = self.probabilities().cumsum(0)
        u = noise.uniform("timestep", noise.keys.ordinals.double())
        node = torch.searchsorted(edges, u * edges[-1], right=True).clamp(max=self.steps - 1)
        return (node + 1).double() / self.steps

    def density(self, t: Tensor) -> Tensor:
        """T p_i."""
        return self.steps * self.probabilities()[self._node(t)]

    def learn(self, t: Tensor, losses: Tensor) -> None:
        """Takes note of losses (B,) at times t (B,), one after the other; each node keeps its newest ones."""
        history, seen = self.get_buffer("losses"), self.get_buffer("seen")
        for node, loss in zip(self._node(t).tolist(), losses.tolist(), strict=True):
            history[node, int(seen[node]) % self.memory] = loss
            seen[node] += 1

    def _node(self, t: Tensor) -> Tensor:
        return (t * self.steps).round().long() - 1


def _shared(noise: Noise, groups: Tensor) -> Tensor:
    """(n,) uniform numbers that belong to groups of samples and not to the samples."""
    return Noise(Keys(noise.keys.seed, groups), noise.scope).uniform("timestep", groups.double())
