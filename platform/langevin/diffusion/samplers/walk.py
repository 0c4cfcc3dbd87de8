"""From noise to data along a grid of times. Progress, saving and stopping belong to the caller."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from langevin.randomness import Noise


class Sampler(Protocol):
    def __call__(self, model: Any, x: Tensor, t: Tensor, s: Tensor, cond: Any, noise: Noise) -> Tensor:
        """x_s from x = x_t: (B, ...), for times s < t: () float64. model: Denoises or Scores, as the sampler says."""
        ...


@runtime_checkable
class Multistep(Protocol):
    """A sampler whose steps remember earlier ones."""

    def fresh(self) -> Sampler:
        """For one walk: it has no memory yet."""
        ...


def walk(model: Any, sampler: Sampler, x: Tensor, grid: Tensor, cond: Any, noise: Noise) -> Iterator[Tensor]:
    """Yields x at each of the grid's times, the first and the last included. grid: (n + 1,) decreasing; x: (B, ...)."""
    step = sampler.fresh() if isinstance(sampler, Multistep) else sampler
    yield x
    for number, (t, s) in enumerate(itertools.pairwise(grid)):
        x = step(model, x, t, s, cond, noise.within(f"step/{number}"))
        yield x
