"""Samplers on data whose denoiser is exact: what one step is, how fast many converge, and where they arrive."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from langevin.diffusion import grids
from langevin.diffusion.denoiser import Clamped, Denoises, DynamicallyClamped, Prediction, Rescheduled
from langevin.diffusion.kernels import ancestral_variance, posterior
from langevin.diffusion.processes import Tweedie
from langevin.diffusion.samplers import (
    DDIM,
    Ancestral,
    AnnealedLangevin,
    DPMSolver,
    EulerMaruyama,
    Heun,
    PredictorCorrector,
    ProbabilityFlow,
    ReverseDiffusion,
    Sampler,
    walk,
)
from langevin.diffusion.schedules import CosineVP, LinearVE, Schedule, Tabulated, cosine_betas
from langevin.diffusion.variance import Learned, Lower, Upper
from langevin.randomness import Keys, Noise

from .exact import SCHEDULES, Counted, Given, Mixture, Normal, float64, line, noise, slope

ALL = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
X = torch.linspace(-3, 3, 24, dtype=torch.float64).reshape(12, 2)
Z = noise(12, seed=9).normal("z", X)
SOME = [(0.95, 0.9), (0.6, 0.1), (0.2, 0.19)]
CHAIN = Tabulated(cosine_betas(1000))


def last(model: Denoises, sampler: Sampler, x: Tensor, grid: Tensor, seed: int = 0) -> Tensor:
    *_, end = walk(model, sampler, x, grid, None, noise(len(x), seed))
    return end


def carried(model: Normal, x: Tensor, t: float, s: float) -> Tensor:
    """Where the probability flow takes x from t to s: x_t - alpha_t mean grows like the deviation of x_t."""
    ends, deviation = model.schedule(float64(t, s)), model.deviation(float64(t, s))
    return ends.alpha[1] * model.mean + (x - ends.alpha[0] * model.mean) * deviation[1] / deviation[0]


def mixture(schedule: Schedule) -> Mixture:
    return Mixture(schedule, float64(-0.8, 0.1, 0.9), float64(0.05, 0.2, 0.1), float64(0.2, 0.5, 0.3))


def numbers(value: float) -> Tensor:
    return torch.full((1, 1), value, dtype=torch.float64)


@ALL
@pytest.mark.parametrize(("t", "s"), SOME)
def test_ddim_and_dpm_solver_at_eta_1_are_ancestral_sampling(schedule: Schedule, t: float, s: float) -> None:
    """Of first order, that is; with the lower variance."""
    model, times = mixture(schedule), (float64(t), float64(s))
    ancestral = Ancestral(Lower())(model, X, *times, None, Given.of(Z))
    for sampler in (DDIM(1.0), DPMSolver(1.0), Ancestral()):
        found = sampler(model, X, *times, None, Given.of(Z))
        torch.testing.assert_close(found, ancestral, rtol=1e-9, atol=1e-9)


@ALL
@pytest.mark.parametrize(("t", "s"), SOME)
def test_ddim_and_dpm_solver_at_eta_0_are_eulers_step(schedule: Schedule, t: float, s: float) -> None:
    """d(x / alpha) = eps d(sigma / alpha). Song et al. 2020, eq. 14. Without a word: both are deterministic."""
    model, at_t, at_s = mixture(schedule), schedule(float64(t)), schedule(float64(s))
    eps = model(X, float64(t)).eps(X, at_t)
    euler = X / at_t.alpha + (at_s.sigma / at_s.alpha - at_t.sigma / at_t.alpha) * eps
    for sampler in (DDIM(0.0), DPMSolver(0.0), DDIM(), DPMSolver()):
        found = sampler(model, X, float64(t), float64(s), None, Given.of(Z))
        torch.testing.assert_close(found / at_s.alpha, euler, rtol=1e-9, atol=1e-9)


@ALL
@pytest.mark.parametrize("sampler", [DDIM(0.3), DDIM(0.8), DPMSolver(0.3), DPMSolver(1.0), DPMSolver(2.0)], ids=str)
def test_ddim_and_dpm_solver_keep_the_marginals_at_any_eta(schedule: Schedule, sampler: DDIM | DPMSolver) -> None:
    """Of data at one point: x_t ~ N(alpha_t x_0, sigma_t^2) goes to N(alpha_s x_0, sigma_s^2). Song et al. 2020, lemma 1;
    Lu et al. 2022 (DPM-Solver++), section 6."""
    point = Normal(schedule, mean=0.7, var=0.0)
    t, s = schedule(float64(0.8)), schedule(float64(0.3))
    step = line(point, sampler, float64(0.8, 0.3))
    mean, var = step.moments(float(t.alpha) * 0.7, float(t.sigma) ** 2)
    assert mean == pytest.approx(float(s.alpha) * 0.7, rel=1e-9)
    assert var == pytest.approx(float(s.sigma) ** 2, rel=1e-9)
    if isinstance(sampler, DDIM):
        assert float(step.by_z) == pytest.approx(sampler.eta * float(ancestral_variance(s, t)) ** 0.5, rel=1e-9)
    else:
        lost = 1 - float(torch.exp(t.log_snr - s.log_snr)) ** sampler.eta
        assert float(step.by_z) == pytest.approx(float(s.sigma) * lost**0.5, rel=1e-9)


def test_ddim_at_a_large_eta_keeps_no_noise() -> None:
    """Where eta x the posterior's deviation is above sigma_s there is none left to keep."""
    t, s = float64(0.8), float64(0.3)
    model = Normal(CHAIN)
    found = DDIM(9.0)(model, X, t, s, None, Given.of(Z))
    c = 9.0 * ancestral_variance(CHAIN(s), CHAIN(t)).sqrt()
    torch.testing.assert_close(found, CHAIN(s).alpha * model(X, t).x0 + c * Z)


