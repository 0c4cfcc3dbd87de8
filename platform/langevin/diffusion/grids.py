"""Where sampling looks: a sequence of times from noise to data, (n + 1,) float64, that never rises."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from langevin.diffusion.schedules import Schedule


def uniform(steps: int, last: float = 0.0) -> Tensor:
    """1, ..., last in equal steps."""
    return torch.linspace(1, last, steps + 1, dtype=torch.float64)


def quadratic(steps: int, last: float = 0.0) -> Tensor:
    """1, ..., last in steps that shrink towards the data: equal in sqrt(t). Song et al. 2020, appendix D.2."""
    return torch.linspace(1, last**0.5, steps + 1, dtype=torch.float64) ** 2


def strided(steps: int, chain: int) -> Tensor:
    """Every (T // n)-th node of the chain counted from the data, then 0. Song et al. 2020, appendix D.2 ("leading").

    The first of them lies at most a stride below pure noise. ValueError for more steps than the chain has.
    """
    _enough(steps, chain)
    nodes = torch.arange(steps - 1, -1, -1, dtype=torch.float64) * (chain // steps) + 1
    return torch.cat([nodes, torch.zeros(1, dtype=torch.float64)]) / chain


def trailing(steps: int, chain: int) -> Tensor:
    """``steps`` + 1 of the chain's nodes i / T from 1 to 0, as equal as whole numbers allow: both ends are in.

    Lin et al. 2023, table 2. ValueError for more steps than the chain has.
    """
    _enough(steps, chain)
    return (uniform(steps) * chain).round() / chain


def spread(steps: int, chain: int) -> Tensor:
    """``steps`` of the chain's nodes from 1 to 1 / T, as equal as whole numbers allow, then 0. Lin et al. 2023 ("linspace")."""
    _enough(steps, chain)
    nodes = torch.linspace(chain - 1, 0, steps, dtype=torch.float64).round() + 1  # halves go to the even count from 0
    return torch.cat([nodes, torch.zeros(1, dtype=torch.float64)]) / chain


def karras(
    steps: int, schedule: Schedule, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0
) -> Tensor:
    """The times of sigma / alpha = (a + i / (n - 1) (b - a))^rho, a = sigma_max^(1/rho), b = sigma_min^(1/rho), then 0.

    Karras et al. 2022, eq. 5. Noise beyond the schedule's ends is cut off there.
    """
    sigmas = torch.linspace(sigma_max ** (1 / rho), sigma_min ** (1 / rho), steps, dtype=torch.float64) ** rho
    t = schedule.time(-2 * sigmas.log())
    return distinct(torch.cat([t, torch.zeros(1, dtype=torch.float64)]))


def uniform_log_snr(steps: int, schedule: Schedule, last: float = 0.0, first: float = 1.0) -> Tensor:
    """Equal steps of log-SNR between t = ``first`` and t = ``last``, then 0, which a bound takes for the data.

    Lu et al. 2022, section 3.4. first < 1 where the log-SNR at t = 1 is infinite.
    """
    ends = schedule(torch.tensor([first, last], dtype=torch.float64)).log_snr
    t = schedule.time(torch.linspace(float(ends[0]), float(ends[1]), steps, dtype=torch.float64))
    t[0] = first
    return torch.cat([t, torch.zeros(1, dtype=torch.float64)])


def ladder(levels: int) -> Tensor:
    """1, 1, ..., 0: each of so many rungs, t = 1 the first, is where one step of annealed Langevin dynamics arrives."""
    return torch.cat([torch.ones(1, dtype=torch.float64), uniform(levels - 1)])


def rungs(sigma_max: float, sigma_min: float, dims: int, overlap: float = 0.5) -> int:
    """How many geometric levels it takes that neighbours overlap by so much. Song & Ermon 2020, technique 2.

    With a ratio g of neighbours: Phi(sqrt(2 D) (g - 1) + 3 g) - Phi(sqrt(2 D) (g - 1) - 3 g) = overlap, D = dims. They
    ask for about 0.5; the ladders they trained with (232 levels for CIFAR-10) overlap by 0.567.
    """

    def shared(ratio: float) -> float:
        high, low = ((2 * dims) ** 0.5 * (ratio - 1) + side * 3 * ratio for side in (1, -1))
        return 0.5 * (math.erf(high / 2**0.5) - math.erf(low / 2**0.5))

    low, high = 1.0, 2.0
    while shared(high) > overlap:
        high *= 2
    for _ in range(64):
        middle = (low + high) / 2
        low, high = (middle, high) if shared(middle) > overlap else (low, middle)
    return max(2, round(math.log(sigma_max / sigma_min) / math.log(high)) + 1)


def distinct(grid: Tensor) -> Tensor:
    """The grid without a last step that goes nowhere: where t = 0 is still noisy, a grid of levels may end there already.

    Its last but one time is then 0 to the rounding of ``Schedule.time``, and is not kept.
    """
    return torch.cat([grid[:-2], grid[-1:]]) if len(grid) > 2 and float(grid[-2] - grid[-1]) < 1e-12 else grid


def _enough(steps: int, chain: int) -> None:
    if not 1 <= steps <= chain:
        raise ValueError(f"a chain of {chain} has no {steps} different steps")
