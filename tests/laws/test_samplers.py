"""Samplers on data whose denoiser is exact: what one step is, how fast many converge, and where they arrive."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from langevin.diffusion import grids
from langevin.diffusion.denoiser import Clamped, Denoises, Rescheduled
from langevin.diffusion.kernels import ancestral_variance, posterior
from langevin.diffusion.samplers import DDIM, Ancestral, Sampler, walk
from langevin.diffusion.schedules import CosineVP, Schedule, Tabulated, cosine_betas
from langevin.diffusion.variance import Lower, Upper

from .exact import SCHEDULES, Given, Normal, float64, noise, slope

ALL = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
X = torch.linspace(-3, 3, 24, dtype=torch.float64).reshape(12, 2)
Z = noise(12, seed=9).normal("z", X)
SOME = [(0.95, 0.9), (0.6, 0.1), (0.2, 0.19)]


def last(model: Denoises, sampler: Sampler, x: Tensor, grid: Tensor, seed: int = 0) -> Tensor:
    *_, end = walk(model, sampler, x, grid, None, noise(len(x), seed))
    return end


@ALL
@pytest.mark.parametrize(("t", "s"), SOME)
def test_ddim_at_eta_1_is_ancestral_sampling(schedule: Schedule, t: float, s: float) -> None:
    model, times = Normal(schedule), (float64(t), float64(s))
    ddim = DDIM(1.0)(model, X, *times, None, Given.of(Z))
    ancestral = Ancestral(Lower())(model, X, *times, None, Given.of(Z))
    torch.testing.assert_close(ddim, ancestral, rtol=1e-9, atol=1e-9)


@ALL
@pytest.mark.parametrize(("t", "s"), SOME)
def test_ddim_at_eta_0_is_eulers_step(schedule: Schedule, t: float, s: float) -> None:
    """d(x / alpha) = eps d(sigma / alpha). Song et al. 2020, eq. 14."""
    model, at_t, at_s = Normal(schedule), schedule(float64(t)), schedule(float64(s))
    eps = model(X, float64(t)).eps(X, at_t)
    euler = X / at_t.alpha + (at_s.sigma / at_s.alpha - at_t.sigma / at_t.alpha) * eps
    found = DDIM()(model, X, float64(t), float64(s), None, Given.of(Z))
    torch.testing.assert_close(found / at_s.alpha, euler, rtol=1e-9, atol=1e-9)


@ALL
@pytest.mark.parametrize("eta", [0.3, 0.8])
def test_ddim_keeps_the_marginals_at_any_eta(schedule: Schedule, eta: float) -> None:
    """Of data at one point: x_t ~ N(alpha_t x_0, sigma_t^2) goes to N(alpha_s x_0, sigma_s^2). Song et al. 2020, lemma 1.

    The step is a line in (x, z), so its coefficients are read off and the moments follow exactly.
    """
    point = Normal(schedule, mean=0.7, var=0.0)
    t, s = float64(0.8), float64(0.3)
    at_t, at_s = schedule(t), schedule(s)

    def step(x: float, z: float) -> Tensor:
        numbers = torch.full((1, 1), z, dtype=torch.float64)
        return DDIM(eta)(point, torch.full((1, 1), x, dtype=torch.float64), t, s, None, Given.of(numbers)).squeeze()

    start, by_x, by_z = step(0, 0), step(1, 0) - step(0, 0), step(0, 1) - step(0, 0)
    torch.testing.assert_close(start + by_x * at_t.alpha * 0.7, at_s.alpha * 0.7)
    torch.testing.assert_close((by_x * at_t.sigma) ** 2 + by_z**2, at_s.sigma**2)
    torch.testing.assert_close(by_z, eta * ancestral_variance(at_s, at_t).sqrt())


@pytest.mark.parametrize("variance", [Lower(), Upper()])
def test_ancestral_steps_have_the_posteriors_mean_and_the_asked_variance(variance: Lower | Upper) -> None:
    schedule = Tabulated(cosine_betas(1000))
    model, t, s = Normal(schedule), float64(0.5), float64(0.45)
    without = Ancestral(variance)(model, X, t, s, None, Given.of(0 * Z))
    torch.testing.assert_close(without, posterior(model(X, t).x0, X, schedule(s), schedule(t)).mean)
    moved = Ancestral(variance)(model, X, t, s, None, Given.of(Z)) - without
    torch.testing.assert_close(moved, variance(schedule(s), schedule(t)).sqrt() * Z)


@pytest.mark.parametrize("sampler", [Ancestral(Upper()), Ancestral(), DDIM(0.0), DDIM(1.0)], ids=str)
def test_the_last_step_is_the_denoisers_guess(sampler: Sampler) -> None:
    """At t = 0 no noise is added to the data, whatever the variance."""
    model = Normal(Tabulated(cosine_betas(1000)))
    found = sampler(model, X, float64(0.02), float64(0.0), None, Given.of(Z))
    torch.testing.assert_close(found, model(X, float64(0.02)).x0, rtol=1e-13, atol=0)


@pytest.mark.parametrize("name", ["cosine VP", "linear VP", "geometric VE"])
def test_ddim_converges_with_order_1(name: str) -> None:
    """By step halving, against the flow of Gaussian data: x_t - alpha_t mean grows like the deviation of x_t."""
    model = Normal(SCHEDULES[name])
    ends = model.schedule(float64(1.0, 0.05))
    deviation = model.deviation(float64(1.0, 0.05))
    exact = ends.alpha[1] * model.mean + (X - ends.alpha[0] * model.mean) * deviation[1] / deviation[0]
    halvings = [64, 128, 256, 512]
    errors = []
    for steps in halvings:
        grid = 0.05 + 0.95 * grids.uniform(steps)
        errors.append(float((last(model, DDIM(), X, grid) - exact).abs().max()))
    assert errors[-1] < 0.05
    assert slope(halvings, errors) == pytest.approx(1, abs=0.06)


@pytest.mark.parametrize("sampler", [Ancestral(), Ancestral(Upper()), DDIM(0.0), DDIM(0.5), DDIM(1.0)], ids=str)
def test_samples_have_the_moments_of_the_data(sampler: Sampler) -> None:
    model = Normal(Tabulated(cosine_betas(1000)), mean=0.3, var=0.49)
    count = 16_000
    start = noise(count, seed=5).normal("prior", torch.zeros(count, 1, dtype=torch.float64))
    samples = last(model, sampler, start, grids.strided(200, 1000), seed=6)
    assert float(samples.mean()) == pytest.approx(0.3, abs=4 * 0.7 / count**0.5)
    assert float(samples.var()) == pytest.approx(0.49, rel=0.05)  # 1 % of chance, the rest the 200 steps
    kurtosis = float(((samples - samples.mean()) ** 4).mean() / samples.var() ** 2)
    assert kurtosis == pytest.approx(3, abs=0.25)


def variance_of_samples(sampler: Sampler, model: Normal, steps: int) -> float:
    """A walk of Gaussian data is a line in its noise, so its steps' coefficients give the variance without chance."""
    grid = grids.strided(steps, 1000)
    unit, zero = torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)
    variance = 1.0
    for t, s in itertools.pairwise(grid):
        by_x = float(sampler(model, unit, t, s, None, Given.of(zero)))
        by_z = float(sampler(model, zero, t, s, None, Given.of(unit)))
        variance = by_x**2 * variance + by_z**2
    return variance