@pytest.mark.parametrize("variance", [Lower(), Upper(), Learned(1e-4)])
def test_ancestral_steps_have_the_posteriors_mean_and_the_asked_variance(variance: Lower | Upper | Learned) -> None:
    t, s = float64(0.5), float64(0.45)
    model = Headed(Normal(CHAIN))
    prediction = model(X, t)
    without = Ancestral(variance)(model, X, t, s, None, Given.of(0 * Z))
    torch.testing.assert_close(without, posterior(prediction.x0, X, CHAIN(s), CHAIN(t)).mean)
    moved = Ancestral(variance)(model, X, t, s, None, Given.of(Z)) - without
    torch.testing.assert_close(moved, variance(CHAIN(s), CHAIN(t), prediction.head).sqrt() * Z)


@dataclass(frozen=True)
class Headed:
    """A denoiser with a second head, as that of a learned variance: some function of x in [-1, 1]."""

    base: Normal

    @property
    def schedule(self) -> Schedule:
        return self.base.schedule

    def __call__(self, x: Tensor, t: Tensor, cond: object = None) -> Prediction:
        return Prediction(self.base(x, t).x0, torch.sin(3 * x))


@pytest.mark.parametrize("name", ["linear VP", "sub-VP", "cosine chain", "rectified"])
@pytest.mark.parametrize(
    "sampler",
    [Ancestral(Upper()), Ancestral(), DDIM(0.0), DDIM(1.0), DPMSolver(), DPMSolver(1.0), Heun(), Heun(0.2)],
    ids=str,
)
def test_the_last_step_is_the_denoisers_guess(name: str, sampler: Sampler) -> None:
    """At t = 0 no noise is added to the data, whatever the variance."""
    model, t = Normal(SCHEDULES[name]), float64(0.02)
    found = sampler(model, X, t, float64(0.0), None, Given.of(0 * Z if isinstance(sampler, Heun) else Z))
    if sampler == Heun(0.2):  # it looks from a higher level
        t = model.schedule.time(model.schedule(t).log_snr - 2 * math.log(1.2))
        x = X * model.schedule(t).alpha / model.schedule(float64(0.02)).alpha
        torch.testing.assert_close(found, model(x, t).x0, rtol=1e-7, atol=1e-7)
    else:
        torch.testing.assert_close(found, model(X, t).x0, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("sampler", [ReverseDiffusion(), PredictorCorrector()], ids=str)
def test_reverse_diffusion_adds_no_noise_to_the_data(sampler: Sampler) -> None:
    """Of a VP chain the last mean is (2 - sqrt(1 - beta_1)) x + beta_1 score. Song et al. 2021, eq. 46 and their code."""
    model, t = Normal(CHAIN), float64(0.001)
    beta = float(cosine_betas(1000)[0])
    expected = (2 - (1 - beta) ** 0.5) * X + beta * Tweedie(model).score(X, t)
    found = sampler(model, X, t, float64(0.0), None, Given.of(Z))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


ROUGH = [*SCHEDULES][:6]  # those without the kinks of a chain


@pytest.mark.parametrize("name", ROUGH)
@pytest.mark.parametrize(
    ("sampler", "order"), [(DDIM(), 1), (DPMSolver(), 2), (Heun(), 2), (Heun(0.0, 0.5, 2.0), 2)], ids=str
)
def test_orders_of_convergence(name: str, sampler: Sampler, order: int) -> None:
    """By step halving against the flow of Gaussian data, on equal steps of log-SNR."""
    schedule = SCHEDULES[name]
    model, first, end = Normal(schedule, var=0.02), 0.9, 0.1
    halvings, errors = [32, 64, 128], []
    for steps in halvings:
        grid = grids.uniform_log_snr(steps + 1, schedule, end, first)[:-1]
        errors.append(float((last(model, sampler, X, grid) - carried(model, X, first, end)).abs().max()))
    assert errors[-1] < 0.05
    assert slope(halvings, errors) == pytest.approx(order, abs=0.2)


@pytest.mark.parametrize(("sampler", "order"), [(DDIM(), 1), (DPMSolver(), 2), (Heun(), 2)], ids=str)
@pytest.mark.parametrize("name", ["cosine VP", "geometric VE"])
def test_orders_of_convergence_on_a_mixture(name: str, sampler: Sampler, order: int) -> None:
    """Whose flow is no line, against an adaptive solver; on equal steps of the time."""
    schedule = SCHEDULES[name]
    model = mixture(schedule)
    exact = ProbabilityFlow(1e-8, 1e-8)(model, X, float64(0.8), float64(0.2), None, noise(12))
    halvings, errors = [30, 60, 120], []
    for steps in halvings:
        grid = 0.2 + 0.6 * grids.uniform(steps)
        errors.append(float((last(model, sampler, X, grid) - exact).abs().max()))
    assert slope(halvings, errors) == pytest.approx(order, abs=0.2)


@pytest.mark.parametrize(("sampler", "order"), [(DDIM(), 1), (DPMSolver(), 2), (Heun(), 2)], ids=str)
def test_orders_of_convergence_from_pure_noise(sampler: Sampler, order: int) -> None:
    """Rectified flow begins without signal, where log-SNR and sigma / alpha are infinite: every step is finite."""
    schedule = SCHEDULES["rectified"]
    model = Normal(schedule)
    halvings, errors = [30, 60, 120], []
    for steps in halvings:
        grid = 0.05 + 0.95 * grids.uniform(steps)
        errors.append(float((last(model, sampler, X, grid) - carried(model, X, 1.0, 0.05)).abs().max()))
    assert errors[-1] < 0.03
    assert slope(halvings, errors) == pytest.approx(order, abs=0.25)


@pytest.mark.parametrize(
    "sampler", [Ancestral(), DDIM(), DDIM(1.0), DPMSolver(), DPMSolver(1.0), Heun(), Heun(0.3)], ids=str
)
def test_a_step_from_pure_noise(sampler: Sampler) -> None:
    """At alpha = 0: D is the data's mean, and x goes on as noise, or gives way to fresh noise."""
    schedule = SCHEDULES["rectified"]
    model, s = Normal(schedule), schedule(float64(0.75))
    found = sampler(model, X, float64(1.0), float64(0.75), None, Given.of(Z))
    kept = Z if isinstance(sampler, Ancestral) or getattr(sampler, "eta", 0) else X
    torch.testing.assert_close(found, s.alpha * model.mean + s.sigma * kept, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ROUGH)
def test_the_probability_flow_goes_where_it_should(name: str) -> None:
    """To the tolerance, from pure noise too; and no less with the score of a denoiser than with it."""
    model = Normal(SCHEDULES[name])
    largest = float(X.abs().max())
    for t, s in ((1.0, 0.01), (0.7, 0.2)):
        exact = carried(model, X, t, s)
        scale = float(exact.abs().max()) + largest
        for tolerance in (1e-3, 1e-6):
            sampler = ProbabilityFlow(tolerance, tolerance)
            found = sampler(model, X, float64(t), float64(s), None, noise(12))
            assert float((found - exact).abs().max()) < 100 * tolerance * scale
            if t < 1:
                of_score = sampler(Tweedie(model), X, float64(t), float64(s), None, noise(12))
                assert float((of_score - exact).abs().max()) < 100 * tolerance * scale
    assert ProbabilityFlow() == ProbabilityFlow(1e-5, 1e-5)


def test_the_probability_flow_keeps_the_dtype() -> None:
    model = Normal(SCHEDULES["cosine VP"])
    found = ProbabilityFlow()(model, X.float(), float64(1.0), float64(0.1), None, noise(12))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), carried(model, X, 1.0, 0.1), rtol=1e-3, atol=1e-3)


