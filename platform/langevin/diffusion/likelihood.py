"""Likelihoods: the variational bound of a chain and of continuous time, and their unit.

The density along the probability flow is in flow.py, what grey levels ask for in discretisation.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from langevin.diffusion.denoiser import Denoises, Prediction
from langevin.diffusion.discretisation import dequantised_bound, discretised_log_likelihood
from langevin.diffusion.flow import Exact, Hutchinson, log_prob_ode
from langevin.diffusion.kernels import Gaussian, gaussian_kl, posterior
from langevin.diffusion.levels import NoiseLevel
from langevin.diffusion.processes import prior_deviation
from langevin.diffusion.schedules import Schedule
from langevin.diffusion.variance import Learned, Lower, ReverseVariance
from langevin.protocols import Bound
from langevin.randomness import Noise

__all__ = [
    "Bound",
    "Exact",
    "Hutchinson",
    "bits_per_dim",
    "continuous_bound",
    "dequantised_bound",
    "discrete_bound",
    "discretised_log_likelihood",
    "log_prob_ode",
    "reverse_kl",
    "stratified_bound",
]

Look = tuple[Tensor, Tensor]  # one look at a bound: its value (B,) in nats, and the noise eps (B, ...) of its x_t


def bits_per_dim(nats: Tensor, dims: int) -> Tensor:
    """nats / (dims ln 2): bits per dimension of a negative log-likelihood in nats a sample."""
    return nats / (dims * math.log(2))


def reverse_kl(
    prediction: Prediction,
    x0: Tensor,
    x: Tensor,
    s: NoiseLevel,
    t: NoiseLevel,
    variance: ReverseVariance,
    levels: int,
) -> Tensor:
    """The bound's term of the step from t to s: KL(q(x_s | x_t, x_0) || p(x_s | x_t)), and -log p(x_0 | x_t) where s.t = 0.

    Ho et al. 2020, eq. 5: L_{t-1} and L_0, each sample by its own times. (B,) float64 nats, the sum over dimensions, with
    gradients to prediction.x0 and prediction.head. prediction: of x = x_t at t; x0: (B, C, ...) on its ``levels`` grey
    levels; s, t: (B,).
    """
    to_data = s.t == 0
    # both are computed and one is chosen: the other is taken where its gradients are finite
    between = NoiseLevel(s.t, s.alpha, torch.where(to_data, t.sigma / 2, s.sigma))
    guess = prediction._replace(x0=torch.where(_against(to_data, x0), prediction.x0, x0))
    kl = _step_kl(prediction, x0, x, between, t, variance)
    return torch.where(to_data, -_log_likelihood(guess, x0, t, variance, levels), kl)


def discrete_bound(
    model: Denoises, x0: Tensor, cond: Any, noise: Noise, grid: Tensor, variance: ReverseVariance, levels: int
) -> Bound:
    """The bound L_T + sum L_{t-1} + L_0 of the chain with the grid's times, term by term. Ho et al. 2020, eq. 5.

    x0: (B, C, ...) on its ``levels`` grey levels; grid: (n + 1,) from 1 to 0, n network calls, each on a fresh x_t. The grid's
    last time stands for the data themselves, whatever noise the schedule has there. Nats a sample, (B,).
    """
    grid = grid.to(x0.device)
    diffusion = torch.zeros(len(x0), dtype=torch.float64, device=x0.device)
    for index in range(len(grid) - 2):
        term = torch.full((len(x0),), index, device=x0.device)
        diffusion += _term(model, x0, cond, noise.within(f"bound/{index}"), grid, term, variance)[0]
    last = _reconstruction(model, x0, cond, noise, grid[-2], variance, levels)
    return Bound(_prior(model, x0, grid[0]), diffusion, last)


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

    The chain's terms are cut into ``calls`` strata of equal expected size and each sample looks at one term of every
    stratum, drawn by its own noise and divided by its probability: importance sampling in strata. The size expected of a
    term is that of white data, in closed form. The choice then matters so little that nearly all of the estimate's
    error is the noise's in x_t, which the whole sum has too. The prior is exact.

    How far off the estimate may be is how two of them from different seeds differ: ``draws`` in evaluation/nll.py.
    """
    grid = grid.to(x0.device)
    expected = _white_terms(model.schedule, grid)
    share, edges = expected / expected.sum(), expected.cumsum(0)
    like = torch.zeros(len(x0), dtype=torch.float64, device=x0.device)

    def look(run: int) -> Look:
        scope = noise.within(f"bound/run/{run}")
        place = (run + scope.uniform("term", like)) / calls * edges[-1]
        term = torch.searchsorted(edges, place, right=True).clamp(max=len(share) - 1)
        value, eps = _term(model, x0, cond, scope, grid, term, variance)
        return value / (share[term] * calls), eps

    last = _reconstruction(model, x0, cond, noise, grid[-2], variance, levels)
    return Bound(_prior(model, x0, grid[0]), _steadied(look(run) for run in range(calls)), last)


