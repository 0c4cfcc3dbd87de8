"""A learned schedule: VP between fixed ends, whose curve learns to make the bound's estimate quieter, not lower."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from langevin.diffusion.bound_objectives import ContinuousBound
from langevin.diffusion.denoiser import Denoiser
from langevin.diffusion.parameterizations import Noise as PredictsNoise
from langevin.diffusion.parameterizations import Parameterization, ToldLogSNR
from langevin.diffusion.schedules import Learned, LinearVP
from langevin.diffusion.times import Uniform

from .exact import Bent, float64, noise

T = torch.linspace(0.03, 0.97, 33, dtype=torch.float64)
DATA = noise(33, seed=5).normal("data", torch.zeros(33, 2, dtype=torch.float64))


class Line(nn.Module):
    """A network with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(float64(0.4))

    def forward(self, x: Tensor, told: Tensor, cond: Any = None) -> Tensor:
        return self.weight * torch.sin(2 * x) + 0.3 * told[:, None]


def gamma_by_hand(t: Tensor) -> Tensor:
    return -13.3 + 18.3 * (0.7 * t + 0.3 * t**2)


def test_the_curve_lies_between_its_ends() -> None:
    """gamma = -log-SNR from -13.3 to 5. Kingma et al. 2021, section 3.2."""
    schedule = Learned(Bent(0.7))
    torch.testing.assert_close(schedule.gamma(float64(0.0, 1.0)), float64(-13.3, 5.0), rtol=1e-14, atol=0)
    torch.testing.assert_close(schedule.gamma(T), gamma_by_hand(T), rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(schedule(T).log_snr, -gamma_by_hand(T), rtol=1e-10, atol=1e-10)
    other = Learned(Bent(0.7), gamma_min=-4.0, gamma_max=2.0)
    torch.testing.assert_close(other.gamma(float64(0.0, 0.5, 1.0)), float64(-4.0, -4 + 6 * 0.425, 2.0))


def test_it_preserves_variance() -> None:
    """alpha^2 = sigmoid(-gamma), sigma^2 = sigmoid(gamma). Kingma et al. 2021, eq. 3-4."""
    level = Learned(Bent(0.7))(T)
    torch.testing.assert_close(level.alpha**2 + level.sigma**2, torch.ones_like(T), rtol=1e-14, atol=0)
    torch.testing.assert_close(level.sigma**2, 1 / (1 + torch.exp(-gamma_by_hand(T))), rtol=1e-12, atol=0)
    assert torch.equal(level.t, T)


def test_its_derivatives_are_those_of_the_curve() -> None:
    schedule = Learned(Bent(0.7))
    rate = 18.3 * (0.7 + 0.6 * T)  # of gamma
    torch.testing.assert_close(schedule.log_snr_rate(T), -rate, rtol=1e-12, atol=0)
    sigma_sq = torch.sigmoid(gamma_by_hand(T))  # g^2 = gamma' sigma^2 is beta of a VP SDE, f = -beta / 2
    torch.testing.assert_close(schedule.diffusion_sq(T), rate * sigma_sq, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(schedule.drift_rate(T), -rate * sigma_sq / 2, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(schedule.time(schedule(T).log_snr), T, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("low", "high"), [(5.0, -13.3), (1.0, 1.0)])
def test_ends_that_do_not_rise_are_refused(low: float, high: float) -> None:
    with pytest.raises(ValueError, match=f"gamma_min = {low} must be below gamma_max = {high}"):
        Learned(Bent(0.5), low, high)


PARAMETERIZATIONS = [PredictsNoise(), ToldLogSNR(PredictsNoise(), -5.0, 13.3)]


@pytest.mark.parametrize("parameterization", PARAMETERIZATIONS, ids=["told the time", "told the log-SNR"])
def test_the_curve_follows_the_squared_losses_and_the_network_the_losses(parameterization: Parameterization) -> None:
    """Kingma et al. 2021, appendix I.2: one backward pass, two objectives. The loss worked out by hand beside it."""
    model = Denoiser(Line(), Learned(Bent(0.7)), parameterization)
    found = ContinuousBound(Uniform())(model, DATA, None, noise(33)).total
    found.sum().backward()

    weight, bend = (float64(value).requires_grad_() for value in (0.4, 0.7))
    t, eps = Uniform()(noise(33)), noise(33).normal("forward", DATA)
    gamma = -13.3 + 18.3 * (bend * t + (1 - bend) * t**2)
    rate = 18.3 * (bend + 2 * (1 - bend) * t)
    alpha, sigma = torch.sigmoid(-gamma).sqrt()[:, None], torch.sigmoid(gamma).sqrt()[:, None]
    told = t if parameterization is PARAMETERIZATIONS[0] else (13.3 + gamma) / 18.3
    said = weight * torch.sin(2 * (alpha * DATA + sigma * eps)) + 0.3 * told[:, None]
    losses = 0.5 / math.log(2) * rate * (eps - said).square().mean(1)
    torch.testing.assert_close(found, losses, rtol=1e-9, atol=0)
    (of_losses,) = torch.autograd.grad(losses.sum(), weight, retain_graph=True)
    (of_squares,) = torch.autograd.grad(losses.square().sum(), bend)
    torch.testing.assert_close(model.network.weight.grad, of_losses, rtol=1e-9, atol=0)
    torch.testing.assert_close(model.schedule.curve.bend.grad, of_squares, rtol=1e-9, atol=0)


def test_without_the_bound_the_curve_has_the_losses_own_gradient() -> None:
    """Whoever does not ask to reduce the variance gets plain gradients."""
    schedule = Learned(Bent(0.7))
    (schedule(T).log_snr.sum() + schedule.log_snr_rate(T).sum()).backward()
    # log-SNR = 13.3 - 18.3 (b t + (1 - b) t^2), its rate -18.3 (b + 2 (1 - b) t)
    expected = -18.3 * (T - T**2).sum() - 18.3 * (1 - 2 * T).sum()
    torch.testing.assert_close(schedule.curve.bend.grad, expected, rtol=1e-9, atol=1e-9)


def test_each_backward_pass_follows_the_newest_losses() -> None:
    schedule = Learned(Bent(0.7))
    for losses in (torch.full_like(T, 3.0), T):
        schedule.curve.bend.grad = None
        gamma = -schedule(T).log_snr
        schedule.reduce_variance_of(losses.clone().requires_grad_())
        gamma.sum().backward()
        torch.testing.assert_close(schedule.curve.bend.grad, 18.3 * (2 * losses * (T - T**2)).sum(), rtol=1e-9, atol=0)


def test_descent_along_the_curve_makes_the_bound_quieter_and_no_lower() -> None:
    """On fixed looks: the variance of the losses falls, their mean stays what quadrature says it is."""
    model = Denoiser(
        Line().requires_grad_(False), Learned(Bent(1.9), -6.0, 4.0), ToldLogSNR(PredictsNoise(), -4.0, 6.0)
    )
    x0 = torch.full((4000, 1), 0.5, dtype=torch.float64)
    objective = ContinuousBound(Uniform())
    before = objective(model, x0, None, noise(4000)).total.detach()
    descent = torch.optim.SGD(model.schedule.parameters(), lr=3e-3)
    for _ in range(25):
        descent.zero_grad()
        objective(model, x0, None, noise(4000)).total.mean().backward()
        descent.step()
    after = objective(model, x0, None, noise(4000)).total.detach()
    assert float(model.schedule.curve.bend.detach()) < 1.8
    assert float(after.var()) < 0.95 * float(before.var())
    error = math.hypot(float(before.std()), float(after.std())) / 4000**0.5
    assert abs(float(after.mean() - before.mean())) < 4 * error


def test_a_fixed_schedule_of_the_same_shape_is_the_same_schedule() -> None:
    """LinearVP's own log-SNR as a curve."""

    class Own(nn.Module):
        def forward(self, t: Tensor) -> Tensor:
            ends = LinearVP()(float64(0.01, 1.0)).log_snr
            return (LinearVP()(0.01 + 0.99 * t).log_snr - ends[0]) / (ends[1] - ends[0])

    ends = LinearVP()(float64(0.01, 1.0)).log_snr
    schedule = Learned(Own(), -float(ends[0]), -float(ends[1]))
    level = LinearVP()(0.01 + 0.99 * T)
    torch.testing.assert_close(schedule(T).alpha, level.alpha, rtol=1e-10, atol=0)
    torch.testing.assert_close(schedule(T).sigma, level.sigma, rtol=1e-10, atol=0)
    torch.testing.assert_close(schedule.drift_rate(T), 0.99 * LinearVP().drift_rate(level.t), rtol=1e-9, atol=0)