def test_the_probability_flow_hands_on_the_condition() -> None:
    model, cond = mixture(SCHEDULES["cosine VP"]), torch.arange(12) % 3
    one = Normal(model.schedule, mean=0.1, var=0.2)
    found = ProbabilityFlow(1e-8, 1e-8)(model, X, float64(0.9), float64(0.1), cond, noise(12))
    torch.testing.assert_close(found[cond == 1], carried(one, X, 0.9, 0.1)[cond == 1], rtol=1e-5, atol=1e-5)


SDES = ["linear VP", "sub-VP", "geometric VE"]


@pytest.mark.parametrize("name", SDES)
def test_euler_maruyama_is_the_reverse_sde(name: str) -> None:
    """x - (f - g^2 score) dt + g sqrt(dt) z with the published f and g^2. Song et al. 2021, eq. 30, 32 and 36."""
    schedule, t = SCHEDULES[name], 0.6
    model = mixture(schedule)
    beta, whole = 0.1 + t * 19.9, 0.1 * t + 19.9 * t**2 / 2
    sigma = 0.01 * 5000**t
    drift, g_sq = {
        "linear VP": (-0.5 * beta * X, beta),
        "sub-VP": (-0.5 * beta * X, beta * (1 - math.exp(-2 * whole))),
        "geometric VE": (0 * X, sigma**2 * 2 * math.log(5000)),
    }[name]
    score = Tweedie(model).score(X, float64(t))
    expected = X - (drift - g_sq * score) * 0.02 + (g_sq * 0.02) ** 0.5 * Z
    for scored in (model, Tweedie(model)):
        found = EulerMaruyama()(scored, X, float64(t), float64(t - 0.02), None, Given.of(Z))
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", SDES)
def test_reverse_diffusion_is_the_published_step(name: str) -> None:
    """Song et al. 2021, appendix E: the forward step's f and variance, turned round."""
    schedule = SCHEDULES[name]
    model, t, s = mixture(schedule), schedule(float64(0.6)), schedule(float64(0.55))
    score = Tweedie(model).score(X, t.t)
    if name == "geometric VE":
        var = t.sigma**2 - s.sigma**2
        expected = X + var * score + var.sqrt() * Z
    else:  # x_t = r x_s + sqrt(V) z forwards
        r = t.alpha / s.alpha
        var = t.sigma**2 - r**2 * s.sigma**2
        expected = (2 - r) * X + var * score + var.sqrt() * Z
    found = ReverseDiffusion()(model, X, t.t, s.t, None, Given.of(Z))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", SDES)
