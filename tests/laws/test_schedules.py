"""Schedules against published figures, and against what two formulas imply of a stochastic differential equation."""

from __future__ import annotations

import itertools
import math
from dataclasses import FrozenInstanceError

import pytest
import torch
from torch import Tensor

from langevin.diffusion.kernels import transition_variance
from langevin.diffusion.schedules import (
    CosineVP,
    GeometricVE,
    LinearVE,
    LinearVP,
    Rectified,
    Schedule,
    SubVP,
    Tabulated,
    cosine_betas,
    linear_betas,
    scaled_linear_betas,
    sigmoid_betas,
)

from .exact import SCHEDULES, float64

INSIDE = torch.linspace(0, 1, 402, dtype=torch.float64)[1:-1]
VP_BETA = 0.1 + INSIDE * 19.9


def alpha_bar(betas: Tensor) -> Tensor:
    return torch.cumprod(1 - betas, 0)


def near(found: Tensor, expected: float, digits: int = 9) -> bool:
    return math.isclose(float(found), expected, rel_tol=10.0**-digits)


def test_linear_betas_are_ddpms() -> None:
    betas = linear_betas(1000)
    assert near(betas[0], 1e-4, 14)
    assert near(betas[-1], 0.02, 14)
    bar = alpha_bar(betas)
    assert near(bar[0], 0.9999, 14)
    assert near(bar[499], 0.07858724288)
    assert near(bar[999], 4.035829765e-05)


def test_linear_betas_of_a_shorter_chain_lose_the_same_signal() -> None:
    """Times 1000 / T: the integral of beta stays, and with it alpha at the end, to the chain's coarseness."""
    assert near(linear_betas(250)[-1], 0.08, 14)
    logs = [float(torch.log(alpha_bar(linear_betas(steps))[-1])) for steps in (500, 1000, 4000)]
    assert max(logs) - min(logs) < 0.02 * abs(logs[-1])


def test_cosine_betas_are_improved_ddpms() -> None:
    betas = cosine_betas(1000)
    assert near(betas[0], 4.128422482e-05)
    assert near(alpha_bar(betas)[499], 0.4938435904406, 12)
    assert int((betas == 0.999).sum()) == 1
    assert int((betas > 0.999).sum()) == 0


def test_cosine_betas_of_another_offset_and_clip() -> None:
    betas = cosine_betas(50, offset=0.1, largest=0.5)
    angle = [math.cos((i / 50 + 0.1) / 1.1 * math.pi / 2) ** 2 for i in range(51)]
    expected = [min(1 - after / before, 0.5) for before, after in itertools.pairwise(angle)]
    torch.testing.assert_close(betas, float64(*expected), rtol=1e-12, atol=0)
    assert int((betas == 0.5).sum()) > 1


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


@pytest.mark.parametrize(("start", "end", "tau"), [(-3, 3, 1.0), (0, 3, 0.7), (-3, 3, 1.1)])
def test_sigmoid_betas_are_the_published_curve(start: float, end: float, tau: float) -> None:
    """gamma(u) = (S(end / tau) - S((start + u (end - start)) / tau)) / (S(end / tau) - S(start / tau)), S the sigmoid."""
    betas = sigmoid_betas(100, start, end, tau)
    high, low = sigmoid(end / tau), sigmoid(start / tau)
    curve = [(high - sigmoid((start + i / 100 * (end - start)) / tau)) / (high - low) for i in range(101)]
    torch.testing.assert_close(alpha_bar(betas)[:-1], float64(*curve[1:-1]), rtol=1e-11, atol=0)
    assert float(betas[-1]) == 0.999  # all signal would be gone
    assert int((betas >= 0.999).sum()) == 1


def test_sigmoid_betas_start_from_the_published_curve() -> None:
    """-3 to 3 with tau 1: half of the power at half of the time, and symmetrical about it."""
    betas = sigmoid_betas(1000)
    assert torch.equal(betas, sigmoid_betas(1000, -3.0, 3.0, 1.0, 0.999))
    bar = alpha_bar(betas)
    assert near(bar[499], 0.5, 12)
    torch.testing.assert_close(bar[:999] + bar[:999].flip(0), torch.ones(999, dtype=torch.float64), rtol=1e-11, atol=0)
    assert near(bar[249], 0.5 + (sigmoid(1.5) - 0.5) / (2 * sigmoid(3.0) - 1), 12)
    assert near(sigmoid_betas(1000, largest=0.25)[-1], 0.25, 14)


@pytest.mark.parametrize(("ends", "last"), [((0.0015, 0.0195), 1.4230397519e-04), ((0.00085, 0.012), 4.660098513e-03)])
def test_scaled_linear_betas_are_latent_diffusions(ends: tuple[float, float], last: float) -> None:
    betas = scaled_linear_betas(1000, *ends)
    assert near(betas[0], ends[0], 14)
    assert near(betas[-1], ends[1], 14)
    assert near(alpha_bar(betas)[-1], last)


