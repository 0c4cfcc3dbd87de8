"""The bound's terms one by one, against Bayes' rule written out, for any schedule and reverse variance, with gradients."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal as Reference
from torch.distributions import kl_divergence

from langevin.diffusion.denoiser import Prediction
from langevin.diffusion.levels import NoiseLevel
from langevin.diffusion.likelihood import discrete_bound, reverse_kl, stratified_bound
from langevin.diffusion.schedules import CosineVP, GeometricVE, LinearVP, Rectified, Schedule, Tabulated, linear_betas
from langevin.diffusion.variance import Learned, Lower, ReverseVariance, Upper

from .exact import SCHEDULES, Given, Normal, float64, noise

LEVELS = 17
VARIANCES: list[ReverseVariance] = [Lower(), Upper(), Learned(smallest=0.004)]
LIKE = torch.zeros(4, 2, 3, dtype=torch.float64)
X0 = (noise(4).uniform("x0", LIKE) * (LEVELS - 1)).round() / ((LEVELS - 1) / 2) - 1
X, D, HEAD = (noise(4).normal(name, LIKE) for name in ("x", "D", "head"))
PREDICTION = Prediction(X0 + 0.02 * D, HEAD)
TO_DATA = torch.tensor([True, False, True, False])


def at(schedule: Schedule, t: float) -> NoiseLevel:
    return schedule(torch.full((len(X0),), t, dtype=torch.float64))


def mixed(schedule: Schedule) -> tuple[NoiseLevel, NoiseLevel]:
    """The first and third sample's step leads to the data, the others' do not."""
    s, t = float64(0.0, 0.3, 0.0, 0.3), float64(0.05, 0.6, 0.05, 0.6)
    return schedule(s), schedule(t)


def width(variance: ReverseVariance, lower: float, upper: float) -> Tensor | float:
    if isinstance(variance, Learned):
        return upper ** ((HEAD + 1) / 2) * lower ** ((1 - HEAD) / 2)
    return lower if isinstance(variance, Lower) else upper


def bayes(prediction: Prediction, schedule: Schedule, s: float, t: float, variance: ReverseVariance) -> Tensor:
    """KL from products of densities: q(x_s | x_0) q(x_t | x_s) and nothing of the library's kernels."""
    first, last = schedule(float64(s)), schedule(float64(t))
    ratio = float(last.alpha / first.alpha)
    step = float(last.sigma**2 - ratio**2 * first.sigma**2)  # of q(x_t | x_s)
    precision = 1 / float(first.sigma) ** 2 + ratio**2 / step

    def mean(x0: Tensor) -> Tensor:
        return (float(first.alpha) / float(first.sigma) ** 2 * x0 + ratio / step * X) / precision

    wide = torch.as_tensor(width(variance, 1 / precision, step), dtype=torch.float64)
    true = Reference(mean(X0), precision**-0.5)
    return kl_divergence(true, Reference(mean(prediction.x0), wide.sqrt())).sum(dim=(1, 2))


def decoder(prediction: Prediction, schedule: Schedule, t: float, variance: ReverseVariance) -> Tensor:
    level = schedule(float64(t))
    flat, step = float(level.sigma / level.alpha) ** 2, float(level.sigma) ** 2
    wide = width(variance, 0.004, step) if isinstance(variance, Learned) else torch.tensor(flat)
    gaussian = Reference(prediction.x0, torch.as_tensor(wide, dtype=torch.float64).sqrt())
    high = torch.where(X0 > 0.99, 1.0, gaussian.cdf(X0 + 1 / 16))
    low = torch.where(X0 < -0.99, 0.0, gaussian.cdf(X0 - 1 / 16))
    return -(high - low).log().sum(dim=(1, 2))


@pytest.mark.parametrize("variance", VARIANCES)
@pytest.mark.parametrize("name", SCHEDULES)
def test_a_step_costs_the_divergence_of_bayes_rule(name: str, variance: ReverseVariance) -> None:
    schedule = SCHEDULES[name]
    found = reverse_kl(PREDICTION, X0, X, at(schedule, 0.3), at(schedule, 0.6), variance, LEVELS)
    torch.testing.assert_close(found, bayes(PREDICTION, schedule, 0.3, 0.6, variance), rtol=1e-9, atol=0)


