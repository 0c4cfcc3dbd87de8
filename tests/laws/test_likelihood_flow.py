"""The density along the probability flow, against Gaussians and mixtures whose flow and density are known."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal
from torch.distributions import Normal as Reference

from langevin.diffusion import grids
from langevin.diffusion import parameterizations as predicts
from langevin.diffusion.denoiser import Denoiser, Prediction
from langevin.diffusion.flow import velocity
from langevin.diffusion.likelihood import Exact, Hutchinson, log_prob_ode
from langevin.diffusion.processes import CriticallyDampedLangevin, Tweedie
from langevin.diffusion.schedules import CosineVP, GeometricVE, LinearVP, Rectified, Schedule, SubVP
from langevin.randomness import Keys, Noise

from .exact import SCHEDULES, Mixture, Normal, float64, noise

T_MIN = 0.01
X = noise(6).normal("x", torch.zeros(6, 1, 2, dtype=torch.float64))
COVARIANCE = torch.tensor([[0.5, 0.2, -0.1], [0.2, 0.4, 0.15], [-0.1, 0.15, 0.3]], dtype=torch.float64)
MEAN = float64(0.3, -0.2, 0.1)


@dataclass(frozen=True)
class Correlated:
    """x_0 ~ N(MEAN, COVARIANCE): a denoiser whose Jacobian is no diagonal. x: (B, 3)."""

    schedule: Schedule

    def __call__(self, x: Tensor, t: Tensor, cond: Any = None) -> Prediction:
        alpha = self.schedule(t).alpha
        gain = alpha * COVARIANCE @ torch.linalg.inv(self.spread(t))
        return Prediction(MEAN + (x - alpha * MEAN) @ gain)

    def spread(self, t: Tensor) -> Tensor:
        level = self.schedule(t)
        return level.alpha**2 * COVARIANCE + level.sigma**2 * torch.eye(3, dtype=torch.float64)


class Echo(nn.Module):
    def forward(self, x: Tensor, t: Tensor, cond: Any = None) -> Tensor:
        return x


def carried(model: Normal, x: Tensor, t: float) -> Tensor:
    """log-density of x at t when the flow's line ends in the prior: x_1 - m_1 = (dev_1 / dev_t) (x - m_t)."""
    here, last = model.schedule(float64(t)), model.schedule(float64(1.0))
    ratio = model.deviation(float64(1.0)) / model.deviation(float64(t))
    end = last.alpha * model.mean + ratio * (x - here.alpha * model.mean)
    prior = Reference(float64(0.0), last.sigma.clamp(min=1.0))
    return prior.log_prob(end).flatten(1).sum(1) + x[0].numel() * ratio.log()