def test_scaled_linear_betas_start_from_the_first_publication() -> None:
    assert torch.equal(scaled_linear_betas(1000), scaled_linear_betas(1000, 0.0015, 0.0195))


def test_vp_and_sub_vp_end_where_score_sde_says() -> None:
    assert near(LinearVP()(float64(1.0)).alpha, 0.006571586494929619, 14)
    assert near(SubVP()(float64(0.5)).sigma, 0.9209361875468394, 14)
    assert near(SubVP()(float64(0.5)).alpha, float(LinearVP()(float64(0.5)).alpha), 14)


def test_ve_schedules_run_between_their_ends() -> None:
    for schedule, low, high in ((GeometricVE(), 0.01, 50.0), (LinearVE(), 0.002, 80.0)):
        ends = schedule(float64(0.0, 1.0))
        assert torch.equal(ends.alpha, torch.ones(2, dtype=torch.float64))
        torch.testing.assert_close(ends.sigma, float64(low, high), rtol=1e-14, atol=0)
    assert near(GeometricVE()(float64(0.5)).sigma, math.sqrt(0.01 * 50), 14)
    assert near(LinearVE()(float64(0.5)).sigma, 40.001, 14)


@pytest.mark.parametrize("name", ["linear VP", "cosine VP", "linear chain", "cosine chain", "scaled linear chain"])
def test_variance_is_preserved(name: str) -> None:
    level = SCHEDULES[name](INSIDE)
    torch.testing.assert_close(level.alpha**2 + level.sigma**2, torch.ones_like(INSIDE), rtol=1e-13, atol=0)


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_signal_to_noise_ratio_falls_strictly(name: str) -> None:
    t = torch.linspace(0, 1, 5003, dtype=torch.float64)
    log_snr = SCHEDULES[name](t).log_snr
    assert bool((log_snr[1:] < log_snr[:-1]).all())


@pytest.mark.parametrize("name", ["linear VP", "sub-VP", "rectified", "linear chain", "cosine chain"])
def test_t_0_is_the_data(name: str) -> None:
    start = SCHEDULES[name](float64(0.0))
    assert (float(start.alpha), float(start.sigma)) == (1.0, 0.0)


@pytest.mark.parametrize("name", ["linear VP", "linear chain", "sub-VP"])
def test_small_sigmas_keep_their_digits(name: str) -> None:
    """1 - alpha^2 by subtraction would be off by 1e-4 of itself here."""
    level = SCHEDULES[name](float64(1e-11))
    with_more_digits = -math.expm1(2 * math.log1p(float(level.alpha) - 1))
    rate = {"linear VP": 0.1, "linear chain": -1000 * math.log1p(-1e-4), "sub-VP": 0.1}[name] * 1e-11
    expected = rate if name == "sub-VP" else math.sqrt(rate)
    assert near(level.sigma, expected, 8)
    assert math.isclose(with_more_digits, rate, rel_tol=1e-3)


@pytest.mark.parametrize("name", SCHEDULES)
def test_time_inverts_log_snr(name: str) -> None:
    schedule = SCHEDULES[name]
    log_snr = schedule(INSIDE).log_snr
    torch.testing.assert_close(schedule.time(log_snr), INSIDE, rtol=0, atol=1e-12)
    torch.testing.assert_close(schedule.time(log_snr[7]), INSIDE[7], rtol=0, atol=1e-12)
    beyond = schedule.time(float64(-1e4, 1e4))
    torch.testing.assert_close(beyond, float64(1.0, 0.0), rtol=0, atol=1e-15)


