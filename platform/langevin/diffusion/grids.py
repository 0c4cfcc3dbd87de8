"""Where sampling looks: a decreasing sequence of times from noise to data, (n + 1,) float64."""

from __future__ import annotations

import torch
from torch import Tensor

from langevin.diffusion.schedules import Schedule


def uniform(steps: int) -> Tensor:
    """1, ..., 0 in equal steps."""
    return torch.linspace(1, 0, steps + 1, dtype=torch.float64)


def strided(steps: int, chain: int) -> Tensor:
    """``steps`` + 1 of the chain's nodes i / T from 1 to 0, as equal as whole numbers allow ("trailing": both ends are in).

    Song et al. 2020, section 4.2; the ends as Lin et al. 2023, table 2. ValueError for more steps than the chain has.
    """
    if not 1 <= steps <= chain:
        raise ValueError(f"a chain of {chain} has no {steps} different steps")
    return (uniform(steps) * chain).round() / chain


def uniform_log_snr(steps: int, schedule: Schedule, last: float = 0.0) -> Tensor:
    """Equal steps of log-SNR between t = 1 and t = ``last``, then 0. Lu et al. 2022, section 3.4."""
    ends = schedule(torch.tensor([1.0, last], dtype=torch.float64)).log_snr
    t = schedule.time(torch.linspace(float(ends[0]), float(ends[1]), steps, dtype=torch.float64))
    t[0] = 1.0
    return torch.cat([t, torch.zeros(1, dtype=torch.float64)])
