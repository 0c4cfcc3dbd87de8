"""Bounds from a few looks: how close they come to the whole sum, what they say of their error, and the limit of many steps."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import pytest
import torch
from torch import Tensor

from langevin.diffusion import grids
from langevin.diffusion.denoiser import Denoises, Rescheduled
from langevin.diffusion.levels import NoiseLevel
from langevin.diffusion.likelihood import continuous_bound, discrete_bound, stratified_bound
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
)
from langevin.diffusion.variance import Lower, ReverseVariance, Upper
from langevin.evaluation.nll import nll
from langevin.protocols import Batch, Bound
from langevin.randomness import Keys, Noise

from .exact import SCHEDULES, Given, Mixture, Normal, float64, noise, slope

LEVELS = 17
GREY = torch.linspace(-1, 1, LEVELS, dtype=torch.float64)
SHARES = torch.softmax(-0.5 * ((GREY - 0.1) / 0.35) ** 2, dim=0)  # of the grey levels
NODES = torch.linspace(-6, 6, 61, dtype=torch.float64)  # of the trapezoidal rule
SHARE_OF_NODE = torch.exp(-(NODES**2) / 2) / math.sqrt(2 * math.pi) * 0.2

# white data and noise, even to second order: means of squares are 1, of products 0
WHITE = float64(1.0, 1.0, -1.0, -1.0).expand(5, 4)
EVEN = float64(1.0, -1.0, 1.0, -1.0).expand(5, 4)


def grey_data(schedule: Schedule) -> Mixture:
    return Mixture(schedule, GREY, torch.zeros_like(GREY), SHARES)


def chain(name: str) -> tuple[Schedule, Tensor]:
    """1000 steps, equal in time or in log-SNR."""
    if name == "linear":
        return Tabulated(linear_betas(1000)), grids.uniform(1000)
    schedule = Tabulated(cosine_betas(1000))
    return schedule, grids.uniform_log_snr(1000, schedule, 0.001)


@cache
def whole_sum(name: str) -> Tensor:
    """(17,) the bound of a grey level in the mean over the noise, every term looked at: by quadrature."""
    schedule, grid = chain(name)
    x0, z = GREY.repeat_interleave(len(NODES))[:, None], NODES.repeat(LEVELS)[:, None]
    bound = discrete_bound(grey_data(schedule), x0, None, Given.of(z), grid, Lower(), LEVELS)
    return (bound.total.reshape(LEVELS, len(NODES)) * SHARE_OF_NODE).sum(1)


@dataclass(frozen=True)
class Pixels:
    """Images of 8 x 8 independent grey pixels, as the platform sees a method."""

    model: Denoises
    grid: Tensor
    calls: int

    def bound(self, batch: Batch, keys: Keys) -> Bound:
        noise = Noise(keys)
        return stratified_bound(self.model, batch.images, None, noise, self.grid, Lower(), LEVELS, self.calls)


def images(count: int) -> tuple[Tensor, Tensor]:
    """(count, 1, 8, 8) float64, and the pixels' levels."""
    u = noise(count, seed=3).uniform("data", torch.zeros(count, 1, 8, 8, dtype=torch.float64))
    level = torch.searchsorted(SHARES.cumsum(0), u).clamp(max=LEVELS - 1)
    return GREY[level], level


def batches(x0: Tensor) -> Iterator[Batch]:
    yield Batch(x0, None, torch.arange(len(x0)), tuple(map(str, range(len(x0)))))


@pytest.mark.parametrize("name", ["linear", "equal in log-SNR"])
def test_a_twentieth_of_the_calls_is_enough(name: str) -> None:
    """T = 1000, 500 images, two draws of 24 + 1 calls: +- 0.01 bits/dim, said by the estimate itself and true."""
    schedule, grid = chain(name)
    x0, level = images(500)
    exact = float(whole_sum(name)[level].sum(dim=(1, 2, 3)).mean()) / 64 / math.log(2)
    found = nll(Pixels(grey_data(schedule), grid, calls=24), batches(x0), seed=3, dims=64, draws=2).estimate
    assert found is not None
    assert found.margin < 0.01
    assert abs(found.value - exact) < 0.01
    assert found.low < exact < found.high


