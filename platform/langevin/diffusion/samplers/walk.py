"""From noise to data along a grid of times. Progress, saving and stopping belong to the caller."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, Protocol

from torch import Tensor

from langevin.diffusion.denoiser import Denoises
from langevin.randomness import Noise


class Sampler(Protocol):
    def __call__(self, model: Denoises, x: Tensor, t: Tensor, s: Tensor, cond: Any, noise: Noise) -> Tensor:
        """x_s from x = x_t: (B, ...), for times s < t: () float64."""
        ...


def walk(model: Denoises, sampler: Sampler, x: Tensor, grid: Tensor, cond: Any, noise: Noise) -> Iterator[Tensor]:
    """Yields x at each of the grid's times, the first and the last included. grid: (n + 1,) decreasing; x: (B, ...)."""
    yield x
    for step, (t, s) in enumerate(itertools.pairwise(grid)):
        x = sampler(model, x, t, s, cond, noise.within(f"step/{step}"))
        yield x