GAUSS = (  # of five points on [-1, 1], exact for polynomials of degree 9
    [-0.9061798459386640, -0.5384693101056831, 0.0, 0.5384693101056831, 0.9061798459386640],
    [0.2369268850561891, 0.4786286704993665, 0.5688888888888889, 0.4786286704993665, 0.2369268850561891],
)
RATE = math.pi / 2 * (0.995 - 0.01)
ANGLE = (0.01 + INSIDE * (0.995 - 0.01)) * math.pi / 2
VE_SIGMA = 0.002 + INSIDE * (80 - 0.002)
PUBLISHED = {  # f and g^2 of dx = f x dt + g dw
    "linear VP": (-VP_BETA / 2, VP_BETA),
    "sub-VP": (-VP_BETA / 2, VP_BETA * -torch.expm1(-(INSIDE**2) * 19.9 - 2 * INSIDE * 0.1)),
    "cosine VP": (-RATE * torch.tan(ANGLE), 2 * RATE * torch.tan(ANGLE)),
    "geometric VE": (0 * INSIDE, (0.01 * 5000**INSIDE) ** 2 * 2 * math.log(5000)),
    "linear VE": (0 * INSIDE, 2 * VE_SIGMA * (80 - 0.002)),
    "rectified": (-1 / (1 - INSIDE), 2 * INSIDE / (1 - INSIDE)),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_drift_and_diffusion_are_the_published_ones(name: str) -> None:
    """Song et al. 2021, eq. 32-36 for VE, VP and sub-VP; the others by hand."""
    drift_rate, diffusion_sq = PUBLISHED[name]
    torch.testing.assert_close(SCHEDULES[name].drift_rate(INSIDE), drift_rate, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(SCHEDULES[name].diffusion_sq(INSIDE), diffusion_sq, rtol=1e-9, atol=1e-12)


RATES = {  # d log-SNR / dt, by hand
    "cosine VP": -math.pi * 0.985 / (torch.sin(ANGLE) * torch.cos(ANGLE)),
    "geometric VE": torch.full_like(INSIDE, -2 * math.log(5000)),
    "linear VE": -2 * (80 - 0.002) / VE_SIGMA,
    "rectified": -2 / (1 - INSIDE) - 2 / INSIDE,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_log_snr_falls_as_the_diffusion_says(name: str) -> None:
    """-g^2 / sigma^2. Kingma et al. 2021, appendix A."""
    schedule, (_, diffusion_sq) = SCHEDULES[name], PUBLISHED[name]
    rate = schedule.log_snr_rate(INSIDE)
    torch.testing.assert_close(rate, -diffusion_sq / schedule(INSIDE).sigma ** 2, rtol=1e-9, atol=0)
    if name in RATES:
        torch.testing.assert_close(rate, RATES[name], rtol=1e-9, atol=0)


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_log_snr_rate_is_the_slope_of_the_log_snr(name: str) -> None:
    """By its integral: Gauss-Legendre on each of a table's own pieces, where the rate is smooth."""
    schedule = SCHEDULES[name]
    nodes, shares = (float64(*v) for v in GAUSS)
    low = torch.arange(100, 900, 7, dtype=torch.float64) / 1000
    t = low[:, None] + (nodes + 1) / 2 * 1e-3
    found = (schedule.log_snr_rate(t.flatten()).reshape(t.shape) * shares).sum(1) / 2 * 1e-3
    expected = schedule(low + 1e-3).log_snr - schedule(low).log_snr
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("betas", [linear_betas(40), cosine_betas(40), scaled_linear_betas(40), sigmoid_betas(40)])
def test_a_tables_nodes_are_the_chain(betas: Tensor) -> None:
    schedule, nodes = Tabulated(betas), torch.arange(41, dtype=torch.float64) / 40
    levels = schedule(nodes)
    torch.testing.assert_close(levels.alpha[1:] ** 2, alpha_bar(betas), rtol=1e-13, atol=0)
    steps = transition_variance(schedule(nodes[:-1]), schedule(nodes[1:]))
    torch.testing.assert_close(steps, betas, rtol=1e-12, atol=0)


@pytest.mark.parametrize("betas", [linear_betas(40), cosine_betas(40)])
def test_a_table_is_the_vp_sde_of_piecewise_constant_beta(betas: Tensor) -> None:
    schedule = Tabulated(betas)
    beta = -40 * torch.log1p(-betas)
    for place in (0.01, 0.3, 0.99):
        t = (torch.arange(40, dtype=torch.float64) + place) / 40
        torch.testing.assert_close(schedule.drift_rate(t), -beta / 2, rtol=1e-9, atol=0)
        torch.testing.assert_close(schedule.diffusion_sq(t), beta, rtol=1e-9, atol=0)


def test_a_finer_linear_chain_tends_to_the_linear_vp_sde() -> None:
    """beta(t) = 0.1 + 19.9 t is the chain's limit. Song et al. 2021, appendix B."""
    errors = []
    for steps in (500, 1000, 2000, 4000):
        found, limit = Tabulated(linear_betas(steps))(INSIDE).alpha, LinearVP()(INSIDE).alpha
        errors.append(float((found - limit).abs().max()))
    assert errors[-1] < 2e-3
    assert all(1.8 < coarse / fine < 2.2 for coarse, fine in itertools.pairwise(errors))


def test_cosine_vp_is_the_cosine_chain_without_its_clipped_ends() -> None:
    """Both are alpha = cos of an angle that grows linearly: the same log-SNR at the same angle."""
    u = torch.linspace(0.05, 0.95, 50, dtype=torch.float64)
    chain = Tabulated(cosine_betas(1000))(torch.round(u * 1000) / 1000)
    start = math.cos(0.008 / 1.008 * math.pi / 2) ** 2  # the chain begins at alpha = 1 whatever the offset
    angle = (torch.round(u * 1000) / 1000 + 0.008) / 1.008
    schedule = CosineVP()
    t = (angle - schedule.t_min) / (schedule.t_max - schedule.t_min)
    torch.testing.assert_close(schedule(t).alpha ** 2 / start, chain.alpha**2, rtol=1e-10, atol=0)


@pytest.mark.parametrize(
    "betas", [torch.tensor([0.1, 1.0]), torch.tensor([0.0, 0.1]), torch.tensor([0.1, -0.1]), torch.full((2, 2), 0.1)]
)
def test_a_table_refuses_what_is_no_chain(betas: Tensor) -> None:
    with pytest.raises(ValueError, match="betas must be"):
        Tabulated(betas)


@pytest.mark.parametrize("steps", [1, 2, 10, 20])
def test_too_few_steps_for_linear_betas(steps: int) -> None:
    if steps <= 1:
        assert float(linear_betas(steps).max()) < 1
    else:
        with pytest.raises(ValueError, match=f"T = {steps} steps are too few"):
            linear_betas(steps)
    assert float(cosine_betas(steps).max()) < 1


@pytest.mark.parametrize("name", SCHEDULES)
def test_levels_have_the_shape_and_type_of_their_time(name: str) -> None:
    schedule = SCHEDULES[name]
    for t in (float64(0.25), float64(0.25, 0.5), torch.tensor([[0.25], [0.5]])):
        level = schedule(t)
        for value in (level.t, level.alpha, level.sigma, level.log_snr, schedule.drift_rate(t), schedule.time(t)):
            assert (value.shape, value.dtype) == (t.shape, t.dtype)


def test_rectified_is_a_straight_path() -> None:
    level = Rectified()(INSIDE)
    torch.testing.assert_close(level.diffuse(float64(*[2.0] * 400), float64(*[-1.0] * 400)), 2 - 3 * INSIDE)


@pytest.mark.parametrize("schedule", [LinearVP(), Tabulated(cosine_betas(1000))])
def test_the_diffusion_at_the_data_is_the_limit_from_above(schedule: LinearVP | Tabulated) -> None:
    """sigma is a root, whose derivative at 0 is infinite; g^2 is not."""
    at, near = (schedule.diffusion_sq(torch.tensor(t, dtype=torch.float64)) for t in (0.0, 1e-9))
    torch.testing.assert_close(at, near, rtol=1e-4, atol=0)


@pytest.mark.parametrize("name", ["linear VP", "cosine VP", "sub-VP", "geometric VE", "linear VE", "rectified"])
def test_formulas_are_values(name: str) -> None:
    """Equal by their parameters, hashable, and nobody changes one that another holds."""
    schedule = SCHEDULES[name]
    assert type(schedule)() == schedule
    assert hash(type(schedule)()) == hash(schedule)
    with pytest.raises(FrozenInstanceError):
        schedule.beta_min = schedule.t_min = schedule.sigma_min = 1.0  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("kind", "alpha", "sigma"),
    [
        (LinearVP, math.exp(-0.25 / 4 * 2.4 - 0.5 * 0.6 / 2), None),
        (SubVP, math.exp(-0.25 / 4 * 2.4 - 0.5 * 0.6 / 2), 1 - math.exp(-0.25 / 2 * 2.4 - 0.5 * 0.6)),
        (GeometricVE, 1.0, math.sqrt(0.6 * 3.0)),
        (LinearVE, 1.0, 1.8),
    ],
)
def test_ends_of_ones_own(kind: type[Schedule], alpha: float, sigma: float | None) -> None:
    """From 0.6 to 3 in beta or sigma, half of the way."""
    level = kind(0.6, 3.0)(float64(0.5))  # type: ignore[call-arg]
    assert near(level.alpha, alpha, 13)
    assert near(level.sigma, math.sqrt(1 - alpha**2) if sigma is None else sigma, 13)


def test_cosine_vp_between_angles_of_ones_own() -> None:
    level = CosineVP(0.2, 0.6)(float64(0.25))
    assert near(level.alpha, math.cos(0.3 * math.pi / 2), 14)
    assert near(level.sigma, math.sin(0.3 * math.pi / 2), 14)


def test_a_table_says_how_long_its_chain_is() -> None:
    table = Tabulated(linear_betas(40).float())
    assert table.steps == 40
    assert table(float64(0.5)).alpha.dtype == torch.float64
    with pytest.raises(ValueError, match=r"found \(2,\) up to 1$"):
        Tabulated(torch.tensor([0.1, 1.0]))


def test_the_largest_beta_is_in_the_message() -> None:
    with pytest.raises(ValueError, match=r"T = 10 steps are too few: the largest beta is 2, not below 1"):
        linear_betas(10)
    with pytest.raises(ValueError, match=r"the largest beta is 1, not below 1"):
        scaled_linear_betas(4, 0.5, 1.0)