@pytest.mark.parametrize("name", [name for name in SCHEDULES if "chain" not in name])
def test_of_gaussian_data_it_is_the_density_of_the_prior_carried_back(name: str) -> None:
    model = Normal(SCHEDULES[name])
    found = log_prob_ode(model, X, t_min=T_MIN, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(found, carried(model, X, T_MIN), rtol=0, atol=1e-5)


@pytest.mark.parametrize("schedule", [LinearVP(), SubVP(), GeometricVE(), CosineVP(0.01, 0.999), Rectified()])
def test_the_mean_nll_of_gaussian_data_is_their_entropy(schedule: Schedule) -> None:
    """Of x at t_min, by quadrature; what the prior is not quite the data's last marginal costs 1e-5 nats."""
    model, t_min = Normal(schedule, mean=0.3, var=0.09), 1e-3
    z = torch.linspace(-8, 8, 161, dtype=torch.float64)[:, None]
    deviation = model.deviation(float64(t_min))
    x = schedule(float64(t_min)).alpha * 0.3 + deviation * z
    nll = -log_prob_ode(model, x, t_min=t_min, rtol=1e-6, atol=1e-6)
    share = torch.exp(-(z[:, 0] ** 2) / 2) / math.sqrt(2 * math.pi) * 0.1
    entropy = 0.5 * math.log(2 * math.pi * math.e) + float(deviation.log())
    assert float((share * nll).sum()) == pytest.approx(entropy, abs=2e-5)


@pytest.mark.parametrize("schedule", [LinearVP(), GeometricVE(), CosineVP()])
def test_a_score_has_the_density_of_its_denoiser(schedule: Schedule) -> None:
    model = Normal(schedule)
    t = float64(0.4)
    torch.testing.assert_close(velocity(Tweedie(model), X, t), velocity(model, X, t), rtol=1e-9, atol=1e-12)
    found = log_prob_ode(Tweedie(model), X, t_min=T_MIN, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found, carried(model, X, T_MIN), rtol=0, atol=1e-4)


def test_of_a_mixture_it_is_the_density_of_each_condition() -> None:
    schedule = LinearVP(0.1, 40.0)  # what signal is left at t = 1 is 4e-5
    model = Mixture(schedule, float64(-0.5, 0.6), float64(0.04, 0.09), float64(0.3, 0.7))
    for cond in (None, torch.arange(6) % 2):
        found = log_prob_ode(model, 0.6 * X, cond, t_min=T_MIN, rtol=1e-6, atol=1e-6)
        exact = model.log_density(0.6 * X, float64(T_MIN), cond).flatten(1).sum(1) - math.log(2 * math.pi)
        torch.testing.assert_close(found, exact, rtol=0, atol=2e-3)


def test_the_flow_of_a_score_hands_on_the_condition() -> None:
    """Each condition's score has the velocity of that condition's denoiser, and is asked with it wherever it is asked."""
    schedule, cond, met = LinearVP(), torch.arange(6) % 2, []
    model = Mixture(schedule, float64(-0.5, 0.6), float64(0.04, 0.09), float64(0.3, 0.7))
    torch.testing.assert_close(velocity(Tweedie(model), X, float64(0.4), cond), velocity(model, X, float64(0.4), cond))

    class Watched(Normal):
        def __call__(self, x: Tensor, t: Tensor, cond: Any = None) -> Prediction:
            met.append(cond)
            return super().__call__(x, t)

    for asked in (Watched(schedule), Tweedie(Watched(schedule))):
        log_prob_ode(asked, X, cond, grid=float64(0.1, 0.6, 1.0))
    assert met
    assert all(given is cond for given in met)


def test_exact_and_hutchinson_divergences_are_those_of_the_jacobian() -> None:
    matrix = noise(1).normal("matrix", torch.zeros(1, 4, 4, dtype=torch.float64))[0]
    x = noise(5).normal("x", torch.zeros(5, 2, 2, dtype=torch.float64))

    def field(place: Tensor) -> Tensor:
        return torch.sin(place.flatten(1) @ matrix.T).reshape(place.shape)

    jacobians = torch.stack([torch.autograd.functional.jacobian(lambda row: field(row[None])[0], row) for row in x])
    jacobians = jacobians.reshape(5, 4, 4)
    trace = jacobians.diagonal(dim1=1, dim2=2).sum(1)
    value, found = Exact()(field, x)
    torch.testing.assert_close(found, trace, rtol=1e-12, atol=1e-12)
    assert torch.equal(value, field(x))
    signs = [
        torch.where(noise(5).uniform(f"probe/{probe}", x) < 0.5, -1.0, 1.0).double().flatten(1) for probe in (0, 1)
    ]
    expected = sum(torch.einsum("bi,bij,bj->b", sign, jacobians, sign) for sign in signs) / 2
    value, found = Hutchinson(noise(5), probes=2)(field, x)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    assert torch.equal(value, field(x))
    assert not value.requires_grad
    single = torch.einsum("bi,bij,bj->b", signs[0], jacobians, signs[0])
    torch.testing.assert_close(Hutchinson(noise(5))(field, x)[1], single, rtol=1e-12, atol=1e-12)  # one probe


def test_of_correlated_data_exact_is_exact_and_hutchinson_right_in_the_mean() -> None:
    """Four probes halve the deviation of one; each sample has probes of its own."""
    schedule, count = LinearVP(0.1, 30.0), 2000
    model, x = Correlated(schedule), float64(0.1, 0.2, -0.5).expand(count, 3)
    grid = grids.uniform_log_snr(12, schedule, T_MIN)[:-1].flip(0)
    exact = log_prob_ode(model, x[:1], grid=grid)
    density = MultivariateNormal(schedule(grid[0]).alpha * MEAN, model.spread(grid[0]))
    assert float(exact) == pytest.approx(float(density.log_prob(x[0])), abs=0.02)
    one, four = (log_prob_ode(model, x, divergence=Hutchinson(noise(count), probes), grid=grid) for probes in (1, 4))
    for found in (one, four):
        assert abs(float(found.mean() - exact)) < 4 * float(found.std()) / count**0.5
    assert float(one.std()) > 0.1
    assert float(one.std() / four.std()) == pytest.approx(2, rel=0.1)


def test_fixed_steps_leave_a_sample_to_itself_and_converge_to_the_adaptive_ones() -> None:
    schedule = CosineVP()
    model = Mixture(schedule, float64(-0.5, 0.6), float64(0.04, 0.09), float64(0.3, 0.7))
    keys = noise(6).keys
    odd = Noise(Keys(keys.seed, keys.ordinals[1::2]))
    grid = grids.uniform_log_snr(40, schedule, T_MIN)[:-1].flip(0)
    whole = log_prob_ode(model, X, divergence=Hutchinson(noise(6)), grid=grid)
    half = log_prob_ode(model, X[1::2], divergence=Hutchinson(odd), grid=grid)
    torch.testing.assert_close(whole[1::2], half, rtol=1e-12, atol=0)
    fine = log_prob_ode(model, X, t_min=float(grid[0]), rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(log_prob_ode(model, X, grid=grid), fine, rtol=0, atol=1e-4)


def test_the_model_is_never_asked_beyond_the_ends() -> None:
    times: list[float] = []

    class Watched(Normal):
        def __call__(self, x: Tensor, t: Tensor, cond: Any = None) -> Prediction:
            times.append(float(t))
            return super().__call__(x, t, cond)

    log_prob_ode(Watched(LinearVP()), X, t_min=T_MIN)
    assert min(times) == T_MIN
    assert max(times) == 1.0


def test_a_tighter_tolerance_is_closer() -> None:
    model = Normal(LinearVP())
    exact = carried(model, X, 1e-5)
    errors = [float((log_prob_ode(model, X, rtol=r, atol=r) - exact).abs().max()) for r in (1e-3, 1e-6)]
    assert errors[1] < 1e-4 < errors[0]


def test_if_nothing_is_said_the_flow_starts_next_to_the_data_and_keeps_five_digits() -> None:
    model = Normal(LinearVP())
    said = log_prob_ode(model, X, None, Exact(), t_min=1e-5, rtol=1e-5, atol=1e-5, grid=None)
    assert torch.equal(log_prob_ode(model, X), said)


def test_networks_in_float32_see_float32_and_the_answer_is_float64() -> None:
    class White(nn.Module):
        """eps of white data: sigma x_t."""

        def forward(self, x: Tensor, t: Tensor, cond: Any = None) -> Tensor:
            assert x.dtype == t.dtype == torch.float32
            return x * LinearVP()(t).sigma[:, None, None]

    model = Denoiser(White(), LinearVP(), predicts.Noise())
    found = log_prob_ode(model, X.float(), t_min=T_MIN)
    assert found.dtype == torch.float64
    exact = Reference(float64(0.0), float64(1.0)).log_prob(X).flatten(1).sum(1)  # white data stay as they are
    torch.testing.assert_close(found, exact, rtol=0, atol=1e-3)


def test_damped_states_have_the_density_of_data_and_velocity() -> None:
    """Dockhorn et al. 2022: Gaussian data and a Gaussian first velocity stay Gaussian; at t = 0 nothing is singular."""
    process, start = CriticallyDampedLangevin(), (0.49, 0.04 * 0.25)

    class Damped:
        def __init__(self) -> None:
            self.process = process

        def score(self, x: Tensor, t: Tensor, cond: Any = None) -> Tensor:
            precision = torch.linalg.inv(process.covariance(t, start))
            return -(precision[1, 0] * x[:, 0] + precision[1, 1] * x[:, 1])

    x = torch.stack([0.7 * X, 0.1 * X.flip(0)], dim=1)
    found = log_prob_ode(Damped(), x, t_min=0.0, rtol=1e-6, atol=1e-6)
    exact = sum(
        Reference(float64(0.0), float64(var**0.5)).log_prob(x[:, part]).flatten(1).sum(1)
        for part, var in enumerate(start)
    )
    torch.testing.assert_close(found, exact, rtol=0, atol=2e-4)


@pytest.mark.parametrize(
    ("model", "t_min", "end"),
    [
        (Normal(LinearVP()), 0.0, "t = 0"),
        (Tweedie(Normal(Rectified())), T_MIN, "t = 1"),
        (Denoiser(Echo(), Rectified(), predicts.Noise()), T_MIN, "t = 1"),
    ],
)
def test_a_flow_that_is_singular_at_an_end_says_so(model: Any, t_min: float, end: str) -> None:
    for grid in (None, float64(t_min, 0.5, 1.0)):
        with pytest.raises(ValueError, match=f"not finite at {end}"):
            log_prob_ode(model, X, t_min=t_min, grid=grid)
