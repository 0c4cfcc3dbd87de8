"""Likelihoods: the variational bound of a discrete chain, and its unit."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from langevin.diffusion.denoiser import Denoises
from langevin.diffusion.kernels import Gaussian, gaussian_kl, posterior
from langevin.diffusion.variance import ReverseVariance
from langevin.protocols import Bound
from langevin.randomness import Noise

__all__ = ["Bound", "bits_per_dim", "discrete_bound", "discretised_log_likelihood", "stratified_bound"]


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
    """The bound L_T + sum L_{t-1} + L_0 of the chain with the grid's times, term by term. Ho et al. 2020, eq. 5.

    x0: (B, C, ...) on its ``levels`` grey levels; grid: (n + 1,) from 1 to 0, n network calls, each on a fresh x_t.
    Nats a sample, (B,).
    """
    diffusion = torch.zeros(len(x0), dtype=torch.float64, device=x0.device)
    for index in range(len(grid) - 2):
        term = torch.full((len(x0),), index, device=grid.device)
        diffusion += _diffusion_term(model, x0, cond, noise.within(f"bound/{index}"), grid, term, variance)
    return Bound(_prior(model, x0, grid), diffusion, _reconstruction(model, x0, cond, noise, grid, levels))


def stratified_bound(
    model: Denoises,
    x0: Tensor,
    cond: Any,
    noise: Noise,
    grid: Tensor,
    variance: ReverseVariance,
    levels: int,
    calls: int,
) -> Bound:
    """An unbiased estimate of ``discrete_bound`` by ``calls`` + 1 network calls a sample.

    The chain's terms are cut into ``calls`` runs of equal length and each sample looks at one term of every run, drawn
    by its own noise: terms change slowly along the chain, so little is lost. The prior and the reconstruction are exact.
    """
    terms = len(grid) - 2
    diffusion = torch.zeros(len(x0), dtype=torch.float64, device=x0.device)
    for run in range(calls):
        scope = noise.within(f"bound/run/{run}")
        place = (run + scope.uniform("term", diffusion)) * (terms / calls)
        term = place.floor().long().clamp(max=terms - 1)
        diffusion += _diffusion_term(model, x0, cond, scope, grid, term, variance) * (terms / calls)
    return Bound(_prior(model, x0, grid), diffusion, _reconstruction(model, x0, cond, noise, grid, levels))


def _prior(model: Denoises, x0: Tensor, grid: Tensor) -> Tensor:
    """L_T = KL(q(x_1 | x_0) || N(0, 1)), (B,) nats."""
    last = model.schedule(grid[0].expand(len(x0))).against(x0)
    standard = Gaussian(torch.zeros_like(x0), torch.ones_like(x0))
    return _total(gaussian_kl(Gaussian(last.alpha * x0, last.sigma**2), standard))


def _diffusion_term(
    model: Denoises, x0: Tensor, cond: Any, noise: Noise, grid: Tensor, term: Tensor, variance: ReverseVariance
) -> Tensor:
    """KL(q(x_s | x_t, x_0) || p(x_s | x_t)) at t, s = the grid's times ``term``, ``term`` + 1: (B,) nats. term: (B,)."""
    grid = grid.to(x0.device)
    here, there = model.schedule(grid[term]), model.schedule(grid[term + 1])
    x = here.diffuse(x0, noise.normal("forward", x0))
    true, guess = posterior(x0, x, there, here), posterior(model(x, here.t, cond).x0, x, there, here)
    width = variance(there, here).to(x).reshape(true.var.shape)
    return _total(gaussian_kl(true, Gaussian(guess.mean, width)))


def _reconstruction(model: Denoises, x0: Tensor, cond: Any, noise: Noise, grid: Tensor, levels: int) -> Tensor:
    """L_0 = -log p(x_0 | x_t) at the grid's last time t above 0, (B,) nats: a discretised Gaussian about D(x_t).

    Its deviation is sigma / alpha, that of x_0 given x_t under a flat prior: the posterior's own is 0 there.
    """
    last = model.schedule(grid[-2].expand(len(x0)))
    x = last.diffuse(x0, noise.within("bound/reconstruction").normal("forward", x0))
    at = last.against(x0)
    guess = Gaussian(model(x, last.t, cond).x0, (at.sigma / at.alpha) ** 2)
    return _total(-discretised_log_likelihood(x0, guess, levels))


def _total(values: Tensor) -> Tensor:
    return values.double().flatten(1).sum(1)