@pytest.mark.parametrize("sampler", [EulerMaruyama(), ReverseDiffusion()], ids=str)
def test_samplers_of_the_sde_have_weak_order_1(name: str, sampler: Sampler) -> None:
    """Of Gaussian data, whose moments a walk carries on without chance; it starts with those of x_t."""
    model, t, s = Normal(SCHEDULES[name]), float64(0.5), float64(0.2)
    ends = model.schedule(torch.stack([t, s]))
    halvings, means, variances = [20, 40, 80], [], []
    for steps in halvings:
        grid = 0.2 + 0.3 * grids.uniform(steps)
        mean, var = line(model, sampler, grid).moments(
            float(ends.alpha[0]) * model.mean, float(model.deviation(t)) ** 2
        )
        means.append(abs(mean - float(ends.alpha[1]) * model.mean))
        variances.append(abs(var - float(model.deviation(s)) ** 2))
    assert variances[-1] < 0.08 * float(model.deviation(s)) ** 2
    assert slope(halvings, variances) == pytest.approx(1, abs=0.15)
    if name != "geometric VE":  # there the mean, which stays, is right at once
        assert slope(halvings, means) == pytest.approx(1, abs=0.15)


STOCHASTIC = [
    *(Ancestral(), Ancestral(Upper()), DDIM(0.0), DDIM(0.5), DDIM(1.0), DPMSolver(), DPMSolver(0.5), DPMSolver(1.0)),
    *(Heun(), Heun(0.05), ReverseDiffusion()),
]


@pytest.mark.parametrize("sampler", STOCHASTIC, ids=str)
def test_samples_have_the_moments_of_the_data(sampler: Sampler) -> None:
    """Without chance, from pure noise to the data."""
    model = Normal(CHAIN, mean=0.3, var=0.49)
    mean, var = line(model, sampler, grids.trailing(200, 1000)).moments(0.0, 1.0)
    assert mean == pytest.approx(0.3, abs=0.005)
    assert var == pytest.approx(0.49, rel=0.05)


@pytest.mark.parametrize("sampler", [Ancestral(), DDIM(0.0), DDIM(1.0), DPMSolver(1.0)], ids=str)
def test_samples_with_the_noise_of_keys_have_them_too(sampler: Sampler) -> None:
    model = Normal(CHAIN, mean=0.3, var=0.49)
    count = 8_000
    start = noise(count, seed=5).normal("prior", torch.zeros(count, 1, dtype=torch.float64))
    samples = last(model, sampler, start, grids.trailing(100, 1000), seed=6)
    _, var = line(model, sampler, grids.trailing(100, 1000)).moments(0.0, 1.0)
    assert float(samples.mean()) == pytest.approx(0.3, abs=4 * 0.7 / count**0.5)
    assert float(samples.var()) == pytest.approx(var, rel=4 * (2 / count) ** 0.5)
    kurtosis = float(((samples - samples.mean()) ** 4).mean() / samples.var() ** 2)
    assert kurtosis == pytest.approx(3, abs=0.25)