def test_the_interval_is_as_wide_as_the_error() -> None:
    """Over 30 seeds: errors divided by what the estimate says of them are standard normal."""
    schedule, grid = chain("linear")
    x0, level = images(40)
    exact = float(whole_sum("linear")[level].sum(dim=(1, 2, 3)).mean()) / 64 / math.log(2)
    errors = []
    for seed in range(30):
        found = nll(Pixels(grey_data(schedule), grid, calls=6), batches(x0), seed=seed, dims=64, draws=2).estimate
        assert found is not None
        errors.append((found.value - exact) / (found.margin / 1.959964))
    z = torch.tensor(errors)
    assert abs(float(z.mean())) < 4 / 30**0.5
    assert 0.7 < float(z.square().mean().sqrt()) < 1.4


@pytest.mark.parametrize("name", SCHEDULES)
def test_of_white_data_any_terms_tell_the_whole_sum(name: str) -> None:
    """Their terms are what the strata expect of them, so that no choice of terms changes the estimate."""
    schedule = SCHEDULES[name]
    model, given = Normal(schedule, mean=0.0, var=1.0), Given.of(EVEN)
    grid = float64(1.0, 0.95, 0.7, 0.5, 0.4, 0.2, 0.05, 0.01, 0.0)
    whole = discrete_bound(model, WHITE, None, given, grid, Lower(), LEVELS)
    for calls in (1, 2, 5):
        some = stratified_bound(model, WHITE, None, given, grid, Lower(), LEVELS, calls)
        torch.testing.assert_close(some.diffusion, whole.diffusion, rtol=1e-9, atol=0)


@dataclass(frozen=True)
class Extreme(Given):
    """Its uniform numbers are all ``number``."""

    number: float = 0.0

    def uniform(self, stream: str, like: Tensor) -> Tensor:
        return torch.full_like(like, self.number)


@pytest.mark.parametrize("number", [0.0, 1 - 2**-53])
def test_the_first_and_the_last_uniform_number_have_a_term(number: float) -> None:
    """1 + (1 - 2^-53) rounds to 2, the end of the second of two strata, where no term begins."""
    model, given = Normal(SCHEDULES["cosine VP"], 0.0, 1.0), Extreme(noise(5).keys, "", EVEN, number)
    grid = float64(1.0, 0.7, 0.4, 0.1, 0.0)
    whole = discrete_bound(model, WHITE, None, given, grid, Lower(), LEVELS)
    some = stratified_bound(model, WHITE, None, given, grid, Lower(), LEVELS, 2)
    torch.testing.assert_close(some.diffusion, whole.diffusion, rtol=1e-9, atol=0)


@pytest.mark.parametrize("variance", [Lower(), Upper()])
@pytest.mark.parametrize("name", ["rectified", "geometric VE", "linear chain"])
def test_the_estimate_is_right_in_the_mean_on_any_schedule(name: str, variance: ReverseVariance) -> None:
    """Data that are not what the strata expect; also where the first step starts without any signal."""
    schedule, count = SCHEDULES[name], 20_000
    model, x0 = Normal(schedule, 0.1, 0.02), torch.full((count, 1), 0.25, dtype=torch.float64)
    grid = float64(1.0, 0.9, 0.7, 0.5, 0.4, 0.2, 0.1, 0.0)
    whole = discrete_bound(model, x0, None, noise(count), grid, variance, LEVELS).diffusion
    some = stratified_bound(model, x0, None, noise(count, 1), grid, variance, LEVELS, 3).diffusion
    error = math.sqrt(float(some.var() + whole.var()) / count)
    assert abs(float(some.mean() - whole.mean())) < 4 * error


def softplus_area(schedule: Schedule, t_min: float) -> float:
    """1/2 of the integral over log-SNR of snr / (1 + snr): white data's, a dimension."""
    high, low = (float(schedule(float64(t)).log_snr) for t in (t_min, 1.0))
    return 0.5 * (math.log1p(math.exp(high)) - math.log1p(math.exp(low)))


@pytest.mark.parametrize(
    ("schedule", "t_min"),
    [(LinearVP(), 0.01), (SubVP(), 0.05), (CosineVP(), 0.0), (GeometricVE(0.01, 50), 0.0), (LinearVE(), 0.0)],
)
def test_the_continuous_bound_of_white_data_is_its_integral(schedule: Schedule, t_min: float) -> None:
    model, given = Normal(schedule, 0.0, 1.0), Given.of(EVEN[:1].expand(64, 4))
    found = continuous_bound(model, WHITE[:1].expand(64, 4), None, given, LEVELS, 20, t_min).diffusion
    assert float(found.mean()) == pytest.approx(4 * softplus_area(schedule, t_min), rel=0.01)
    assert 0.003 < float(found.std() / found.mean()) < 0.1  # each sample looks at places of its own, in strata