@pytest.mark.parametrize("sampler", [Ancestral(Lower()), Ancestral(Upper()), DDIM(0.0), DDIM(1.0)], ids=str)
def test_the_variance_of_samples_tends_to_the_datas_with_order_1(sampler: Sampler) -> None:
    model = Normal(Tabulated(cosine_betas(1000)), mean=0.0, var=0.49)
    steps = [50, 100, 200]
    errors = [abs(variance_of_samples(sampler, model, n) - 0.49) for n in steps]
    assert errors[-1] < 0.02
    assert slope(steps, errors) == pytest.approx(1, abs=0.15)


def test_the_right_variance_lies_between_lower_and_upper() -> None:
    model = Normal(Tabulated(cosine_betas(1000)), mean=0.0, var=0.49)
    lower, upper = (variance_of_samples(Ancestral(v), model, 100) for v in (Lower(), Upper()))
    assert lower < 0.49 < upper


@pytest.mark.parametrize("other", ["linear VP", "sub-VP", "geometric VE", "rectified", "linear chain"])
def test_a_denoiser_says_the_same_on_another_schedule(other: str) -> None:
    """Rescheduled is E[x_0 | x_t] of the new schedule: the log-SNR decides, the scale of x does not."""
    model = Normal(CosineVP())
    moved = Rescheduled(model, SCHEDULES[other])
    t = torch.linspace(0.3, 0.9, 12, dtype=torch.float64)
    torch.testing.assert_close(moved(X, t).x0, Normal(SCHEDULES[other])(X, t).x0, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(moved(X, t[4]).x0, Normal(SCHEDULES[other])(X, t[4]).x0, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("sampler", [DDIM(0.0), DDIM(0.7), Ancestral()], ids=str)
@pytest.mark.parametrize("other", ["linear VP", "geometric VE", "rectified"])
def test_samples_do_not_depend_on_the_schedule_they_are_drawn_on(sampler: Sampler, other: str) -> None:
    """At the same log-SNRs a walk ends at the same x / alpha: Karras et al. 2022, section 4."""
    model = Normal(CosineVP())
    moved = Rescheduled(model, SCHEDULES[other])
    grid = torch.linspace(0.9, 0.3, 12, dtype=torch.float64)
    other_grid = moved.schedule.time(model.schedule(grid).log_snr)
    here, there = model.schedule(grid), moved.schedule(other_grid)
    torch.testing.assert_close(there.log_snr, here.log_snr, rtol=1e-9, atol=1e-9)
    ends = last(model, sampler, here.sigma[0] * Z, grid) / here.alpha[-1]
    others = last(moved, sampler, there.sigma[0] * Z, other_grid) / there.alpha[-1]
    torch.testing.assert_close(others, ends, rtol=1e-7, atol=1e-7)


def test_a_walk_yields_every_state_and_is_its_steps() -> None:
    model, grid = Normal(CosineVP()), grids.uniform(7)
    states = list(walk(model, DDIM(0.5), X, grid, None, noise(12)))
    assert len(states) == len(grid)
    assert torch.equal(states[0], X)
    for step, (before, after) in enumerate(itertools.pairwise(states)):
        here = noise(12).within(f"step/{step}")
        assert torch.equal(after, DDIM(0.5)(model, before, grid[step], grid[step + 1], None, here))


def test_steps_of_a_walk_share_no_noise() -> None:
    """With a denoiser that says nothing the states differ by fresh noise alone."""
    nothing = Normal(CosineVP(), mean=0.0, var=0.0)
    like = torch.zeros(4000, 1, dtype=torch.float64)
    states = torch.cat(list(walk(nothing, Ancestral(), like, grids.uniform(6), None, noise(4000)))[1:], dim=1)
    here, there = nothing.schedule(grids.uniform(6)[:-1]), nothing.schedule(grids.uniform(6)[1:])
    keep = (there.sigma / here.sigma) * torch.exp((here.log_snr - there.log_snr) / 2)
    fresh = states - keep * torch.cat([like, states[:, :-1]], dim=1)
    correlation = torch.corrcoef(fresh.T)
    off = correlation - torch.diag(torch.diag(correlation))
    assert float(off.abs().max()) < 4.5 / 4000**0.5


def test_clamped_stays_where_images_are() -> None:
    model = Normal(Tabulated(cosine_betas(1000)), mean=0.0, var=9.0)
    t = torch.full((12,), 0.3, dtype=torch.float64)
    free, clamped = model(X, t).x0, Clamped(model)(X, t).x0
    assert float(free.abs().max()) > 1
    assert torch.equal(clamped, free.clamp(-1, 1))
    assert torch.equal(Clamped(model, -2.0, 0.5)(X, t).x0, free.clamp(-2.0, 0.5))
    ends = last(Clamped(model), DDIM(), X, grids.uniform(20))
    assert float(ends.abs().max()) <= 1