@pytest.mark.parametrize("variance", VARIANCES)
@pytest.mark.parametrize("schedule", [LinearVP(), CosineVP(), GeometricVE(), Rectified()])
def test_the_step_to_the_data_costs_the_decoder(schedule: Schedule, variance: ReverseVariance) -> None:
    """Whether or not the schedule still has noise at t = 0."""
    t = 0.3 if isinstance(schedule, GeometricVE) else 0.1  # some mass on every level in float64
    found = reverse_kl(PREDICTION, X0, X, at(schedule, 0.0), at(schedule, t), variance, LEVELS)
    expected = decoder(PREDICTION, schedule, t, variance)
    assert bool(torch.isfinite(expected).all())
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("variance", VARIANCES)
@pytest.mark.parametrize("schedule", [LinearVP(), CosineVP(), Rectified()])
def test_each_sample_takes_its_own_step(schedule: Schedule, variance: ReverseVariance) -> None:
    """Values and gradients of a batch with both kinds of steps are those of two batches with one kind each."""
    x0, head = (value.clone().requires_grad_() for value in (PREDICTION.x0, HEAD))
    s, t = mixed(schedule)
    found = reverse_kl(Prediction(x0, head), X0, X, s, t, variance, LEVELS)
    expected = torch.where(
        TO_DATA, decoder(PREDICTION, schedule, 0.05, variance), bayes(PREDICTION, schedule, 0.3, 0.6, variance)
    )
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-9)
    found.sum().backward()
    for index, (start, end) in enumerate(zip((0.0, 0.3, 0.0, 0.3), (0.05, 0.6, 0.05, 0.6), strict=True)):
        one = slice(index, index + 1)
        alone = [value[one].clone().requires_grad_() for value in (PREDICTION.x0, HEAD)]
        levels = (schedule(torch.full((1,), time, dtype=torch.float64)) for time in (start, end))
        reverse_kl(Prediction(*alone), X0[one], X[one], *levels, variance, LEVELS).sum().backward()
        torch.testing.assert_close(x0.grad[one], alone[0].grad, rtol=1e-9, atol=1e-12)  # type: ignore[index]
        assert bool((x0.grad[one] != 0).any())  # type: ignore[index]
        if isinstance(variance, Learned):
            torch.testing.assert_close(head.grad[one], alone[1].grad, rtol=1e-9, atol=1e-12)  # type: ignore[index]


def test_its_gradients_are_its_slopes() -> None:
    s, t = mixed(LinearVP())

    def cost(x0: Tensor, head: Tensor) -> Tensor:
        return reverse_kl(Prediction(x0, head), X0, X, s, t, Learned(smallest=0.004), LEVELS)

    near = (X0 + 0.02 * D).requires_grad_(), (0.2 * HEAD).requires_grad_()
    assert torch.autograd.gradcheck(cost, near)


def test_a_wild_prediction_in_pure_noise_has_finite_gradients() -> None:
    """Alpha is 0 and D is anything, in a batch that also steps to the data."""
    schedule = Rectified()
    wild = torch.where(TO_DATA[:, None, None], PREDICTION.x0, 1e9 * D).requires_grad_()
    head = HEAD.clone().requires_grad_()
    s, t = schedule(float64(0.0, 0.3, 0.0, 0.3)), schedule(float64(0.05, 1.0, 0.05, 1.0))
    for variance in VARIANCES:
        cost = reverse_kl(Prediction(wild, head), X0, X, s, t, variance, LEVELS).sum()
        slopes = torch.autograd.grad(cost, (wild, head), allow_unused=True)
        assert all(bool(torch.isfinite(slope).all()) for slope in slopes if slope is not None)


def test_short_steps_keep_their_digits_in_float32() -> None:
    """The two means differ in their seventh digit: 1/2 (snr_s - snr_t) |x_0 - D|^2 all the same."""
    schedule = Tabulated(linear_betas(4000))
    x0, x, d = X0.float(), X.float(), (X0 + 0.01 * D).float()
    s, t = at(schedule, 0.5), at(schedule, 0.50025)
    found = reverse_kl(Prediction(d), x0, x, s, t, Lower(), LEVELS)
    snr_s, snr_t = (s.alpha / s.sigma) ** 2, (t.alpha / t.sigma) ** 2
    expected = 0.5 * (snr_s - snr_t) * (x0.double() - d.double()).square().sum(dim=(1, 2))
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=0)