@pytest.mark.parametrize("sampler", [Ancestral(Lower()), Ancestral(Upper()), DDIM(0.0), DDIM(1.0)], ids=str)
def test_the_variance_of_samples_tends_to_the_datas_with_order_1(sampler: Sampler) -> None:
    model = Normal(CHAIN, mean=0.0, var=0.49)
    steps = [50, 100, 200]
    errors = [abs(line(model, sampler, grids.trailing(n, 1000)).moments(0.0, 1.0)[1] - 0.49) for n in steps]
    assert errors[-1] < 0.02
    assert slope(steps, errors) == pytest.approx(1, abs=0.15)


def test_the_right_variance_lies_between_lower_and_upper() -> None:
    model = Normal(CHAIN, mean=0.0, var=0.49)
    grid = grids.trailing(100, 1000)
    lower, upper = (line(model, Ancestral(v), grid).moments(0.0, 1.0)[1] for v in (Lower(), Upper()))
    assert lower < 0.49 < upper


def test_sde_dpm_solver_is_better_than_its_first_order() -> None:
    """The correction lowers the weak error of the reverse SDE."""
    model = Normal(SCHEDULES["cosine VP"])
    grid = grids.uniform_log_snr(41, model.schedule, 0.05)[:-1]
    want = float(model.deviation(float64(0.05))) ** 2
    start = float(model.deviation(float64(1.0))) ** 2
    second, first = (line(model, sampler, grid).moments(0.0, start)[1] for sampler in (DPMSolver(1.0), DDIM(1.0)))
    assert abs(second - want) < 0.5 * abs(first - want)


def test_dpm_solver_looks_back_half_a_step() -> None:
    """D extrapolated to the middle of the step in log-SNR. Lu et al. 2022 (DPM-Solver++), algorithm 2, of three steps."""
    schedule = SCHEDULES["cosine VP"]
    model, grid = mixture(schedule), float64(0.9, 0.7, 0.4, 0.2)
    lam = schedule(grid).log_snr / 2
    alpha, sigma = schedule(grid).alpha, schedule(grid).sigma
    x, before = X, None
    for i in range(3):
        h = lam[i + 1] - lam[i]
        d = x0 = model(x, grid[i]).x0
        if before is not None:
            r = (lam[i] - lam[i - 1]) / h
            d = (1 + 1 / (2 * r)) * x0 - 1 / (2 * r) * before
        x = sigma[i + 1] / sigma[i] * x - alpha[i + 1] * (torch.exp(-h) - 1) * d
        before = x0
    torch.testing.assert_close(last(model, DPMSolver(), X, grid), x, rtol=1e-9, atol=1e-9)


def test_dpm_solver_forgets_between_walks_and_before_the_data() -> None:
    model, grid = mixture(SCHEDULES["cosine chain"]), float64(0.9, 0.5, 0.0)
    solver = DPMSolver()
    assert torch.equal(last(model, solver, X, grid), last(model, solver, X, grid))
    *_, before, end = walk(model, solver, X, grid, None, noise(12))
    torch.testing.assert_close(end, model(before, grid[1]).x0, rtol=1e-12, atol=1e-12)


def edm(
    model: Normal, x: Tensor, sigmas: Tensor, z: list[Tensor], churn: float, low: float, high: float, s: float
) -> Tensor:
    """Algorithm 2 of Karras et al. 2022, as their generate.py has it. churn: their S_churn / num_steps."""
    for i, (t_cur, t_next) in enumerate(itertools.pairwise(sigmas)):
        gamma = min(churn, math.sqrt(2) - 1) if low <= t_cur <= high else 0
        t_hat = t_cur + gamma * t_cur
        x_hat = x + (t_hat**2 - t_cur**2).sqrt() * s * z[i]
        d_cur = (x_hat - denoised(model, x_hat, t_hat)) / t_hat
        x = x_hat + (t_next - t_hat) * d_cur
        if t_next > 0:
            d_prime = (x - denoised(model, x, t_next)) / t_next
            x = x_hat + (t_next - t_hat) * (0.5 * d_cur + 0.5 * d_prime)
    return x


def denoised(model: Normal, x: Tensor, sigma: Tensor) -> Tensor:
    """E[x_0 | x_0 + sigma eps] of normal data."""
    return model.mean + model.var / (model.var + sigma**2) * (x - model.mean)


@dataclass(frozen=True)
class Listed(Noise):
    """Noise whose step/i has the i-th numbers of a list."""

    steps: list[Tensor] = field(default_factory=list)

    def within(self, scope: str) -> Noise:
        return Given.of(self.steps[int(scope.removeprefix("step/"))])


