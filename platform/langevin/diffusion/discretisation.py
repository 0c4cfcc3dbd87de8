"""Grey levels in a continuous world: the mass of a Gaussian on a level, and a density's bound on a level's probability.

Images lie on ``levels`` values -1, ..., 1. The cell of a level is what is nearer to it than to any other: 2 / (levels - 1) wide,
so that 256 levels cost log2(127.5) = 6.994 bits/dim from density to probability. (Where images fill [-1, 1] in 256 cells
of 2 / 256, as in Song et al. 2021, it is 7 bits.)
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from langevin.diffusion.kernels import Gaussian
from langevin.protocols import Bound
from langevin.randomness import Noise


def discretised_log_likelihood(x: Tensor, gaussian: Gaussian, levels: int) -> Tensor:
    """log of the Gaussian's mass on x's grey level, per element. Ho et al. 2020, eq. 13; the end levels are open.

    x: (B, ...) on the ``levels`` values -1, ..., 1. By erf and its complement, so that the tails keep their digits.
    """
    half = 1 / (levels - 1)
    scale = gaussian.var.sqrt()
    low = torch.where(x < -1 + half, -torch.inf, (x - half - gaussian.mean) / scale)
    high = torch.where(x > 1 - half, torch.inf, (x + half - gaussian.mean) / scale)
    # on the side away from the mean both ends are in the upper tail: mirror them into the lower one
    mirrored = low > 0
    low, high = torch.where(mirrored, -high, low), torch.where(mirrored, -low, high)
    log_low, log_high = torch.special.log_ndtr(low), torch.special.log_ndtr(high)
    mass: Tensor = log_high + torch.log1p(-torch.exp(log_low - log_high))
    return mass


def dequantised_bound(
    log_prob: Callable[[Tensor, Noise], Tensor], x0: Tensor, noise: Noise, levels: int, draws: int = 1
) -> Bound:
    """-log of the mean of p(x_0 + u_k) times the cell's volume, u_1, ..., u_draws uniform on the cell: nats a sample, (B,).

    Above -log P(x_0) in the mean for one draw (Theis et al. 2016, eq. 4-5) and for more of them, which come closer
    (Burda et al. 2016, theorem 1; Ho et al. 2019, section 3.1).

    log_prob(x, noise): (B,) nats of a density at x, a float tensor of x0's shape; noise: what an estimate of it may use, fresh
    for each draw. An unbiased estimate of log p keeps the bound for one draw only: exp of it is too large in the mean.
    x0: (B, ...) on its ``levels`` grey levels. Parts: prior 0, diffusion -log of the mean density (it may be
    negative), reconstruction the volume's -log. ValueError for draws < 1.
    """
    if draws < 1:
        raise ValueError(f"a bound needs at least one draw, not {draws}")
    width = 2 / (levels - 1)
    densities = []
    for draw in range(draws):
        scope = noise.within(f"dequantise/{draw}")
        u = (scope.uniform("cell", x0) - 0.5) * width
        densities.append(log_prob(x0 + u, scope).double())
    mean = torch.logsumexp(torch.stack(densities), dim=0) - math.log(draws)
    volume = torch.full_like(mean, -x0[0].numel() * math.log(width))
    return Bound(torch.zeros_like(mean), -mean, volume)
