"""The variance of the reverse step p(x_s | x_t): fixed at one of its two ends, or learned in between."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from langevin.diffusion.kernels import ancestral_variance, transition_variance
from langevin.diffusion.levels import NoiseLevel
from langevin.diffusion.schedules import Schedule


@dataclass(frozen=True)
class Lower:
    """The posterior's variance: right when x_0 is known. Ho et al. 2020, section 3.2."""

    def __call__(self, s: NoiseLevel, t: NoiseLevel, head: Tensor | None = None) -> Tensor:
        """Of the levels' shape."""
        return ancestral_variance(s, t)


@dataclass(frozen=True)
class Upper:
    """beta_t: right when x_0 is pure noise. Ho et al. 2020, section 3.2."""

    def __call__(self, s: NoiseLevel, t: NoiseLevel, head: Tensor | None = None) -> Tensor:
        """Of the levels' shape."""
        return transition_variance(s, t)


@dataclass(frozen=True)
class Learned:
    """exp(v log upper + (1 - v) log lower) per element, v = (head + 1) / 2. Nichol & Dhariwal 2021, eq. 15.

    smallest: what stands for the lower end in the step to the data, where the posterior's variance is 0; a chain takes
    its second step's (``Learned.of``), as the paper's code does.
    """

    smallest: float

    @classmethod
    def of(cls, schedule: Schedule, grid: Tensor) -> Learned:
        """For the chain of the grid's times (n + 1,), n >= 2, from 1 to 0."""
        first, second = schedule(grid[-2]), schedule(grid[-3])
        return cls(float(ancestral_variance(first, second)))

    def __call__(self, s: NoiseLevel, t: NoiseLevel, head: Tensor | None = None) -> Tensor:
        """Of the head's shape (B, ...). ValueError where the network has no head."""
        if head is None:
            raise ValueError("a learned variance needs a network with a second head, and this one has none")
        log_upper = torch.log(transition_variance(s, t)).to(head).reshape((-1,) + (1,) * (head.ndim - 1))
        lower = ancestral_variance(s, t)
        lower = lower.where(s.sigma > 0, torch.full_like(lower, self.smallest))
        log_lower = torch.log(lower).to(head).reshape(log_upper.shape)
        share = (head + 1) / 2
        return torch.exp(share * log_upper + (1 - share) * log_lower)


ReverseVariance = Lower | Upper | Learned