@pytest.mark.parametrize("name", ["linear VE", "cosine VP"])
@pytest.mark.parametrize(
    ("churn", "low", "high", "s"),
    [(0.0, 0.0, math.inf, 1.0), (0.2, 0.0, 50.0, 1.0), (0.2, 0.05, 30.0, 1.007), (3.0, 0.1, 20.0, 1.0)],
)
def test_heun_is_edms_algorithm(name: str, churn: float, low: float, high: float, s: float) -> None:
    """With churn or without, its cut at sqrt(2) - 1, its interval and S_noise: on EDM's own schedule that ends at 0, and
    of x / alpha on another."""
    schedule = LinearVE(0.0, 80.0) if name == "linear VE" else SCHEDULES[name]
    ends = schedule(float64(0.0, 1.0))
    highest = min(80.0, float(ends.sigma[1] / ends.alpha[1]) * 0.9999)
    grid = grids.karras(12, schedule, 0.02, highest)
    level = schedule(grid)
    sigmas = level.sigma / level.alpha
    model = Normal(schedule)
    z = [noise(12, seed=step).normal("z", X) for step in range(12)]
    expected = edm(model, sigmas[0] * X, sigmas, z, churn, low, high, s)
    start = level.alpha[0] * sigmas[0] * X
    *_, found = walk(model, Heun(churn, low, high, s), start, grid, None, Listed(Keys.range(0, 0, 12), "", z))
    torch.testing.assert_close(found / level.alpha[-1], expected, rtol=1e-7, atol=1e-7)


def test_churn_is_cut_at_the_schedules_end() -> None:
    """No noise beyond t = 1: from it none is added, and from near it only up to it."""
    schedule = LinearVE(0.0, 80.0)
    model, s = Normal(schedule), float64(0.5)
    churned, plain = (Heun(c)(model, X, float64(1.0), s, None, Given.of(Z)) for c in (0.3, 0.0))
    torch.testing.assert_close(churned, plain, rtol=1e-12, atol=1e-12)
    near = Heun(0.3)(model, X, float64(70 / 80), s, None, Given.of(Z))
    raised = X + (80.0**2 - 70.0**2) ** 0.5 * Z
    torch.testing.assert_close(near, Heun()(model, raised, float64(1.0), s, None, Given.of(Z)), rtol=1e-9, atol=1e-9)


def test_churn_acts_at_both_ends_of_its_interval() -> None:
    """S_min <= sigma <= S_max. 40 and no other level."""
    schedule = LinearVE(0.0, 80.0)
    model, t, s = Normal(schedule), float64(0.5), float64(0.25)
    steps = [Heun(0.3, *ends)(model, X, t, s, None, Given.of(Z)) for ends in ((40.0, 40.0), (0.0, 80.0), (40.1, 80.0))]
    assert torch.equal(steps[0], steps[1])
    assert torch.equal(steps[2], Heun()(model, X, t, s, None, Given.of(Z)))
    assert Heun() == Heun(0.0, 0.0, math.inf, 1.0)


CALLS = [
    *((DDIM(), 10), (DDIM(1.0), 10), (Ancestral(), 10), (DPMSolver(), 10), (DPMSolver(1.0), 10), (Heun(), 19)),
    *((Heun(0.1), 19), (ReverseDiffusion(), 10), (EulerMaruyama(), 10), (PredictorCorrector(), 19)),
    *((PredictorCorrector(DDIM(), steps=3), 37), (AnnealedLangevin(4), 40)),
]


@pytest.mark.parametrize(("sampler", "calls"), CALLS, ids=str)
def test_network_calls(sampler: Sampler, calls: int) -> None:
    """Of ten steps to the data; annealed Langevin dynamics has levels, and the lowest is above them."""
    schedule = SCHEDULES["geometric VE" if isinstance(sampler, AnnealedLangevin) else "cosine chain"]
    model = Counted(Normal(schedule))
    last(model, sampler, X, grids.uniform(10))
    assert model.calls == calls


@dataclass(frozen=True)
class Stay:
    """A predictor that stays where it is."""

    def __call__(self, model: Denoises, x: Tensor, t: Tensor, s: Tensor, cond: object, noise: Noise) -> Tensor:
        return x


@pytest.mark.parametrize("steps", [1, 3])
def test_the_corrector_is_langevin_dynamics_of_a_given_signal_to_noise_ratio(steps: int) -> None:
    """e = 2 (r |z| / |score|)^2 with each sample's own norms; x + e score + sqrt(2 e) z. Song et al. 2021, algorithm 4."""
    schedule = SCHEDULES["geometric VE"]
    model, t, s = mixture(schedule), float64(0.6), float64(0.5)
    x = ReverseDiffusion()(model, X, t, s, None, Given.of(Z))
    for _ in range(steps):
        score = Tweedie(model).score(x, s)
        rows = []
        for row in range(12):
            e = 2 * (0.3 * math.hypot(*Z[row].tolist()) / math.hypot(*score[row].tolist())) ** 2
            rows.append(x[row] + e * score[row] + math.sqrt(2 * e) * Z[row])
        x = torch.stack(rows)
    found = PredictorCorrector(snr=0.3, steps=steps)(model, X, t, s, None, Given.of(Z))
    torch.testing.assert_close(found, x, rtol=1e-9, atol=1e-9)
    assert PredictorCorrector() == PredictorCorrector(ReverseDiffusion(), 0.16, 1)