@dataclass(frozen=True)
class Headed(Normal):
    """With a second head that says the same everywhere."""

    head: float = 1.0

    def __call__(self, x: Tensor, t: Tensor, cond: Any = None) -> Prediction:
        return Prediction(super().__call__(x, t, cond).x0, torch.full_like(x, self.head))


def test_a_learned_variance_reaches_both_of_its_ends() -> None:
    schedule = Tabulated(linear_betas(1000))
    grid, x0 = float64(1.0, 0.7, 0.3, 0.01, 0.0), X0
    learned = Learned.of(schedule, grid)
    for head, fixed in ((1.0, Upper()), (-1.0, Lower())):
        model = Headed(schedule, head=head)
        found = discrete_bound(model, x0, None, noise(4), grid, learned, LEVELS)
        expected = discrete_bound(model, x0, None, noise(4), grid, fixed, LEVELS)
        torch.testing.assert_close(found.diffusion, expected.diffusion, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(found.prior, expected.prior, rtol=0, atol=0)
    # the step to the data: sigma^2 above, Var[x_s | x_t, x_0] of the step before below
    near, far = (schedule(float64(t)) for t in (0.01, 0.3))
    lower = float(near.sigma**2 * (1 - (far.alpha / far.sigma) ** 2 / (near.alpha / near.sigma) ** 2))
    assert learned.smallest == pytest.approx(lower, rel=1e-12)


def test_a_learned_variance_needs_a_head() -> None:
    with pytest.raises(ValueError, match="second head"):
        reverse_kl(Prediction(X0), X0, X, *mixed(LinearVP()), Learned(1e-4), LEVELS)


@pytest.mark.parametrize("name", ["sub-VP", "geometric VE", "linear VE", "rectified", "cosine VP"])
def test_the_bound_of_gaussian_data_is_its_closed_form_on_any_schedule(name: str) -> None:
    """Kingma et al. 2021, eq. 13, and the prior that belongs to the schedule; zero terminal SNR is no exception."""
    schedule = SCHEDULES[name]
    nodes = torch.linspace(-8, 8, 161, dtype=torch.float64)[:, None]
    share = torch.exp(-(nodes[:, 0] ** 2) / 2) / math.sqrt(2 * math.pi) * 0.1
    model, x0, times = Normal(schedule, mean=0.2, var=0.3), 0.5, (1.0, 0.6, 0.3, 0.05)
    found = discrete_bound(
        model, torch.full_like(nodes, x0), None, Given.of(nodes), float64(*times, 0.0), Lower(), LEVELS
    )
    diffusion = 0.0
    for t, s in itertools.pairwise(times):
        first, last = schedule(float64(s)), schedule(float64(t))
        alpha, sigma = float(last.alpha), float(last.sigma)
        gain = 0.3 * alpha / (alpha**2 * 0.3 + sigma**2)
        bias = (x0 - 0.2) * (1 - gain * alpha)
        snr_s, snr_t = float(first.alpha / first.sigma) ** 2, (alpha / sigma) ** 2
        diffusion += 0.5 * (snr_s - snr_t) * (bias**2 + (gain * sigma) ** 2)
    assert float((share * found.diffusion).sum()) == pytest.approx(diffusion, rel=1e-9)
    first = schedule(float64(1.0))
    prior = Reference(float64(0.0), first.sigma.clamp(min=1.0))
    expected = kl_divergence(Reference(first.alpha * x0, first.sigma), prior)
    torch.testing.assert_close(found.prior, expected.expand(161), rtol=1e-9, atol=1e-15)


def test_the_prior_stands_where_the_chain_starts() -> None:
    """A chain that starts short of pure noise, at a level of its own."""
    for schedule in (LinearVP(), GeometricVE()):
        grid, start = float64(0.7, 0.3, 0.0), schedule(float64(0.7))
        prior = Reference(float64(0.0), start.sigma.clamp(min=1.0))
        expected = kl_divergence(Reference(start.alpha * X0, start.sigma), prior).sum(dim=(1, 2))
        for bound in (
            discrete_bound(Normal(schedule), X0, None, noise(4), grid, Lower(), LEVELS),
            stratified_bound(Normal(schedule), X0, None, noise(4), grid, Lower(), LEVELS, 1),
        ):
            torch.testing.assert_close(bound.prior, expected, rtol=1e-9, atol=0)
