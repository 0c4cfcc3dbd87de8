"""From a density to the probability of a grey level: the unit, the bound, and how more draws tighten it."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import integrate
from torch import Tensor
from torch.distributions import Normal as Reference

from langevin.diffusion import grids
from langevin.diffusion.likelihood import Hutchinson, bits_per_dim, dequantised_bound, log_prob_ode
from langevin.diffusion.schedules import LinearVP
from langevin.randomness import Keys, Noise

from .exact import Normal, float64, noise

LEVELS = 9
HALF = 1 / (LEVELS - 1)
GREY = torch.linspace(-1, 1, LEVELS, dtype=torch.float64)
DENSITY = Reference(float64(0.1), float64(0.12))


def log_density(x: Tensor, noise: Noise) -> Tensor:
    """Each element by itself."""
    return DENSITY.log_prob(x).flatten(1).sum(1)


def of_level(value: float) -> float:
    """-log of the density's mass on a level's cell."""
    cell = DENSITY.cdf(float64(value + HALF)) - DENSITY.cdf(float64(value - HALF))
    return -float(cell.log())


@pytest.mark.parametrize(("levels", "bits"), [(256, math.log2(127.5)), (17, 3.0), (2, -1.0)])
def test_the_unit_is_a_cell_of_width_two_over_levels_less_one(levels: int, bits: float) -> None:
    """What a density of 1 costs: 6.994 bits/dim on 256 levels."""
    x0 = torch.ones(3, 2, 5, dtype=torch.float64)
    bound = dequantised_bound(lambda x, noise: torch.zeros(len(x)), x0, noise(3), levels)
    torch.testing.assert_close(bits_per_dim(bound.total, 10), torch.full((3,), bits, dtype=torch.float64))
    torch.testing.assert_close(bound.reconstruction, bound.total)
    assert bound.prior.tolist() == bound.diffusion.tolist() == [0, 0, 0]


@pytest.mark.parametrize("draws", [1, 3])
def test_an_even_density_gives_each_level_its_share(draws: int) -> None:
    """On [-1 - cell / 2, 1 + cell / 2], the union of the cells and no more: the cells are centred on their levels."""
    edge = 1 + HALF

    def even(x: Tensor, noise: Noise) -> Tensor:
        inside = (x.abs() <= edge).flatten(1).all(1)
        return torch.where(inside, -x[0].numel() * math.log(2 * edge), -torch.inf)

    x0 = GREY[noise(500).uniform("level", torch.zeros(500, 6)).mul(LEVELS).long()]
    bound = dequantised_bound(even, x0, noise(500), LEVELS, draws)
    torch.testing.assert_close(bound.total, torch.full((500,), 6 * math.log(LEVELS), dtype=torch.float64))


def test_draws_fill_the_cell_evenly_and_are_all_different() -> None:
    met: list[Tensor] = []
    streams: list[Tensor] = []

    def watched(x: Tensor, noise: Noise) -> Tensor:
        met.append(x[:, 0] - 0.25)
        streams.append(noise.normal("estimate", x[:, 0]))
        return torch.zeros(len(x), dtype=torch.float64)

    dequantised_bound(watched, torch.full((20_000, 1), 0.25, dtype=torch.float64), noise(20_000), LEVELS, 3)
    u = torch.stack(met)
    assert float(u.min()) == pytest.approx(-HALF, abs=1e-4)
    assert float(u.max()) == pytest.approx(HALF, abs=1e-4)
    assert float(u.mean().abs()) < 4 * HALF / (3 * 60_000) ** 0.5
    assert float(u.var()) == pytest.approx(HALF**2 / 3, rel=0.02)
    for drawn in (u, torch.stack(streams)):
        assert float(torch.corrcoef(drawn).triu(1).abs().max()) < 4.5 / 20_000**0.5


def test_one_draw_is_the_mean_of_the_log_density() -> None:
    value, count = float(GREY[3]), 20_000
    bound = dequantised_bound(log_density, torch.full((count, 1), value, dtype=torch.float64), noise(count), LEVELS)
    mean, _ = integrate.quad(lambda u: -float(DENSITY.log_prob(float64(value + u))) / (2 * HALF), -HALF, HALF)
    assert abs(float(bound.diffusion.mean()) - mean) < 4 * float(bound.diffusion.std()) / count**0.5
    assert mean - math.log(2 * HALF) > of_level(value) + 0.01


def test_more_draws_come_closer_from_above() -> None:
    """Burda et al. 2016, theorem 1; the gap of k draws is about var / 2k."""
    count, value = 20_000, float(GREY[2])
    x0, exact = torch.full((count, 2), value, dtype=torch.float64), 2 * of_level(value)
    gaps = []
    for draws in (1, 2, 8):
        total = dequantised_bound(log_density, x0, noise(count, draws), LEVELS, draws).total
        gaps.append(float(total.mean()) - exact)
        assert gaps[-1] > -4 * float(total.std()) / count**0.5
    assert gaps[0] > 1.5 * gaps[1] > 4 * gaps[2]
    x = torch.linspace(value - HALF, value + HALF, 2001, dtype=torch.float64)
    density = DENSITY.log_prob(x).exp()
    relative = float(density.var() / density.mean() ** 2)
    assert gaps[2] == pytest.approx(((1 + relative) ** 2 - 1) / 16, rel=0.3)


def test_the_flow_is_such_a_density() -> None:
    """By Hutchinson's estimate too, which is exact where elements do not interact."""
    schedule = LinearVP()
    model = Normal(schedule, mean=0.1, var=0.0144)
    grid = grids.uniform_log_snr(20, schedule, 1e-3)[:-1].flip(0)

    def flow(x: Tensor, noise: Noise) -> Tensor:
        return log_prob_ode(model, x, divergence=Hutchinson(noise), grid=grid)

    def exact(x: Tensor, noise: Noise) -> Tensor:
        return Reference(schedule(grid[0]).alpha * 0.1, model.deviation(grid[0])).log_prob(x).sum(1)

    x0 = GREY[3:6, None].repeat_interleave(4, 0).expand(12, 2)
    found, expected = (dequantised_bound(density, x0, noise(12), LEVELS, 2) for density in (flow, exact))
    torch.testing.assert_close(found.diffusion, expected.diffusion, rtol=0, atol=5e-3)


def test_it_does_not_depend_on_the_batch() -> None:
    x0, keys = GREY[:8, None], noise(8).keys
    odd = Noise(Keys(keys.seed, keys.ordinals[1::2]))
    whole = dequantised_bound(log_density, x0, noise(8), LEVELS, 3).total
    torch.testing.assert_close(whole[1::2], dequantised_bound(log_density, x0[1::2], odd, LEVELS, 3).total)


def test_no_draw_is_no_bound() -> None:
    with pytest.raises(ValueError, match="at least one draw, not 0"):
        dequantised_bound(log_density, GREY[:, None], noise(LEVELS), LEVELS, 0)
