"""The Gaussian kernels against DDPM's closed forms, against Bayes' rule, and their divergence against sampling."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest
import torch
from torch.distributions import Normal as Reference
from torch.distributions import kl_divergence

from langevin.diffusion.kernels import Gaussian, ancestral_variance, gaussian_kl, lost, posterior, transition_variance
from langevin.diffusion.schedules import Schedule, Tabulated, cosine_betas, linear_betas
from langevin.diffusion.variance import Lower, Upper

from .exact import SCHEDULES, float64, noise

PAIRS = [(0.1, 0.2), (0.05, 0.95), (0.5, 0.501), (0.3, 0.99)]
ALL = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)


def test_adjacent_steps_are_ddpms() -> None:
    """Ho et al. 2020, eq. 6-7, in their own symbols."""
    betas = linear_betas(1000)
    bar = torch.cumprod(1 - betas, 0)
    before, after, beta = bar[:-1], bar[1:], betas[1:]
    t = torch.arange(1, 1001, dtype=torch.float64) / 1000
    schedule = Tabulated(betas)
    s_level, t_level = schedule(t[:-1]), schedule(t[1:])
    x0, xt = noise(999).normal("x0", t[1:, None]), noise(999).normal("xt", t[1:, None])
    mean = (beta * before.sqrt() / (1 - after))[:, None] * x0
    mean = mean + ((1 - before) * (1 - beta).sqrt() / (1 - after))[:, None] * xt
    var = beta * (1 - before) / (1 - after)
    found = posterior(x0, xt, s_level, t_level)
    torch.testing.assert_close(found.mean, mean, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(found.var, var[:, None], rtol=1e-9, atol=0)
    torch.testing.assert_close(Lower()(s_level, t_level), var, rtol=1e-9, atol=0)
    torch.testing.assert_close(Upper()(s_level, t_level), beta, rtol=1e-9, atol=0)


def test_ddim_at_eta_1_has_the_published_deviation() -> None:
    """Linear, T = 1000, step 19 -> 9 (counted from 0)."""
    schedule = Tabulated(linear_betas(1000))
    s, t = schedule(float64(0.010)), schedule(float64(0.020))
    assert float(ancestral_variance(s, t).sqrt()) == pytest.approx(0.03570548083646, rel=1e-11)


@ALL
@pytest.mark.parametrize(("s", "t"), PAIRS)
def test_the_posterior_is_bayes_rule(schedule: Schedule, s: float, t: float) -> None:
    """q(x_s | x_0) q(x_t | x_s) = q(x_t | x_0) q(x_s | x_t, x_0), as densities, wherever one looks."""
    at_s, at_t = schedule(float64(s)), schedule(float64(t))
    points = noise(200)
    x0, z_s, z_t = (points.normal(name, torch.zeros(200, 1, dtype=torch.float64)) for name in ("x0", "s", "t"))
    ratio = at_t.alpha / at_s.alpha
    width = transition_variance(at_s, at_t)
    xs = at_s.alpha * x0 + at_s.sigma * z_s
    xt = ratio * xs + width.sqrt() * z_t
    forward = Reference(at_s.alpha * x0, at_s.sigma).log_prob(xs) + Reference(ratio * xs, width.sqrt()).log_prob(xt)
    back = posterior(x0, xt, at_s, at_t)
    backward = Reference(at_t.alpha * x0, at_t.sigma).log_prob(xt) + Reference(back.mean, back.var.sqrt()).log_prob(xs)
    torch.testing.assert_close(backward, forward, rtol=1e-8, atol=1e-8)


@ALL
def test_two_steps_are_one(schedule: Schedule) -> None:
    """Chapman-Kolmogorov: Var[x_u | x_s] = (alpha_u / alpha_t)^2 Var[x_t | x_s] + Var[x_u | x_t]."""
    s, t, u = (schedule(float64(time)) for time in (0.2, 0.5, 0.9))
    through = (u.alpha / t.alpha) ** 2 * transition_variance(s, t) + transition_variance(t, u)
    torch.testing.assert_close(transition_variance(s, u), through, rtol=1e-10, atol=0)
    torch.testing.assert_close(1 - lost(s, u), (1 - lost(s, t)) * (1 - lost(t, u)), rtol=1e-10, atol=0)


@pytest.mark.parametrize("name", ["linear VP", "sub-VP", "rectified", "cosine chain"])
def test_the_last_step_is_the_data(name: str) -> None:
    """At s = 0 the posterior is x_0 itself, without noise, also from a level without signal."""
    schedule = SCHEDULES[name]
    x0, xt = torch.full((2, 1), 0.7, dtype=torch.float64), torch.full((2, 1), -3.0, dtype=torch.float64)
    found = posterior(x0, xt, schedule(float64(0.0, 0.0)), schedule(float64(0.4, 1.0)))
    assert torch.equal(found.mean, x0)
    assert float(found.var.max()) == 0


def test_a_level_without_signal_says_nothing_of_x_s() -> None:
    """At alpha_t = 0 the posterior is q(x_s | x_0)."""
    rectified = SCHEDULES["rectified"]
    x0, xt = torch.full((1, 1), 0.7, dtype=torch.float64), torch.full((1, 1), 5.0, dtype=torch.float64)
    s = rectified(float64(0.25))
    found = posterior(x0, xt, s, rectified(float64(1.0)))
    torch.testing.assert_close(found.mean, s.alpha * x0)
    torch.testing.assert_close(found.var.squeeze(), s.sigma**2)


def test_small_steps_keep_their_digits() -> None:
    """beta of a step of 1e-12 is its rate times the step; a difference of alphas would have lost it."""
    schedule = Tabulated(cosine_betas(1000))
    s, t = float64(0.5002), float64(0.5002) + 1e-9
    expected = float(schedule.diffusion_sq(s)) * 1e-9
    assert float(transition_variance(schedule(s), schedule(t))) == pytest.approx(expected, rel=1e-6)


def test_the_divergence_is_that_of_a_reference() -> None:
    points = noise(500)
    like = torch.zeros(500, 3, dtype=torch.float64)
    p = Gaussian(points.normal("a", like), points.uniform("b", like) + 0.1)
    q = Gaussian(points.normal("c", like), points.uniform("d", like) + 0.1)
    expected = kl_divergence(Reference(p.mean, p.var.sqrt()), Reference(q.mean, q.var.sqrt()))
    torch.testing.assert_close(gaussian_kl(p, q), expected, rtol=1e-10, atol=1e-13)
    assert float(gaussian_kl(p, p).abs().max()) == 0


def test_the_divergence_is_the_mean_of_log_ratios() -> None:
    p, q = Gaussian(float64(0.3), float64(0.5)), Gaussian(float64(-0.1), float64(0.8))
    x = p.mean + p.var.sqrt() * noise(200_000).normal("x", torch.zeros(200_000, dtype=torch.float64))
    ratios = Reference(p.mean, p.var.sqrt()).log_prob(x) - Reference(q.mean, q.var.sqrt()).log_prob(x)
    error = float(ratios.std()) / 200_000**0.5
    assert abs(float(gaussian_kl(p, q) - ratios.mean())) < 4 * error


@ALL
def test_lower_is_never_above_upper(schedule: Schedule) -> None:
    t = torch.linspace(0.02, 0.98, 60, dtype=torch.float64)
    lower, upper = (variance(schedule(t[:-1]), schedule(t[1:])) for variance in (Lower(), Upper()))
    assert bool((lower < upper).all())
    assert bool((lower > 0).all())


def test_each_sample_meets_its_own_levels() -> None:
    """(B,) levels against (B, C, H, W) states, in the states' type; the samples by themselves are the same."""
    schedule = SCHEDULES["cosine VP"]
    s, t = schedule(float64(0.1, 0.3, 0.7)), schedule(float64(0.2, 0.6, 0.9))
    x0, xt = (noise(3).normal(name, torch.zeros(3, 2, 3, 4)) for name in ("x0", "xt"))
    found = posterior(x0, xt, s, t)
    assert (found.mean.dtype, found.mean.shape, found.var.shape) == (torch.float32, (3, 2, 3, 4), (3, 1, 1, 1))
    for i, (early, late) in enumerate(((0.1, 0.2), (0.3, 0.6), (0.7, 0.9))):
        alone = posterior(x0[i : i + 1], xt[i : i + 1], schedule(float64(early)), schedule(float64(late)))
        torch.testing.assert_close(found.mean[i : i + 1], alone.mean)
        torch.testing.assert_close(found.var[i : i + 1], alone.var)
    with pytest.raises(FrozenInstanceError):
        found.mean = found.var  # type: ignore[misc]
