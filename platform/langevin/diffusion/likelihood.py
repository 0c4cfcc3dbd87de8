"""Likelihoods: the variational bound of a discrete chain, and its unit."""

from __future__ import annotations

import itertools
import math
from typing import Any

import torch
from torch import Tensor

from langevin.diffusion.denoiser import Denoises
from langevin.diffusion.kernels import Gaussian, gaussian_kl, posterior
from langevin.diffusion.variance import ReverseVariance
from langevin.protocols import Bound
from langevin.randomness import Noise

__all__ = ["Bound", "bits_per_dim", "discrete_bound", "discretised_log_likelihood"]


def bits_per_dim(nats: Tensor, dims: int) -> Tensor:
    """nats / (dims ln 2): bits per dimension of a negative log-likelihood in nats a sample."""
    return nats / (dims * math.log(2))


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


def discrete_bound(
    model: Denoises, x0: Tensor, cond: Any, noise: Noise, grid: Tensor, variance: ReverseVariance, levels: int
) -> Bound:
    """The bound L_T + sum L_{t-1} + L_0 of the chain with the grid's times. Ho et al. 2020, eq. 5; nats a sample, (B,).

    x0: (B, C, ...) on its ``levels`` grey levels; grid: (n + 1,) from 1 to 0, n network calls, each on a fresh x_t.
    L_0 is a discretised Gaussian about D(x at the grid's last time above 0), whose deviation is that of x_0 given x_t
    for data spread as one grey level: the posterior's own is 0 there.
    """
    last = model.schedule(grid[0].expand(len(x0)))
    wide = Gaussian(last.against(x0).alpha * x0, last.against(x0).sigma ** 2)
    prior = gaussian_kl(wide, Gaussian(torch.zeros_like(x0), torch.ones_like(x0))).flatten(1).sum(1).double()
    diffusion, reconstruction = torch.zeros_like(prior), torch.zeros_like(prior)
    for step, (t, s) in enumerate(itertools.pairwise(grid)):
        here, there = model.schedule(t.expand(len(x0))), model.schedule(s.expand(len(x0)))
        x = here.diffuse(x0, noise.within(f"bound/{step}").normal("forward", x0))
        expected = model(x, t, cond).x0
        if float(there.sigma[0]) == 0:
            deviation = here.against(x0).sigma / here.against(x0).alpha
            log_mass = discretised_log_likelihood(x0, Gaussian(expected, deviation**2), levels)
            reconstruction -= log_mass.flatten(1).sum(1).double()
            continue
        true, guess = posterior(x0, x, there, here), posterior(expected, x, there, here)
        width = variance(there, here).to(x).reshape(true.var.shape)
        diffusion += gaussian_kl(true, Gaussian(guess.mean, width)).flatten(1).sum(1).double()
    return Bound(prior=prior, diffusion=diffusion, reconstruction=reconstruction)
