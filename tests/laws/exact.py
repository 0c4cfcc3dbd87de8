"""Data whose denoiser is known in closed form, networks made of it, and noise that a test can hold in its hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from langevin.diffusion.denoiser import Denoises, Prediction
from langevin.diffusion.levels import NoiseLevel
from langevin.diffusion.samplers import Sampler, walk
from langevin.diffusion.schedules import (
    CosineVP,
    GeometricVE,
    LinearVE,
    LinearVP,
    Rectified,
    Schedule,
    SubVP,
    Tabulated,
    cosine_betas,
    linear_betas,
    scaled_linear_betas,
)
from langevin.randomness import Keys, Noise

SCHEDULES: dict[str, Schedule] = {
    "linear VP": LinearVP(),
    "cosine VP": CosineVP(),
    "sub-VP": SubVP(),
    "geometric VE": GeometricVE(),
    "linear VE": LinearVE(),
    "rectified": Rectified(),
    "linear chain": Tabulated(linear_betas(1000)),
    "cosine chain": Tabulated(cosine_betas(1000)),
    "scaled linear chain": Tabulated(scaled_linear_betas(1000)),
}


def float64(*values: float) -> Tensor:
    """() of one value, (n,) of several."""
    return torch.tensor(values if len(values) > 1 else values[0], dtype=torch.float64)


@dataclass(frozen=True)
class Normal:
    """x_0 ~ N(mean, var), each element by itself: D is a line in x_t."""

    schedule: Schedule
    mean: float = 0.3
    var: float = 0.49

    def __call__(self, x: Tensor, t: Tensor, cond: Any = None) -> Prediction:
        at = self.schedule(t.expand(len(x))).against(x)
        gain = self.var * at.alpha / (at.alpha**2 * self.var + at.sigma**2)
        return Prediction(self.mean + gain * (x - at.alpha * self.mean))

    def deviation(self, t: Tensor) -> Tensor:
        """Of x_t."""
        level = self.schedule(t)
        return torch.sqrt(level.alpha**2 * self.var + level.sigma**2)


@dataclass(frozen=True)
class Mixture:
    """Components N(means[k], vars[k]) of the given weights. cond: (B,) which component, None for all of them.

    x: (B, ...), each element by itself. Variance 0 makes points of the components: data on grey levels.
    """

    schedule: Schedule
    means: Tensor
    vars: Tensor
    weights: Tensor

    def log_density(self, x: Tensor, t: Tensor, cond: Any = None) -> Tensor:
        """log q(x_t | cond) per element."""
        return torch.logsumexp(self._joint(x, t, cond), dim=-1)

    def __call__(self, x: Tensor, t: Tensor, cond: Any = None) -> Prediction:
        at = self._level(x, t)
        share = torch.softmax(self._joint(x, t, cond), dim=-1)
        gain = self.vars * at.alpha / (at.alpha**2 * self.vars + at.sigma**2)
        return Prediction((share * (self.means + gain * (x[..., None] - at.alpha * self.means))).sum(-1))

    def _level(self, x: Tensor, t: Tensor) -> NoiseLevel:
        return self.schedule(t.expand(len(x))).against(x[..., None])

    def _joint(self, x: Tensor, t: Tensor, cond: Any) -> Tensor:
        at = self._level(x, t)
        var = at.alpha**2 * self.vars + at.sigma**2
        weights = self.weights if cond is None else torch.eye(len(self.weights), dtype=x.dtype)[cond]
        weights = weights.reshape(-1, *(1,) * (x.ndim - 1), len(self.weights))
        return torch.log(weights) - 0.5 * ((x[..., None] - at.alpha * self.means) ** 2 / var + torch.log(var))


class Network(nn.Module):
    """An exact denoiser as the network that a parameterization asks for.

    target(x_t, x_0, level): what the network should say; state(input, level): the x_t behind its input;
    time(noise): the t behind what it is told of the level.
    """

    def __init__(
        self,
        exact: Denoises,
        target: Callable[[Tensor, Tensor, NoiseLevel], Tensor],
        state: Callable[[Tensor, NoiseLevel], Tensor] = lambda given, level: given,
        time: Callable[[Tensor], Tensor] = lambda noise: noise,
    ) -> None:
        super().__init__()
        self.exact, self.target, self.state, self.time = exact, target, state, time

    def forward(self, given: Tensor, noise: Tensor, cond: Any = None) -> Tensor:
        t = self.time(noise)
        level = self.exact.schedule(t).against(given)
        x = self.state(given, level)
        return self.target(x, self.exact(x, t, cond).x0, level)


class Bent(nn.Module):
    """The curve b t + (1 - b) t^2 from 0 to 1, rising for 0 < b < 2; b is learned."""

    def __init__(self, bend: float) -> None:
        super().__init__()
        self.bend = nn.Parameter(float64(bend))

    def forward(self, t: Tensor) -> Tensor:
        bend = self.bend.to(t)
        return bend * t + (1 - bend) * t**2


@dataclass(frozen=True)
class Given(Noise):
    """Noise whose normal numbers are ``numbers``, whatever the stream."""

    numbers: Tensor = field(default_factory=lambda: torch.zeros(1))

    @classmethod
    def of(cls, numbers: Tensor) -> Given:
        return cls(Keys.range(0, 0, len(numbers)), "", numbers)

    def within(self, scope: str) -> Given:
        return self

    def normal(self, stream: str, like: Tensor) -> Tensor:
        return self.numbers.to(like)


@dataclass(frozen=True)
class Basis(Noise):
    """Noise whose k-th draw is 1 in row 2 + k and 0 elsewhere: what a linear walk makes of it are its coefficients."""

    drawn: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, rows: int) -> Basis:
        return cls(Keys.range(0, 0, rows))

    def within(self, scope: str) -> Basis:
        return self

    def normal(self, stream: str, like: Tensor) -> Tensor:
        self.drawn.append(stream)
        numbers = torch.zeros_like(like)
        numbers[1 + len(self.drawn)] = 1
        return numbers


class Counted:
    """A denoiser that counts its calls."""

    def __init__(self, base: Denoises) -> None:
        self.base, self.calls = base, 0

    @property
    def schedule(self) -> Schedule:
        return self.base.schedule

    def __call__(self, x: Tensor, t: Tensor, cond: Any = None) -> Prediction:
        self.calls += 1
        return self.base(x, t, cond)


@dataclass(frozen=True)
class Line:
    """x_end = offset + by_x x_start + the sum of by_z over independent standard normal draws."""

    offset: float
    by_x: float
    by_z: Tensor

    def moments(self, mean: float, var: float) -> tuple[float, float]:
        """Mean and variance of x_end for x_start of such."""
        return self.offset + self.by_x * mean, self.by_x**2 * var + float(self.by_z.square().sum())


def line(model: Any, sampler: Sampler, grid: Tensor, draws: int = 1) -> Line:
    """The walk of data whose denoiser is a line, as one: no chance is left. draws: of noise in a step, at most."""
    rows = 2 + draws * (len(grid) - 1)
    start = torch.zeros(rows, 1, dtype=torch.float64)
    start[1] = 1
    *_, end = walk(model, sampler, start, grid, None, Basis.of(rows))
    offset = end[0]
    return Line(float(offset), float(end[1] - offset), (end[2:] - offset).flatten())


def noise(count: int, seed: int = 0) -> Noise:
    return Noise(Keys.range(seed, 0, count))


def slope(steps: list[int], errors: list[float]) -> float:
    """The order of convergence: minus the slope of log error over log steps, by least squares."""
    x, y = float64(*map(math.log, steps)), float64(*map(math.log, errors))
    x, y = x - x.mean(), y - y.mean()
    return -float((x * y).sum() / (x * x).sum())
