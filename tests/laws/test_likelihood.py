"""Likelihoods: digits in the tails, and a bound that bounds and grows tight, on data whose entropy is known."""

from __future__ import annotations

import math
from typing import Any

import mpmath
import pytest
import torch
from torch import Tensor
from torch.distributions import Normal as Reference
from torch.distributions import kl_divergence

from langevin.diffusion import grids
from langevin.diffusion.denoiser import Prediction
from langevin.diffusion.kernels import Gaussian
from langevin.diffusion.likelihood import (
    bits_per_dim,
    continuous_bound,
    discrete_bound,
    discretised_log_likelihood,
    stratified_bound,
)
from langevin.diffusion.schedules import Schedule, Tabulated, cosine_betas, linear_betas
from langevin.diffusion.variance import Lower, ReverseVariance, Upper
from langevin.protocols import Bound

from .exact import Given, Mixture, Normal, float64, noise, slope

LEVELS = 17
GREY = torch.linspace(-1, 1, LEVELS, dtype=torch.float64)
SHARES = torch.softmax(-0.5 * ((GREY - 0.1) / 0.35) ** 2, dim=0)  # of the grey levels: a discretised Gaussian
ENTROPY = float(-(SHARES * SHARES.log()).sum())
NODES = torch.linspace(-8, 8, 161, dtype=torch.float64)  # of the trapezoidal rule, which is exact to rounding here
SHARE_OF_NODE = torch.exp(-(NODES**2) / 2) / math.sqrt(2 * math.pi) * 0.1


def chain() -> Schedule:
    return Tabulated(cosine_betas(1000))


def grey_data(schedule: Schedule) -> Mixture:
    """Data on the grey levels and nowhere else."""
    return Mixture(schedule, GREY, torch.zeros_like(GREY), SHARES)


def expected_bound(steps: int, variance: ReverseVariance, last: float = 0.005) -> Bound:
    """The bound's parts in the mean over data and noise, by quadrature: () each."""
    model = grey_data(chain())
    x0, z = GREY.repeat_interleave(161)[:, None], NODES.repeat(LEVELS)[:, None]
    grid = grids.uniform_log_snr(steps, model.schedule, last)
    bound = discrete_bound(model, x0, None, Given.of(z), grid, variance, LEVELS)
    share = SHARES.repeat_interleave(161) * SHARE_OF_NODE.repeat(LEVELS)
    return Bound(*((share * part).sum() for part in (bound.prior, bound.diffusion, bound.reconstruction)))


