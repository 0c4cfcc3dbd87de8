"""Critically-damped Langevin diffusion: its moments, its score, its sampler and its density along the flow."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from decimal import Decimal, localcontext
from functools import partial
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import torch
from scipy.integrate import solve_ivp
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from langevin.diffusion import grids
from langevin.diffusion.flow import Exact, Hutchinson, log_prob_ode, velocity
from langevin.diffusion.processes import CriticallyDampedLangevin, IsotropicProcess, Scores
from langevin.diffusion.samplers import EulerMaruyama, Sampler, walk
from langevin.diffusion.samplers.sscs import SSCS
from langevin.diffusion.schedules import LinearVP
from langevin.diffusion.velocity_score import GuidedScore, VelocityDivergence, VelocityScore, VelocityScoreModel
from langevin.randomness import Keys, Noise

from .exact import float64, noise, slope

PROCESSES = {"as published": CriticallyDampedLangevin(), "heavy": CriticallyDampedLangevin(3.0, 0.6, 0.3)}
PUBLISHED = PROCESSES["as published"]
TIMES = float64(1e-3, 0.02, 0.3, 1.0)
each_process = pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)


def starts(process: CriticallyDampedLangevin) -> list[tuple[float, float]]:
    """Known state; known data; data of variance 0.7."""
    return [(0.0, 0.0), process.hybrid, (0.7, process.hybrid[1])]


def generator(process: CriticallyDampedLangevin) -> np.ndarray:
    """beta K, written down anew."""
    mass = process.mass
    return process.beta * np.array([[0, 1 / mass], [-1, -2 / math.sqrt(mass)]])


@dataclass(frozen=True)
class Gaussian:
    """x_0 ~ N(mean, var), each element by itself, and the velocity's score of it. cond: (B,) a mean instead."""

    process: CriticallyDampedLangevin
    mean: float = 0.3
    var: float = 0.49

    def moments(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """(..., 2) and (..., 2, 2) of the state at t."""
        return (
            self.process.mean_matrix(t)[..., 0] * self.mean,
            self.process.covariance(t, (self.var, self.process.hybrid[1])),
        )

    def log_density(self, x: Tensor, t: Tensor) -> Tensor:
        """(B,) of states (B, 2, ...)."""
        mean, covariance = self.moments(t)
        density = MultivariateNormal(mean[..., None, :], covariance[..., None, :, :])
        return density.log_prob(x.flatten(2).transpose(1, 2)).sum(1)

    def score(self, x: Tensor, t: Tensor, cond: Any = None) -> Tensor:
        mean, covariance = self.moments(t)
        if cond is not None:
            mean = self.process.mean_matrix(t)[..., 0] * cond[:, None]
        precision = torch.linalg.inv(covariance)[..., 1, :]
        away = x - mean.reshape(-1, 2, *(1,) * (x.ndim - 2))
        return -(precision[..., 0] * away[:, 0] + precision[..., 1] * away[:, 1])


@dataclass(frozen=True)
class Streams(Noise):
    """Noise that is 0 but in the streams that are given."""

    given: dict[str, Tensor] = field(default_factory=dict)

    def normal(self, stream: str, like: Tensor) -> Tensor:
        return self.given.get(stream, torch.zeros_like(like)).to(like)


class Silent(nn.Module):
    """The network that adds a constant, and keeps what it was given."""

    def __init__(self, constant: float = 0.0) -> None:
        super().__init__()
        self.constant = constant
        self.given: list[tuple[Tensor, Tensor, Any]] = []

    def forward(self, x: Tensor, time: Tensor, cond: Any = None) -> Tensor:
        self.given.append((x, time, cond))
        return torch.full_like(x[:, : x.shape[1] // 2], self.constant)


@dataclass(frozen=True)
class At:
    """Training at one time only."""

    time: float

    def __call__(self, noise: Noise) -> Tensor:
        return torch.full((len(noise.keys),), self.time, dtype=torch.float64)

    def density(self, t: Tensor) -> Tensor:
        raise NotImplementedError


def propagated(
    sampler: Sampler, model: Scores, moments: tuple[Tensor, Tensor], grid: Tensor, streams: dict[str, int]
) -> tuple[Tensor, Tensor]:
    """Mean (2,) and covariance (2, 2) of what the sampler makes of such states: each step is linear in state and noise.

    streams: the normal numbers that a step asks for, and how many in each stream.
    """
    mean, covariance = moments
    total = 3 + sum(streams.values())
    # a row each for the state 0, the two unit states and every unit of noise: the step's offset and its matrix
    states = torch.zeros(total, 2, 1, dtype=torch.float64)
    states[1:3, :, 0] = torch.eye(2)
    given, row = {}, 3
    for stream, count in streams.items():
        numbers = torch.zeros(total, count, dtype=torch.float64)
        numbers[row : row + count] = torch.eye(count)
        given[stream], row = (numbers[..., None] if count > 1 else numbers), row + count
    source = Streams(Keys.range(0, 0, total), "", given)
    for t, s in itertools.pairwise(grid):
        rows = sampler(model, states, t, s, None, source)[..., 0]
        offset, gain = rows[0], (rows[1:] - rows[0]).T
        mean = gain[:, :2] @ mean + offset
        covariance = gain[:, :2] @ covariance @ gain[:, :2].T + gain[:, 2:] @ gain[:, 2:].T
    return mean, covariance


@each_process
def test_mean_is_the_exponential_of_the_drift(process: CriticallyDampedLangevin) -> None:
    for t in TIMES:
        expected = scipy.linalg.expm(generator(process) * float(t))
        torch.testing.assert_close(process.mean_matrix(t), torch.from_numpy(expected), rtol=1e-12, atol=1e-14)


@each_process
def test_covariance_solves_its_differential_equation(process: CriticallyDampedLangevin) -> None:
    """dSigma/dt = A Sigma + Sigma A^T + diag(0, 2 Gamma beta), Lyapunov's, solved by steps."""
    A = generator(process)
    noise_in = np.diag([0, 2 * 2 * math.sqrt(process.mass) * process.beta])
    for initial in starts(process):

        def rate(t: float, flat: np.ndarray) -> np.ndarray:
            sigma = flat.reshape(2, 2)
            return (A @ sigma + sigma @ A.T + noise_in).ravel()

        solved = solve_ivp(rate, (0, 1), np.diag(initial).ravel(), t_eval=TIMES.numpy(), rtol=1e-11, atol=1e-16)
        expected = torch.from_numpy(solved.y.T.reshape(-1, 2, 2).copy())
        torch.testing.assert_close(process.covariance(TIMES, initial), expected, rtol=1e-9, atol=1e-14)


@each_process
def test_drift_and_diffusion_are_those_of_the_moments(process: CriticallyDampedLangevin) -> None:
    """One step of the SDE as the samplers see it, to first order."""
    basis = torch.eye(2, dtype=torch.float64)[..., None]
    t = float64(0.2)
    matrix = process.drift(basis, t)[..., 0].T
    torch.testing.assert_close(matrix, torch.from_numpy(generator(process)), rtol=1e-14, atol=0)
    torch.testing.assert_close(process.drift(basis, t.expand(2)), process.drift(basis, t))
    pushed = process.drive(torch.ones(1, 1, dtype=torch.float64))[0]
    assert pushed[:, 0].tolist() == [0, 1]
    assert process.driven(basis)[:, 0].tolist() == [0, 1]
    assert process.diffusion_sq(TIMES).shape == TIMES.shape
    fall = matrix @ process.covariance(t, process.hybrid)
    rate = fall + fall.T + process.diffusion_sq(t) * pushed @ pushed.T
    step = 1e-5
    after, before = (process.covariance(t + sign * step, process.hybrid) for sign in (1, -1))
    torch.testing.assert_close((after - before) / (2 * step), rate, rtol=1e-7, atol=1e-7)


def test_simulated_paths_have_the_moments() -> None:
    """Euler's method on the SDE itself, from one image and the velocities it starts with."""
    count, steps, end = 10_000, 100, 0.25
    source = noise(count)
    like = torch.zeros(count, 1, dtype=torch.float64)
    velocity = math.sqrt(PUBLISHED.hybrid[1]) * source.normal("start", like)
    x, span = torch.stack([like + 0.8, velocity], 1), end / steps
    for step in range(steps):
        t = float64(step * span)
        shock = (PUBLISHED.diffusion_sq(t) * span).sqrt() * source.normal(f"shock/{step}", like)
        x = x + PUBLISHED.drift(x, t) * span + PUBLISHED.drive(shock)
    covariance = PUBLISHED.covariance(float64(end), PUBLISHED.hybrid)
    mean = PUBLISHED.mean_matrix(float64(end))[:, 0] * 0.8
    # 4 standard errors and Euler's own error
    torch.testing.assert_close(x[..., 0].mean(0), mean, rtol=0, atol=4 * 0.6 / count**0.5 + span)
    torch.testing.assert_close(torch.cov(x[..., 0].T), covariance, rtol=0, atol=4 * 0.4 * (2 / count) ** 0.5 + span)


@each_process
def test_the_factor_has_all_digits_at_any_time(process: CriticallyDampedLangevin) -> None:
    """L against the textbook's formula in 80 digits: for known data it loses 11 of float64's 16 at t = 1e-6."""

    def reference(t: float, initial: tuple[float, float]) -> list[float]:
        with localcontext() as context:
            context.prec = 80
            mass, tau = Decimal(process.mass), Decimal(process.beta) * Decimal(t)
            root = 1 / mass.sqrt()
            decay = (-root * tau).exp()
            E = [[decay * (1 + root * tau), decay * tau / mass], [-decay * tau, decay * (1 - root * tau)]]
            rest = [Decimal(1), mass]
            off = [Decimal(value) - end for value, end in zip(initial, rest, strict=True)]
            xx, xv, vv = (
                sum(E[i][k] * off[k] * E[j][k] for k in (0, 1)) + (rest[i] if i == j else 0)
                for i, j in ((0, 0), (0, 1), (1, 1))
            )
            wide = xx.sqrt()
            return [float(wide), 0.0, float(xv / wide), float((vv - (xv / wide) ** 2).sqrt())]

    for initial in starts(process):
        for t in (1e-9, 1e-6, 1e-3, 0.03, 0.2, 1.0):
            found = process.cholesky(float64(t), initial).flatten()
            torch.testing.assert_close(found, float64(*reference(t, initial)), rtol=2e-14, atol=0)
    known = process.cholesky(float64(0.0, 1e-300), process.hybrid)
    assert bool(torch.isfinite(known).all())
    assert float(known[0, 1, 0]) == pytest.approx(math.sqrt(process.hybrid[1]))


@each_process
def test_equilibrium_stays_and_everything_else_goes_there(process: CriticallyDampedLangevin) -> None:
    rest = torch.diag(float64(1.0, process.mass))
    for t in TIMES:
        torch.testing.assert_close(process.covariance(t, (1.0, process.mass)), rest, rtol=1e-13, atol=1e-15)
    for initial in starts(process):
        torch.testing.assert_close(process.covariance(float64(8.0), initial), rest, rtol=1e-9, atol=1e-9)
    assert float(process.mean_matrix(float64(8.0)).abs().max()) < 1e-9


@each_process
def test_states_are_drawn_with_the_moments(process: CriticallyDampedLangevin) -> None:
    """Mean E (x_0, 0) and L eps, each sample at its own time and each element by itself; then on from state to state."""
    x0 = torch.linspace(-1, 1, 8, dtype=torch.float64).reshape(4, 2)
    eps = noise(4).normal("eps", torch.zeros(4, 2, 2, dtype=torch.float64))
    x = process.diffuse(x0, eps, TIMES)
    mean = process.mean_matrix(TIMES)[:, :, :1] * x0[:, None]
    torch.testing.assert_close(x, mean + process.cholesky(TIMES, process.hybrid) @ eps)
    after = process.evolve(x, torch.zeros_like(x), float64(0.1))
    torch.testing.assert_close(after, process.mean_matrix(float64(0.1)) @ x)
    mixed = process.mean_matrix(float64(0.1)) @ process.covariance(TIMES, process.hybrid)
    mixed = mixed @ process.mean_matrix(float64(0.1)).T + process.covariance(float64(0.1), (0.0, 0.0))
    torch.testing.assert_close(process.covariance(TIMES + 0.1, process.hybrid), mixed)


def test_the_prior_is_the_equilibrium() -> None:
    for process in PROCESSES.values():
        like = torch.zeros(20_000, 3, dtype=torch.float64)
        x = process.prior(noise(20_000), like)
        assert x.shape == (20_000, 2, 3)
        covariance = torch.cov(x.transpose(0, 1).flatten(1))
        torch.testing.assert_close(covariance, torch.diag(float64(1.0, process.mass)), rtol=0, atol=0.03)
        rest = MultivariateNormal(torch.zeros(2, dtype=torch.float64), torch.diag(float64(1.0, process.mass)))
        torch.testing.assert_close(process.prior_log_prob(x), rest.log_prob(x.transpose(1, 2)).sum(1))


@each_process
def test_noise_of_the_velocity_tells_its_score(process: CriticallyDampedLangevin) -> None:
    """grad_v log q(u_t | x_0) = -eps_v / L_vv: hybrid score matching's target. Dockhorn et al. 2022, section 3.1."""
    x0 = torch.linspace(-1, 1, 4, dtype=torch.float64)[:, None]
    eps = noise(4).normal("eps", torch.zeros(4, 2, 1, dtype=torch.float64))
    x = process.diffuse(x0, eps, TIMES).requires_grad_()
    mean = process.mean_matrix(TIMES)[:, :, 0] * x0
    density = MultivariateNormal(mean, process.covariance(TIMES, process.hybrid))
    (gradient,) = torch.autograd.grad(density.log_prob(x[..., 0]).sum(), x)
    score = -eps[:, 1] / process.cholesky(TIMES, process.hybrid)[:, 1, 1:]
    torch.testing.assert_close(process.driven(gradient), score, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(process.expected_data(x, score, TIMES), x0, rtol=1e-9, atol=1e-9)


@each_process
@pytest.mark.parametrize("variance", [1.0, 0.3])
def test_gaussian_data_leave_nothing_to_the_network(process: CriticallyDampedLangevin, variance: float) -> None:
    """The mixed score of a network that says 0 is the score of N(0, data_var), and it sees numbers of variance 1."""
    network = Silent()
    model = VelocityScoreModel(network, process, variance)
    truth = Gaussian(process, 0.0, variance)
    mean, covariance = truth.moments(TIMES)
    x = MultivariateNormal(mean, covariance).rsample((3,)).permute(1, 2, 0).reshape(4, 2, 1, 3, 1).requires_grad_()
    (gradient,) = torch.autograd.grad(truth.log_density(x, TIMES).sum(), x)
    torch.testing.assert_close(model.score(x, TIMES), process.driven(gradient), rtol=1e-9, atol=1e-9)
    at_one = model.score(x, TIMES[2])
    torch.testing.assert_close(at_one[2], process.driven(gradient)[2], rtol=1e-9, atol=1e-9)
    given, time, _ = network.given[0]
    deviations = torch.diagonal(covariance, dim1=1, dim2=2).sqrt()[..., None, None]
    torch.testing.assert_close(given, x[:, :, 0] / deviations)
    torch.testing.assert_close(time, TIMES)
    assert isinstance(model, Scores)
    assert VelocityScoreModel(network, process).start == (1.0, process.hybrid[1])  # white data if nothing is said


@each_process
@pytest.mark.parametrize("t", [0.02, 0.2, 0.9])
def test_the_loss_is_the_noise_that_states_do_not_tell(process: CriticallyDampedLangevin, t: float) -> None:
    """E ||eps_v - E[eps_v | u]||^2 = 1 - L_vv^2 (Sigma^-1)_vv at the truth, and c^2 more for an answer that is off by c."""
    count, variance = 30_000, 0.3
    x0 = variance**0.5 * noise(count, 1).normal("data", torch.zeros(count, 1, 2, 2, dtype=torch.float64))
    objective, losses = VelocityScore(At(t)), []
    for constant in (0.0, 0.5):
        model = VelocityScoreModel(Silent(constant), process, variance)
        found = objective(model, x0, None, noise(count))
        assert found.terms["time"].tolist() == [t] * count
        losses.append(found.total)
    covariance = process.covariance(float64(t), (variance, process.hybrid[1]))
    told = process.cholesky(float64(t), process.hybrid)[1, 1] ** 2 * torch.linalg.inv(covariance)[1, 1]
    expected = float(1 - told)
    assert 0 < expected < 1
    error = 4 * expected * (2 / (4 * count)) ** 0.5
    assert float(losses[0].mean()) == pytest.approx(expected, abs=error)
    more = losses[1] - losses[0]
    assert float(more.mean()) == pytest.approx(0.25, abs=4 * float(more.std()) / count**0.5)


class Told(nn.Module):
    """The network that says its condition, one number a sample."""

    def forward(self, x: Tensor, time: Tensor, cond: Tensor) -> Tensor:
        return torch.zeros_like(x[:, : x.shape[1] // 2]) + cond.reshape(-1, 1, 1)


def test_the_network_is_told_the_condition() -> None:
    """What it says is added to eps_v: of a score c / L_vv less, of a loss (error - c)^2."""
    like, labels = torch.zeros(3, 1, 4, dtype=torch.float64), float64(-1.0, 0.0, 2.0)
    told, silent = (VelocityScoreModel(network, PUBLISHED, 0.3) for network in (Told(), Silent()))
    x, t = noise(3).normal("state", torch.stack([like, like], 1)), float64(0.3)
    less = labels / PUBLISHED.cholesky(t, PUBLISHED.hybrid)[1, 1]
    torch.testing.assert_close(told.score(x, t, labels), silent.score(x, t) - less[:, None, None])
    totals = VelocityScore(At(0.3))(told, like + 0.5, labels, noise(3)).total
    for row, label in enumerate(labels.tolist()):
        alone = VelocityScoreModel(Silent(label), PUBLISHED, 0.3)
        torch.testing.assert_close(totals[row], VelocityScore(At(0.3))(alone, like + 0.5, None, noise(3)).total[row])


@each_process
def test_the_score_tells_the_expected_data(process: CriticallyDampedLangevin) -> None:
    """E[x_0 | u] of the velocity's score is Gaussian regression of x_0 on the state."""
    truth = Gaussian(process)
    mean, covariance = truth.moments(TIMES)
    x = noise(4).normal("state", torch.zeros(4, 2, 3, dtype=torch.float64))
    with_data = truth.var * process.mean_matrix(TIMES)[:, None, :, 0]
    expected = truth.mean + with_data @ torch.linalg.solve(covariance, x - mean[..., None])
    found = process.expected_data(x, truth.score(x, TIMES[:, None]), TIMES)
    torch.testing.assert_close(found, expected[:, 0], rtol=1e-8, atol=1e-8)


@dataclass(frozen=True)
class Case:
    sampler: Sampler
    order: float
    streams: dict[str, int]
    finest: float  # error of the covariance at 200 steps


CASES = {
    "Euler-Maruyama": Case(EulerMaruyama(), 1.0, {"wiener": 1}, 0.02),
    "SSCS": Case(SSCS(), 1.0, {"sscs/before": 2, "sscs/after": 2}, 0.004),
    "SSCS, midpoint": Case(SSCS(calls=2), 2.0, {"sscs/before": 2, "sscs/after": 2}, 4e-4),
}


@pytest.mark.parametrize("grid", [grids.uniform, grids.quadratic])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_samplers_reach_the_datas_moments_at_their_order(case: Case, grid: Any) -> None:
    """Mean and covariance of the samples, carried from step to step without a random number."""
    truth, last = Gaussian(PUBLISHED), 0.05
    steps, errors = [50, 100, 200], []
    goal = truth.moments(float64(last))
    for count in steps:
        found = propagated(case.sampler, truth, truth.moments(float64(1.0)), grid(count, last), case.streams)
        errors.append(max(float((a - b).abs().max()) for a, b in zip(found, goal, strict=True)))
    assert slope(steps, errors) == pytest.approx(case.order, abs=0.15)
    assert errors[-1] < case.finest


@pytest.mark.parametrize("calls", [1, 2])
def test_splitting_is_exact_at_rest(calls: int) -> None:
    """Data in equilibrium leave no force to S: one step of any length is as good as many."""
    resting = CriticallyDampedLangevin(gamma=1.0)
    truth = Gaussian(resting, 0.0, 1.0)
    streams = {"sscs/before": 2, "sscs/after": 2}
    _, covariance = propagated(SSCS(calls), truth, truth.moments(float64(1.0)), float64(1.0, 0.01), streams)
    torch.testing.assert_close(covariance, torch.diag(float64(1.0, resting.mass)), rtol=1e-12, atol=1e-14)


def test_a_splitting_step_draws_each_noise_once() -> None:
    """Random numbers instead of unit vectors: samples of Gaussian data, by the walk that methods take."""
    truth, count = Gaussian(PUBLISHED), 4000
    like = torch.zeros(count, 2, dtype=torch.float64)
    *_, x = walk(
        truth, SSCS(calls=2), PUBLISHED.prior(noise(count), like), grids.quadratic(60, 0.01), None, noise(count)
    )
    mean, covariance = truth.moments(float64(0.01))
    flat = x.transpose(1, 2).flatten(0, 1)
    torch.testing.assert_close(flat.mean(0), mean, rtol=0, atol=4 * 0.7 / (2 * count) ** 0.5)
    torch.testing.assert_close(torch.cov(flat.T), covariance, rtol=0, atol=4 * 0.5 * (1 / count) ** 0.5)


@pytest.mark.parametrize("sampler", [SSCS(), SSCS(calls=2), EulerMaruyama()], ids=str)
def test_a_step_hands_on_the_condition(sampler: Sampler) -> None:
    """Each sample goes where the score of its own mean leads."""
    means = [-1.0, 0.0, 2.0]
    x = noise(3).normal("state", torch.zeros(3, 2, 2, dtype=torch.float64))
    found = sampler(Gaussian(PUBLISHED), x, float64(0.5), float64(0.4), float64(*means), noise(3, 1))
    for row, mean in enumerate(means):
        alone = sampler(Gaussian(PUBLISHED, mean), x, float64(0.5), float64(0.4), None, noise(3, 1))
        torch.testing.assert_close(found[row], alone[row], rtol=1e-9, atol=1e-9)


def test_splitting_needs_a_velocity() -> None:
    @dataclass(frozen=True)
    class Still:
        process: IsotropicProcess

        def score(self, x: Tensor, t: Tensor, cond: Any = None) -> Tensor:
            return -x

    x = torch.zeros(1, 2, 1)
    with pytest.raises(ValueError, match="critically-damped"):
        SSCS()(Still(IsotropicProcess(LinearVP())), x, float64(1.0), float64(0.9), None, noise(1))


@each_process
def test_the_flow_has_the_density(process: CriticallyDampedLangevin) -> None:
    truth = Gaussian(process, mean=0.0)
    x = noise(3).normal("state", torch.zeros(3, 2, 2, dtype=torch.float64)) * 0.3
    t = float64(0.05)
    # the same path at twice the speed: t = 1 is nearer to the prior
    late = CriticallyDampedLangevin(process.beta * 2, process.mass, process.gamma)
    divergence = VelocityDivergence(Exact())
    found = log_prob_ode(Gaussian(late, 0.0), x, None, divergence, float(t) / 2, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found, truth.log_density(x, t), rtol=1e-4, atol=1e-4)


@each_process
def test_velocities_have_all_of_the_divergence(process: CriticallyDampedLangevin) -> None:
    """Here no element moves another: even one probe is exact, if it asks the velocities alone."""
    truth = Gaussian(process)
    x = noise(3).normal("state", torch.zeros(3, 2, 2, 2, dtype=torch.float64))
    field = partial(velocity, truth, t=float64(0.3))
    value, trace = Exact()(field, x)
    for base in (Exact(), Hutchinson(noise(3))):
        found = VelocityDivergence(base)(field, x)
        torch.testing.assert_close(found, (value, trace), rtol=1e-12, atol=1e-12)
    assert float((Hutchinson(noise(3))(field, x)[1] - trace).abs().min()) > 1e-3


@pytest.mark.parametrize("scale", [-0.5, 0.0, 1.0, 2.5])
def test_guidance_moves_the_score_from_none_to_the_condition(scale: float) -> None:
    truth, t = Gaussian(PUBLISHED), float64(0.3)
    x = noise(3).normal("state", torch.zeros(3, 2, dtype=torch.float64))
    labels = float64(-1.0, 0.0, 2.0)
    guided = GuidedScore(truth, scale)
    none, conditional = truth.score(x, t), truth.score(x, t, labels)
    torch.testing.assert_close(guided.score(x, t, labels), none + scale * (conditional - none))
    assert guided.process is PUBLISHED
