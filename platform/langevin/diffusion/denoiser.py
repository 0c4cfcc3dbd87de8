"""The denoiser D(x_t) = E[x_0 | x_t]: a network, the schedule it was trained on and what its output means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from langevin.diffusion.levels import NoiseLevel
from langevin.diffusion.parameterizations import Parameterization
from langevin.diffusion.schedules import Schedule


class Prediction(NamedTuple):
    """x0: (B, C, ...), the expected data; head: the network's further channels (B, ...), or None."""

    x0: Tensor
    head: Tensor | None = None

    def eps(self, x: Tensor, level: NoiseLevel) -> Tensor:
        """The expected noise (x_t - alpha x_0) / sigma. x: (B, C, ...)."""
        at = level.against(x)
        return (x - at.alpha * self.x0) / at.sigma


class Denoises(Protocol):
    """What samplers, guidance and likelihoods ask of a model. x: (B, C, ...), t: () or (B,) in [0, 1], cond: the network's."""

    @property
    def schedule(self) -> Schedule: ...

    def __call__(self, x: Tensor, t: Tensor, cond: Any = None) -> Prediction: ...


class Denoiser(nn.Module):
    """D(x_t) = skip x_t + out F(in x_t, noise, cond). Karras et al. 2022, eq. 7.

    network(x, noise, cond) -> (B, C, ...) or, with a head, (B, C + H, ...); noise: (B,) float32.
    The level's coefficients are computed in t's precision (give float64) and meet x in x's.
    """

    def __init__(self, network: nn.Module, schedule: Schedule, parameterization: Parameterization) -> None:
        super().__init__()
        self.network, self.schedule, self.parameterization = network, schedule, parameterization

    def forward(self, x: Tensor, t: Tensor, cond: Any = None) -> Prediction:
        c = self.parameterization(self.schedule(t.expand(len(x))))
        skip, out, scale = (v.to(x).reshape((-1,) + (1,) * (x.ndim - 1)) for v in (c.skip, c.out, c.scale))
        output = self.network(scale * x, c.noise.to(x), cond)
        channels = x.shape[1]
        head = output[:, channels:] if output.shape[1] > channels else None
        return Prediction(skip * x + out * output[:, :channels], head)


@dataclass(frozen=True)
class Clamped:
    """A denoiser whose expected data stay in [low, high], as images do. Ho et al. 2020, section 3.4 (their code)."""

    base: Denoises
    low: float = -1.0
    high: float = 1.0

    @property
    def schedule(self) -> Schedule:
        return self.base.schedule

    def __call__(self, x: Tensor, t: Tensor, cond: Any = None) -> Prediction:
        prediction = self.base(x, t, cond)
        return prediction._replace(x0=prediction.x0.clamp(self.low, self.high))


@dataclass(frozen=True)
class DynamicallyClamped:
    """A denoiser whose expected data are cut at a quantile of their own size and divided by it, where it is above 1.

    Saharia et al. 2022, section 2.3 (Imagen): strong guidance no longer saturates. quantile: of |x_0| over a sample.
    """

    base: Denoises
    quantile: float = 0.995

    @property
    def schedule(self) -> Schedule:
        return self.base.schedule

    def __call__(self, x: Tensor, t: Tensor, cond: Any = None) -> Prediction:
        prediction = self.base(x, t, cond)
        sizes = prediction.x0.abs().flatten(1)
        limit = torch.quantile(sizes, self.quantile, dim=1).clamp(min=1.0).reshape((-1,) + (1,) * (x.ndim - 1))
        return prediction._replace(x0=prediction.x0.clamp(-limit, limit) / limit)


@dataclass(frozen=True)
class Rescheduled:
    """A denoiser on another schedule: the same log-SNR, x scaled to what the base was trained on. Karras et al. 2022, eq. 4."""

    base: Denoises
    schedule: Schedule

    def __call__(self, x: Tensor, t: Tensor, cond: Any = None) -> Prediction:
        here = self.schedule(t.expand(len(x)))
        there = self.base.schedule(self.base.schedule.time(here.log_snr))
        scale = torch.sqrt((there.alpha**2 + there.sigma**2) / (here.alpha**2 + here.sigma**2))
        return self.base(x * scale.to(x).reshape((-1,) + (1,) * (x.ndim - 1)), there.t, cond)
