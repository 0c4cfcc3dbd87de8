"""The symmetric splitting sampler of critically-damped Langevin diffusion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from langevin.diffusion.processes import CriticallyDampedLangevin, Scores
from langevin.randomness import Noise


@dataclass(frozen=True)
class SSCS:
    """Half a step of A, a step of S, half a step of A, backwards in time. Dockhorn et al. 2022, algorithm 1, appendix D.

    A: du = beta [[0, -1/M], [1, -Gamma/M]] u + sqrt(2 Gamma beta) (0, dw), exact: the damped process itself with its
    velocity mirrored, which would be all if the data were at rest. S: dv = 2 Gamma beta (score + v / M), what is left,
    with the score of the step's middle. calls = 1: Euler's step for S, as in the paper, which leaves weak order 1 with a
    small constant; calls = 2: the midpoint rule, order 2.
    """

    calls: int = 1

    def __call__(self, model: Scores, x: Tensor, t: Tensor, s: Tensor, cond: Any, noise: Noise) -> Tensor:
        """x_s from the state x = x_t: (B, 2, ...), for times s < t: () float64. ValueError for another process."""
        process = model.process
        if not isinstance(process, CriticallyDampedLangevin):
            raise ValueError(f"SSCS splits critically-damped Langevin dynamics and cannot follow {process}")
        middle, half = (t + s) / 2, (t - s) / 2

        def scored(state: Tensor, elapsed: Tensor, at: Tensor) -> Tensor:
            rest = model.score(at, middle, cond) + process.driven(at) / process.mass
            return state + process.drive((elapsed * process.diffusion_sq(middle)).to(rest) * rest)

        x = _mirrored(process, x, noise.normal("sscs/before", x), half)
        at = x if self.calls == 1 else scored(x, half, x)
        x = scored(x, t - s, at)
        return _mirrored(process, x, noise.normal("sscs/after", x), half)


def _mirrored(process: CriticallyDampedLangevin, x: Tensor, eps: Tensor, elapsed: Tensor) -> Tensor:
    """The damped process for a time with its velocity turned round: F (E F x + L eps), F = diag(1, -1)."""
    return _turned(process.evolve(_turned(x), eps, elapsed))


def _turned(x: Tensor) -> Tensor:
    return torch.stack([x[:, 0], -x[:, 1]], 1)