@pytest.mark.parametrize("levels", [2, 17, 256])
@pytest.mark.parametrize(("mean", "deviation"), [(0.0, 0.3), (0.2, 0.004), (-1.7, 0.5), (30.0, 2.0), (0.5, 100.0)])
def test_the_levels_share_all_mass(levels: int, mean: float, deviation: float) -> None:
    x = torch.linspace(-1, 1, levels, dtype=torch.float64)
    mass = discretised_log_likelihood(x, Gaussian(torch.full_like(x, mean), float64(deviation**2)), levels)
    assert float(mass.exp().sum()) == pytest.approx(1, rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("mean", [-40.0, -1.2, -0.9, 0.03, 0.9, 1.2, 40.0])
def test_a_levels_mass_keeps_its_digits(mean: float, dtype: torch.dtype) -> None:
    """Against 60 digits, thousands of nats into both tails, where the tanh form and differences of Phi are lost."""
    x = GREY.to(dtype)
    deviation = 0.05
    gaussian = Gaussian(torch.full_like(x, mean), torch.tensor(deviation, dtype=dtype) ** 2)
    found = discretised_log_likelihood(x, gaussian, LEVELS)
    with mpmath.workdps(60):
        for level, log_mass in zip(GREY.tolist(), found.tolist(), strict=True):
            # |x| / deviation far beyond 1: integrate on the side where Phi is small
            side = -1 if level > mean else 1
            ends = [(level - 1 / 16 - mean) / deviation, (level + 1 / 16 - mean) / deviation]
            ends = [-mpmath.inf if level == -1 else ends[0], mpmath.inf if level == 1 else ends[1]]
            phi = [mpmath.erfc(-side * end / mpmath.sqrt(2)) / 2 for end in ends]
            expected = float(mpmath.log(abs(phi[1] - phi[0])))
            rounding = 1e-11 if dtype == torch.float64 else 2e-5
            assert log_mass == pytest.approx(expected, rel=rounding, abs=rounding)


def test_bits_per_dim_of_even_levels_are_their_logarithm() -> None:
    nats = 64 * torch.log(float64(256.0, 17.0))
    torch.testing.assert_close(bits_per_dim(nats, 64), float64(8.0, math.log2(17)))


def test_the_bounds_total_is_its_parts() -> None:
    bound = Bound(float64(1.0), float64(20.0), float64(300.0))
    assert float(bound.total) == 321


@pytest.mark.parametrize("variance", [Lower(), Upper()])
def test_the_bound_is_above_the_entropy_and_tends_to_it(variance: ReverseVariance) -> None:
    """With the exact denoiser only the coarseness of the chain is left: the gap falls as 1 / steps."""
    steps = [64, 128, 256]
    gaps = [float(expected_bound(n, variance).total) - ENTROPY for n in steps]
    assert all(gap > 0 for gap in gaps)
    assert slope(steps, gaps) == pytest.approx(1, abs=0.2)
    assert gaps[-1] < 0.15


def test_a_worse_denoiser_has_a_worse_bound() -> None:
    class Off(Mixture):
        def __call__(self, x: Tensor, t: Tensor, cond: Any = None) -> Prediction:
            return Prediction(super().__call__(x, t, cond).x0 + 0.1)

    schedule = chain()
    grid = grids.uniform_log_snr(64, schedule, 0.005)
    x0 = GREY.repeat_interleave(161)[:, None]
    share = SHARES.repeat_interleave(161) * SHARE_OF_NODE.repeat(LEVELS)
    given = Given.of(NODES.repeat(LEVELS)[:, None])
    off = discrete_bound(Off(schedule, GREY, 0 * GREY, SHARES), x0, None, given, grid, Lower(), LEVELS)
    exact = expected_bound(64, Lower())
    assert float((share * off.diffusion).sum()) > float(exact.diffusion) + 1
    assert float((share * off.reconstruction).sum()) > 10 * float(exact.reconstruction)


def test_the_bound_of_gaussian_data_is_its_closed_form() -> None:
    """Every term's expectation over the noise for D = mean + gain (x_t - alpha mean), written out."""
    schedule = Tabulated(linear_betas(1000))
    model, x0 = Normal(schedule, mean=0.2, var=0.3), 0.5
    grid = float64(1.0, 0.6, 0.3, 0.05, 0.0)
    z = NODES[:, None]
    found = discrete_bound(model, torch.full_like(z, x0), None, Given.of(z), grid, Lower(), LEVELS)
    diffusion = 0.0
    for t, s in ((1.0, 0.6), (0.6, 0.3), (0.3, 0.05)):
        at_t, at_s = schedule(float64(t)), schedule(float64(s))
        snr_t, snr_s = (float(level.alpha**2 / level.sigma**2) for level in (at_t, at_s))
        alpha, sigma = float(at_t.alpha), float(at_t.sigma)
        gain = 0.3 * alpha / (alpha**2 * 0.3 + sigma**2)
        bias = x0 - 0.2 - gain * alpha * (x0 - 0.2)
        diffusion += 0.5 * (snr_s - snr_t) * (bias**2 + (gain * sigma) ** 2)  # Kingma et al. 2021, eq. 13
    assert float((SHARE_OF_NODE * found.diffusion).sum()) == pytest.approx(diffusion, rel=1e-9)


def test_the_prior_term_is_a_divergence_from_the_standard_normal() -> None:
    schedule = Tabulated(linear_betas(1000))
    x0 = noise(5).normal("x0", torch.zeros(5, 2, 3, dtype=torch.float64))
    bound = discrete_bound(Normal(schedule), x0, None, noise(5), float64(1.0, 0.5, 0.0), Lower(), LEVELS)
    level = schedule(float64(1.0))
    expected = kl_divergence(Reference(level.alpha * x0, level.sigma), Reference(0.0, 1.0)).sum(dim=(1, 2))
    torch.testing.assert_close(bound.prior, expected, rtol=1e-9, atol=0)


def test_upper_costs_what_its_width_costs() -> None:
    """On data at one point the mean is exact, and the divergence is that of the two variances alone."""
    schedule = Tabulated(linear_betas(1000))
    point, grid = Normal(schedule, mean=0.25, var=0.0), float64(1.0, 0.5, 0.1, 0.0)
    x0 = torch.full((3, 4), 0.25, dtype=torch.float64)
    bound = discrete_bound(point, x0, None, noise(3), grid, Upper(), LEVELS)
    expected = 0.0
    for t, s in ((1.0, 0.5), (0.5, 0.1)):
        ratio = float(schedule(float64(s)).sigma / schedule(float64(t)).sigma) ** 2
        expected += 4 * 0.5 * (ratio - 1 - math.log(ratio))
    torch.testing.assert_close(bound.diffusion, torch.full_like(bound.diffusion, expected), rtol=1e-9, atol=0)
    lower = discrete_bound(point, x0, None, noise(3), grid, Lower(), LEVELS)
    assert float(lower.diffusion.abs().max()) < 1e-12


@pytest.mark.parametrize("calls", [1, 4, 5, 11])
def test_the_stratified_bound_is_right_in_the_mean(calls: int) -> None:
    """Also where the chain's 11 terms do not divide into equal runs; the other two parts are the same numbers."""
    count = 20_000
    schedule = chain()
    model, grid = Normal(schedule, 0.1, 0.2), grids.uniform_log_snr(12, schedule, 0.02)
    x0 = torch.full((count, 1), GREY[10].item(), dtype=torch.float64)
    whole = discrete_bound(model, x0, None, noise(count), grid, Lower(), LEVELS)
    some = stratified_bound(model, x0, None, noise(count), grid, Lower(), LEVELS, calls)
    assert torch.equal(some.prior, whole.prior)
    assert torch.equal(some.reconstruction, whole.reconstruction)
    error = math.sqrt(float(some.diffusion.var() + whole.diffusion.var()) / count)
    assert abs(float(some.diffusion.mean() - whole.diffusion.mean())) < 4 * error


def test_strata_cost_little_precision() -> None:
    """Neighbouring terms are alike: four times the calls, half the deviation, and the same mean."""
    schedule = chain()
    grid = grids.uniform_log_snr(400, schedule, 0.02)
    model = Normal(schedule, 0.1, 0.2)
    x0 = torch.full((400, 1), 0.25, dtype=torch.float64)
    few = stratified_bound(model, x0, None, noise(400), grid, Lower(), LEVELS, 20).diffusion
    many = stratified_bound(model, x0, None, noise(400, 1), grid, Lower(), LEVELS, 80).diffusion
    assert float(few.std()) / float(many.std()) == pytest.approx(2, rel=0.25)  # one over the root of the calls
    assert abs(float(few.mean() - many.mean())) < 4 * float(few.std() + many.std()) / 20


def test_every_term_looks_at_fresh_noise() -> None:
    """Of the whole bound and of the estimate: no two calls of the network share their noise."""
    schedule, count = chain(), 4000

    class Watched(Normal):
        def __call__(self, x: Tensor, t: Tensor, cond: Any = None) -> Prediction:
            met.append((x / self.schedule(t.expand(len(x))).against(x).sigma).flatten())
            return super().__call__(x, t, cond)

    model, x0 = Watched(schedule), torch.zeros(count, 1, dtype=torch.float64)
    grid = grids.uniform_log_snr(12, schedule, 0.02)
    for calls in (None, 6):
        met: list[Tensor] = []
        if calls is None:
            discrete_bound(model, x0, None, noise(count), grid, Lower(), LEVELS)
        else:
            stratified_bound(model, x0, None, noise(count), grid, Lower(), LEVELS, calls)
        correlation = torch.corrcoef(torch.stack(met))
        assert len(met) == (12 if calls is None else calls + 1)
        assert float((correlation - torch.diag(torch.diag(correlation))).abs().max()) < 4.5 / count**0.5


def test_a_bound_does_not_depend_on_the_batch() -> None:
    schedule = chain()
    model, grid = grey_data(schedule), grids.uniform_log_snr(20, schedule, 0.02)
    x0 = GREY[:12, None]
    keys = noise(12).keys
    odd = type(noise(1))(type(keys)(keys.seed, keys.ordinals[1::2]))
    for bound in (
        lambda x, n: discrete_bound(model, x, None, n, grid, Lower(), LEVELS).total,
        lambda x, n: stratified_bound(model, x, None, n, grid, Lower(), LEVELS, 7).total,
    ):
        torch.testing.assert_close(bound(x0, noise(12))[1::2], bound(x0[1::2], odd), rtol=1e-12, atol=0)


def test_knowing_the_class_is_worth_its_entropy() -> None:
    """Two components that do not overlap: the bound without the condition is larger by log 2, on a fine chain."""
    schedule, count = chain(), 1000
    model = Mixture(schedule, float64(-0.5, 0.5), float64(0.01, 0.01), float64(0.5, 0.5))
    grid, cond = grids.uniform_log_snr(120, schedule, 0.02), torch.arange(count) % 2
    spread = 0.1 * noise(count, seed=1).normal("data", torch.zeros(count, 1, dtype=torch.float64))
    x0 = (cond.double() - 0.5)[:, None] + spread
    informed = discrete_bound(model, x0, cond, noise(count), grid, Lower(), LEVELS).diffusion
    blind = discrete_bound(model, x0, None, noise(count), grid, Lower(), LEVELS).diffusion
    assert float((blind - informed).mean()) == pytest.approx(math.log(2), abs=0.15)


def test_every_look_of_a_bound_is_told_the_condition() -> None:
    """Part by part and sample by sample the bound given a class is that of the class's own model."""
    schedule, cond = chain(), torch.arange(6) % 2
    model = Mixture(schedule, float64(-0.5, 0.5), float64(0.01, 0.04), float64(0.5, 0.5))
    x0 = GREY[4:10, None].expand(6, 3)
    grid = grids.uniform_log_snr(9, schedule, 0.02)
    for bound in (
        lambda model, cond: discrete_bound(model, x0, cond, noise(6), grid, Lower(), LEVELS),
        lambda model, cond: stratified_bound(model, x0, cond, noise(6), grid, Lower(), LEVELS, 3),
        lambda model, cond: continuous_bound(model, x0, cond, noise(6), LEVELS, 3, 0.02),
    ):
        found = bound(model, cond)
        for label, (mean, var) in enumerate([(-0.5, 0.01), (0.5, 0.04)]):
            alone = bound(Normal(schedule, mean, var), None)
            torch.testing.assert_close(found.diffusion[label::2], alone.diffusion[label::2], rtol=1e-9, atol=0)
            torch.testing.assert_close(
                found.reconstruction[label::2], alone.reconstruction[label::2], rtol=1e-9, atol=0
            )