def continuous_bound(
    model: Denoises, x0: Tensor, cond: Any, noise: Noise, levels: int, calls: int, t_min: float = 0.0
) -> Bound:
    """An unbiased estimate of the bound of infinitely many steps, by ``calls`` + 1 network calls a sample.

    The diffusion part is 1/2 E |eps - eps_hat|^2 times the range of log-SNR, over log-SNR uniform between its values at t = 1
    and t_min, in strata: Kingma et al. 2021, eq. 17-18. In log-SNR the schedule's shape drops out, with the same noise
    even from the estimate. The reconstruction at t_min is that of a chain with fixed variance.

    x0: (B, C, ...) on its ``levels`` grey levels. Nats a sample, (B,). ValueError where an end has no finite log-SNR.
    """
    schedule = model.schedule
    ends = torch.tensor([t_min, 1.0], dtype=torch.float64, device=x0.device)
    high, low = schedule(ends).log_snr
    if not bool(torch.isfinite(high - low)):
        raise ValueError(
            f"log-SNR goes from {float(high):g} at t = {t_min:g} to {float(low):g} at t = 1: the continuous bound needs "
            "finite ends (t_min > 0, and a schedule that keeps some signal)"
        )
    like = torch.zeros(len(x0), dtype=torch.float64, device=x0.device)

    def look(run: int) -> Look:
        scope = noise.within(f"bound/run/{run}")
        place = (run + scope.uniform("log_snr", like)) / calls
        here = schedule(schedule.time(high + place * (low - high)))
        eps = scope.normal("forward", x0)
        missed = x0.double() - model(here.diffuse(x0, eps), here.t, cond).x0.double()
        return 0.5 * torch.exp(here.log_snr) * _total(missed**2) * ((high - low) / calls), eps

    last = _reconstruction(model, x0, cond, noise, ends[0], Lower(), levels)
    return Bound(_prior(model, x0, ends[1]), _steadied(look(run) for run in range(calls)), last)


def _steadied(looks: Iterable[Look]) -> Tensor:
    """The sum of the looks' values, each less what the energy of its noise adds to it by chance: (B,) nats.

    Where the noise cannot be told from the data, a term is proportional to |eps|^2, whose mean is known: a control
    variate, its coefficient the value of the look before. That look's noise is another one, so the mean stays what it is.
    """
    total = before = torch.zeros((), dtype=torch.float64)
    for value, eps in looks:
        surplus = eps.double().square().flatten(1).mean(1) - 1
        total, before = total + value - before * surplus, value
    return total


def _white_terms(schedule: Schedule, grid: Tensor) -> Tensor:
    """(n - 1,) what the chain's terms are for x_0 ~ N(0, 1), in nats: 1/2 (snr_s - snr_t) Var[x_0 | x_t].

    Kingma et al. 2021, eq. 13, with Var[x_0 | x_t] = 1 / (1 + snr_t). No data within [-1, 1] have much larger ones.
    """
    snr = torch.exp(schedule(grid[:-1]).log_snr)
    return 0.5 * (snr[1:] - snr[:-1]) / (1 + snr[:-1])


def _prior(model: Denoises, x0: Tensor, t: Tensor) -> Tensor:
    """L_T = KL(q(x_t | x_0) || N(0, prior_deviation^2)) at the chain's first time t: (B,) nats. t: ()."""
    x0 = x0.double()
    first = model.schedule(t.expand(len(x0)).to(x0)).against(x0)
    width = prior_deviation(model.schedule, float(t)).to(x0) ** 2
    return _total(gaussian_kl(Gaussian(first.alpha * x0, first.sigma**2), Gaussian(torch.zeros_like(x0), width)))


def _term(
    model: Denoises, x0: Tensor, cond: Any, noise: Noise, grid: Tensor, term: Tensor, variance: ReverseVariance
) -> Look:
    """KL(q(x_s | x_t, x_0) || p(x_s | x_t)) at t, s = the grid's times ``term``, ``term`` + 1. term: (B,)."""
    here, there = model.schedule(grid[term]), model.schedule(grid[term + 1])
    eps = noise.normal("forward", x0)
    x = here.diffuse(x0, eps)
    return _step_kl(model(x, here.t, cond), x0, x, there, here, variance), eps


def _reconstruction(
    model: Denoises, x0: Tensor, cond: Any, noise: Noise, t: Tensor, variance: ReverseVariance, levels: int
) -> Tensor:
    """L_0 = -log p(x_0 | x_t) at the last time t short of the data: (B,) nats. t: ()."""
    last = model.schedule(t.expand(len(x0)))
    x = last.diffuse(x0, noise.within("bound/reconstruction").normal("forward", x0))
    return -_log_likelihood(model(x, last.t, cond), x0, last, variance, levels)


def _step_kl(
    prediction: Prediction, x0: Tensor, x: Tensor, s: NoiseLevel, t: NoiseLevel, variance: ReverseVariance
) -> Tensor:
    """KL(q(x_s | x_t, x_0) || p(x_s | x_t)) for s short of the data: (B,) nats."""
    x0, x = x0.double(), x.double()  # the two means differ by far less than they hold of x_t
    true, guess = posterior(x0, x, s, t), posterior(prediction.x0.double(), x, s, t)
    width = variance(s, t, prediction.head)
    return _total(gaussian_kl(true, Gaussian(guess.mean, _against(width.double(), x))))


def _log_likelihood(
    prediction: Prediction, x0: Tensor, t: NoiseLevel, variance: ReverseVariance, levels: int
) -> Tensor:
    """log p(x_0 | x_t), a discretised Gaussian about D(x_t): (B,) nats.

    Its variance is the learned one, or else (sigma / alpha)^2, that of x_0 given x_t under a flat prior: the posterior's
    own is 0 there.
    """
    if isinstance(variance, Learned):
        data = NoiseLevel(torch.zeros_like(t.t), torch.ones_like(t.alpha), torch.zeros_like(t.sigma))
        width = variance(data, t, prediction.head)
    else:
        width = (t.sigma / t.alpha) ** 2
    gaussian = Gaussian(prediction.x0.double(), _against(width.double(), x0))
    return _total(discretised_log_likelihood(x0.double(), gaussian, levels))


def _against(values: Tensor, x: Tensor) -> Tensor:
    """values (B,) or (B, ...) shaped to meet x: (B, ...)."""
    return values.reshape(values.shape + (1,) * (x.ndim - values.ndim))


def _total(values: Tensor) -> Tensor:
    return values.double().flatten(1).sum(1)
