"""Isotropic diffusion processes and the score that a denoiser implies, against the published SDEs and torch's densities."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal as Reference

from langevin.diffusion.processes import IsotropicProcess, Scores, Tweedie, normal_log_prob, prior_deviation, scores
from langevin.diffusion.schedules import GeometricVE, LinearVE, LinearVP, Schedule, SubVP

from .exact import SCHEDULES, Mixture, Normal, float64, noise

ALL = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
X = torch.linspace(-3, 3, 24, dtype=torch.float64).reshape(12, 2)
T = torch.linspace(0.1, 0.9, 12, dtype=torch.float64)
WHOLE = 0.1 * T + 19.9 * T**2 / 2  # the integral of beta
BETA = 0.1 + 19.9 * T
SDES = {
    "VP": (LinearVP(), -BETA / 2, BETA),
    "sub-VP": (SubVP(), -BETA / 2, BETA * -torch.expm1(-2 * WHOLE)),
    "VE": (GeometricVE(), 0 * T, (0.01 * 5000**T) ** 2 * 2 * math.log(5000)),
    "EDM": (LinearVE(), 0 * T, 2 * (0.002 + T * 79.998) * 79.998),
}


@pytest.mark.parametrize(("schedule", "rate", "diffusion_sq"), SDES.values(), ids=SDES)
def test_drift_and_diffusion_are_the_published(schedule: Schedule, rate: Tensor, diffusion_sq: Tensor) -> None:
    """Song et al. 2021, eq. 30, 32 and 36; Karras et al. 2022, eq. 1: g^2 = 2 sigma sigma'."""
    process = IsotropicProcess(schedule)
    torch.testing.assert_close(process.drift(X, T), rate[:, None] * X, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(process.diffusion_sq(T), diffusion_sq, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(process.drift(X, T[3]), rate[3] * X, rtol=1e-9, atol=1e-9)


@ALL
def test_the_process_has_the_schedules_moments(schedule: Schedule) -> None:
    """d mean / dt = f mean and d var / dt = 2 f var + g^2, by differences."""
    process, step = IsotropicProcess(schedule), 1e-6
    t = T + 0.00037  # no node of a chain
    before, here, after = (schedule(t + side * step) for side in (-1, 0, 1))
    drift = process.drift(here.alpha[:, None], t)[:, 0]
    torch.testing.assert_close((after.alpha - before.alpha) / (2 * step), drift, rtol=1e-5, atol=1e-7)
    var = here.sigma**2
    rate = 2 * process.drift(torch.ones(12, 1, dtype=torch.float64), t)[:, 0] * var + process.diffusion_sq(t)
    torch.testing.assert_close((after.sigma**2 - before.sigma**2) / (2 * step), rate, rtol=1e-5, atol=1e-6)


def test_drift_meets_the_states_dtype_and_shape() -> None:
    x = torch.ones(12, 3, 2, 2)
    found = IsotropicProcess(LinearVP()).drift(x, T)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found[:, 1, 0, 1].double(), -BETA / 2, rtol=1e-6, atol=0)


def test_noise_drives_the_whole_state() -> None:
    process = IsotropicProcess(LinearVP())
    assert torch.equal(process.driven(X), X)
    assert torch.equal(process.drive(X), X)


PRIORS = {"linear VP": 1.0, "cosine VP": 1.0, "sub-VP": 1.0, "geometric VE": 50.0, "linear VE": 80.0, "rectified": 1.0}


@pytest.mark.parametrize(("name", "deviation"), PRIORS.items())
def test_the_prior_is_where_the_data_are_lost(name: str, deviation: float) -> None:
    """N(0, 1) where the variance is preserved, also where a little signal is left; N(0, sigma_max^2) where it explodes."""
    process, like = IsotropicProcess(SCHEDULES[name]), torch.zeros(2000, 3, dtype=torch.float64)
    assert float(prior_deviation(SCHEDULES[name])) == pytest.approx(deviation, rel=1e-12)
    drawn = process.prior(noise(2000), like)
    torch.testing.assert_close(drawn, deviation * noise(2000).normal("prior", like))
    log_prob = process.prior_log_prob(drawn)
    torch.testing.assert_close(log_prob, Reference(0.0, float64(deviation)).log_prob(drawn).sum(1))
    assert log_prob.dtype == process.prior_log_prob(drawn.float()).dtype == torch.float64
    torch.testing.assert_close(process.prior(noise(2000), like.float()).double(), drawn, rtol=1e-6, atol=1e-5)


def test_a_grid_that_starts_lower_starts_with_less_noise() -> None:
    """Where the variance explodes; elsewhere the data fill what noise leaves."""
    assert float(prior_deviation(GeometricVE(), 0.75)) == pytest.approx(0.01 * 5000**0.75, rel=1e-12)
    assert float(prior_deviation(LinearVE(), 0.5)) == pytest.approx(40.001, rel=1e-12)
    assert float(prior_deviation(LinearVP(), 0.5)) == 1


def test_log_densities_sum_over_a_sample() -> None:
    x, deviation = X.reshape(4, 3, 2), float64(0.7)
    expected = Reference(0.0, deviation).log_prob(x).sum((1, 2))
    torch.testing.assert_close(normal_log_prob(x, deviation), expected)


@ALL
def test_a_denoiser_knows_the_score(schedule: Schedule) -> None:
    """(alpha D - x) / sigma^2 is the gradient of the log-density, for each sample's time and condition."""
    model = Mixture(schedule, float64(-0.8, 0.1, 0.9), float64(0.05, 0.2, 0.1), float64(0.2, 0.5, 0.3))
    label = torch.arange(12) % 3
    for t, cond in ((T, None), (T, label), (T[4], label)):
        x = X.clone().requires_grad_()
        (expected,) = torch.autograd.grad(model.log_density(x, t.expand(12), cond).sum(), x)
        torch.testing.assert_close(Tweedie(model).score(X, t, cond), expected, rtol=1e-7, atol=1e-7)


def test_a_model_with_a_score_keeps_it() -> None:
    model = Normal(LinearVP())
    scored = scores(model)
    assert scored == Tweedie(model)
    assert isinstance(scored, Scores)
    assert scores(scored) is scored
    assert scored.process == IsotropicProcess(LinearVP())