def test_the_discrete_bound_tends_to_the_continuous_one() -> None:
    schedule, t_min = LinearVP(), 0.02
    model, limit = Normal(schedule, 0.0, 1.0), 4 * softplus_area(schedule, t_min)
    steps, gaps = [32, 64, 128], []
    continuous = continuous_bound(model, WHITE, None, Given.of(EVEN), LEVELS, 4, t_min)
    for n in steps:
        grid = grids.uniform_log_snr(n, schedule, t_min)
        bound = discrete_bound(model, WHITE, None, Given.of(EVEN), grid, Lower(), LEVELS)
        gaps.append(float(bound.diffusion[0]) - limit)
        torch.testing.assert_close(bound.prior, continuous.prior, rtol=1e-12, atol=0)
        torch.testing.assert_close(bound.reconstruction, continuous.reconstruction, rtol=1e-6, atol=1e-12)
    assert all(gap > 0 for gap in gaps)
    assert slope(steps, gaps) == pytest.approx(1, abs=0.1)


def test_the_continuous_bound_is_the_same_for_schedules_with_equal_ends() -> None:
    """Number by number with the same keys: what is drawn is the log-SNR, and the path between the ends drops out."""
    base = CosineVP(0.05, 0.95)
    angles = [math.log(math.tan(end * math.pi / 2)) for end in (0.05, 0.95)]

    @dataclass(frozen=True)
    class Straight(Schedule):
        """VP with log-SNR linear between the same ends."""

        def __call__(self, t: Tensor) -> NoiseLevel:
            half = -(angles[0] + t * (angles[1] - angles[0]))
            return NoiseLevel(t, torch.sigmoid(2 * half).sqrt(), torch.sigmoid(-2 * half).sqrt())

    exploding = GeometricVE(math.exp(angles[0]), math.exp(angles[1]))
    x0, _ = images(6)
    exact = grey_data(base)
    expected = continuous_bound(exact, x0, None, noise(6), LEVELS, 8)
    for schedule in (Straight(), exploding):
        found = continuous_bound(Rescheduled(exact, schedule), x0, None, noise(6), LEVELS, 8)
        torch.testing.assert_close(found.diffusion, expected.diffusion, rtol=1e-9, atol=0)
        torch.testing.assert_close(found.reconstruction, expected.reconstruction, rtol=1e-9, atol=1e-12)
        if schedule is not exploding:
            torch.testing.assert_close(found.prior, expected.prior, rtol=1e-9, atol=0)


def test_the_continuous_bound_of_grey_data_is_their_information() -> None:
    """The exact denoiser leaves no gap; that of other shares costs their divergence."""
    schedule = Tabulated(cosine_betas(1000))
    x0, level = images(200)
    for shares in (SHARES, torch.full_like(GREY, 1 / LEVELS)):
        model = Mixture(schedule, GREY, torch.zeros_like(GREY), shares)
        bound = continuous_bound(model, x0, None, noise(200), LEVELS, 40, 0.002)
        gap = bound.total + shares.log()[level].sum(dim=(1, 2, 3))
        assert abs(float(gap.mean())) < 4 * float(gap.std()) / 200**0.5


@pytest.mark.parametrize(
    ("schedule", "t_min", "named"), [(LinearVP(), 0.0, "inf at t = 0"), (Rectified(), 0.01, "-inf at")]
)
def test_the_continuous_bound_needs_finite_ends(schedule: Schedule, t_min: float, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        continuous_bound(Normal(schedule), WHITE, None, noise(5), LEVELS, 2, t_min)


def test_the_continuous_bound_does_not_depend_on_the_batch() -> None:
    model, x0 = grey_data(CosineVP()), GREY[:12, None]
    keys = noise(12).keys
    odd = Noise(Keys(keys.seed, keys.ordinals[1::2]))
    whole = continuous_bound(model, x0, None, noise(12), LEVELS, 5).total
    torch.testing.assert_close(
        whole[1::2], continuous_bound(model, x0[1::2], None, odd, LEVELS, 5).total, rtol=1e-12, atol=0
    )