def test_the_corrector_leaves_the_marginal_nearly_as_it_is() -> None:
    """Of r = 0.16 the variance grows by 4 r^4 = 0.3 %; a step of the wrong size or sign would move it by 5 % or more."""
    model, s = Normal(SCHEDULES["cosine VP"], mean=0.0), float64(0.5)
    deviation = float(model.deviation(s))
    like = torch.zeros(200, 800, dtype=torch.float64)
    x = deviation * noise(200, seed=1).normal("x", like)
    found = PredictorCorrector(Stay())(model, x, s, s, None, noise(200))
    assert float(found.var()) == pytest.approx(deviation**2 * (1 + 4 * 0.16**4), rel=4 * (2 / like.numel()) ** 0.5)


@pytest.mark.parametrize("other", ["linear VP", "sub-VP", "geometric VE", "rectified", "linear chain"])
def test_a_denoiser_says_the_same_on_another_schedule(other: str) -> None:
    """Rescheduled is E[x_0 | x_t] of the new schedule: the log-SNR decides, the scale of x does not."""
    model = Normal(CosineVP())
    moved = Rescheduled(model, SCHEDULES[other])
    t = torch.linspace(0.3, 0.9, 12, dtype=torch.float64)
    torch.testing.assert_close(moved(X, t).x0, Normal(SCHEDULES[other])(X, t).x0, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(moved(X, t[4]).x0, Normal(SCHEDULES[other])(X, t[4]).x0, rtol=1e-8, atol=1e-8)


def test_rescheduled_hands_on_the_condition_and_the_head() -> None:
    cond = torch.arange(12) % 3
    model = mixture(CosineVP())
    moved = Rescheduled(model, SCHEDULES["linear VP"])
    expected = mixture(SCHEDULES["linear VP"])(X, float64(0.4), cond).x0
    torch.testing.assert_close(moved(X, float64(0.4), cond).x0, expected, rtol=1e-8, atol=1e-8)
    assert Rescheduled(Headed(Normal(CosineVP())), CosineVP())(X, float64(0.4)).head is not None


FLOWS = [DDIM(0.0), DDIM(0.7), Ancestral(), DPMSolver(), DPMSolver(0.6), Heun(), Heun(0.1, 0.2, 20.0, 1.01)]


@pytest.mark.parametrize("sampler", FLOWS, ids=str)
@pytest.mark.parametrize("other", ["linear VP", "sub-VP", "geometric VE", "rectified"])
def test_samples_do_not_depend_on_the_schedule_they_are_drawn_on(sampler: Sampler, other: str) -> None:
    """At the same log-SNRs a walk ends at the same x / alpha: Karras et al. 2022, section 4."""
    model = mixture(CosineVP())
    moved = Rescheduled(model, SCHEDULES[other])
    grid = torch.linspace(0.9, 0.3, 12, dtype=torch.float64)
    other_grid = moved.schedule.time(model.schedule(grid).log_snr)
    here, there = model.schedule(grid), moved.schedule(other_grid)
    torch.testing.assert_close(there.log_snr, here.log_snr, rtol=1e-9, atol=1e-9)
    ends = last(model, sampler, here.sigma[0] * Z, grid) / here.alpha[-1]
    others = last(moved, sampler, there.sigma[0] * Z, other_grid) / there.alpha[-1]
    torch.testing.assert_close(others, ends, rtol=1e-6, atol=1e-6)


def test_a_walk_yields_every_state_and_is_its_steps() -> None:
    model, grid = Normal(CosineVP()), grids.uniform(7)
    states = list(walk(model, DDIM(0.5), X, grid, None, noise(12)))
    assert len(states) == len(grid)
    assert torch.equal(states[0], X)
    for step, (before, after) in enumerate(itertools.pairwise(states)):
        here = noise(12).within(f"step/{step}")
        assert torch.equal(after, DDIM(0.5)(model, before, grid[step], grid[step + 1], None, here))


@pytest.mark.parametrize(
    "sampler",
    [DDIM(0.5), DPMSolver(), Heun(), Ancestral(), EulerMaruyama(), ReverseDiffusion(), PredictorCorrector()],
    ids=str,
)
def test_a_walk_hands_on_the_condition(sampler: Sampler) -> None:
    """The three classes' samples end at each class's own data."""
    model, cond = mixture(CosineVP()), torch.arange(12) % 3
    grid = 0.05 + 0.9 * grids.uniform(8)
    *_, end = walk(model, sampler, X, grid, cond, noise(12))
    for label, (mean, var) in enumerate([(-0.8, 0.05), (0.1, 0.2), (0.9, 0.1)]):
        expected = last(Normal(CosineVP(), mean, var), sampler, X, grid)
        torch.testing.assert_close(end[cond == label], expected[cond == label], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("sampler", [DPMSolver(), DPMSolver(1.0), PredictorCorrector(Stay())], ids=str)
def test_a_step_by_itself_hands_on_the_condition(sampler: Sampler) -> None:
    """Outside of a walk, too; and the corrector's own looks."""
    model, cond, times = mixture(CosineVP()), torch.arange(12) % 3, (float64(0.6), float64(0.5))
    found = sampler(model, X, *times, cond, Given.of(Z))
    for label, (mean, var) in enumerate([(-0.8, 0.05), (0.1, 0.2), (0.9, 0.1)]):
        expected = sampler(Normal(CosineVP(), mean, var), X, *times, None, Given.of(Z))
        torch.testing.assert_close(found[cond == label], expected[cond == label], rtol=1e-9, atol=1e-9)


@dataclass(frozen=True)
class Overheard(Noise):
    """Noise that notes what it is asked for."""

    heard: list[str] = field(default_factory=list)

    def within(self, scope: str) -> Overheard:
        return Overheard(self.keys, f"{self.scope}{scope}/", self.heard)

    def normal(self, stream: str, like: Tensor) -> Tensor:
        self.heard.append(self.scope + stream)
        return super().normal(stream, like)


DRAWING = [
    *(
        (Ancestral(), 1),
        (DDIM(1.0), 1),
        (DDIM(), 0),
        (DPMSolver(1.0), 1),
        (DPMSolver(), 0),
        (Heun(), 0),
        (Heun(0.1), 1),
    ),
    *((EulerMaruyama(), 1), (ReverseDiffusion(), 1), (PredictorCorrector(steps=3), 4), (AnnealedLangevin(5), 5)),
]


@pytest.mark.parametrize(("sampler", "draws"), DRAWING, ids=str)
def test_no_number_is_used_twice(sampler: Sampler, draws: int) -> None:
    heard = Overheard(Keys.range(0, 0, 12))
    list(walk(Normal(SCHEDULES["geometric VE"]), sampler, X, 0.1 + 0.8 * grids.uniform(6), None, heard))
    assert len(set(heard.heard)) == len(heard.heard) == 6 * draws


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
    model = Headed(Normal(CHAIN, mean=0.0, var=9.0))
    t = torch.full((12,), 0.3, dtype=torch.float64)
    free, clamped = model(X, t), Clamped(model)(X, t)
    assert float(free.x0.abs().max()) > 1
    assert torch.equal(clamped.x0, free.x0.clamp(-1, 1))
    assert torch.equal(clamped.head, free.head)
    assert torch.equal(Clamped(model, -2.0, 0.5)(X, t).x0, free.x0.clamp(-2.0, 0.5))
    assert Clamped(model).schedule is CHAIN
    ends = last(Clamped(model), DDIM(), X, grids.uniform(20))
    assert float(ends.abs().max()) <= 1


@pytest.mark.parametrize("quantile", [0.5, 0.9, 1.0])
def test_the_dynamic_threshold_is_each_images_own(quantile: float) -> None:
    """Saharia et al. 2022, figure A.10: s = max(percentile of |x_0|, 1); clip(x_0, -s, s) / s. Written out over a sort."""
    model = Headed(Normal(CHAIN, mean=0.0, var=9.0))
    x = noise(5).normal("x", torch.zeros(5, 3, 4, 4, dtype=torch.float64)) * float64(0.1, 0.5, 1, 2, 4).reshape(
        5, 1, 1, 1
    )
    t = torch.full((5,), 0.3, dtype=torch.float64)
    free, found = model(x, t), DynamicallyClamped(model, quantile)(x, t)
    limits = []
    for image, cut in zip(free.x0, found.x0, strict=True):
        sizes = sorted(image.abs().flatten().tolist())
        place = quantile * (len(sizes) - 1)
        low = min(int(place), len(sizes) - 2)
        limits.append(max(sizes[low] + (place - low) * (sizes[low + 1] - sizes[low]), 1.0))
        torch.testing.assert_close(cut, image.clamp(-limits[-1], limits[-1]) / limits[-1])
    assert limits[0] == 1
    assert limits[-1] > 1
    assert torch.equal(found.head, free.head)
    assert DynamicallyClamped(model) == DynamicallyClamped(model, 0.995)
    assert DynamicallyClamped(model).schedule is CHAIN


@pytest.mark.parametrize("wrapper", [Clamped, DynamicallyClamped])
def test_thresholds_hand_on_the_condition(wrapper: type[Clamped] | type[DynamicallyClamped]) -> None:
    model, cond = mixture(CHAIN), torch.arange(12) % 3
    torch.testing.assert_close(wrapper(model)(X / 9, float64(0.1), cond).x0, model(X / 9, float64(0.1), cond).x0)
