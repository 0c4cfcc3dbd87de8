"""Grids run from noise to data, through the times that their names promise."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from langevin.diffusion import grids
from langevin.diffusion.schedules import (
    CosineVP,
    GeometricVE,
    LinearVE,
    LinearVP,
    Rectified,
    Schedule,
    Tabulated,
    cosine_betas,
)
from langevin.evaluation.compatibility import declare_missing_operators

declare_missing_operators()  # diffusers imports torchvision
from diffusers import DDIMScheduler  # noqa: E402


def float64(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_uniform_grids_have_equal_steps() -> None:
    torch.testing.assert_close(grids.uniform(4), float64(1, 0.75, 0.5, 0.25, 0))
    torch.testing.assert_close(grids.uniform(3, 0.1), float64(1, 0.7, 0.4, 0.1))
    assert float(grids.uniform(7)[-1]) == 0
    assert grids.uniform(1).tolist() == [1.0, 0.0]


def test_quadratic_grids_have_equal_steps_of_the_root() -> None:
    torch.testing.assert_close(grids.quadratic(4), float64(1, 0.5625, 0.25, 0.0625, 0))
    torch.testing.assert_close(grids.quadratic(3, 0.16), float64(1, 0.64, 0.36, 0.16))
    assert float(grids.quadratic(7)[-1]) == 0


CHAINS = pytest.mark.parametrize("chain", [1, 2, 3, 10, 97, 1000])


def counts(chain: int) -> set[int]:
    return {1, 2, 3, 7, chain // 3, chain // 2, chain - 1, chain} & set(range(1, chain + 1))


@CHAINS
def test_trailing_grids_are_different_nodes_as_even_as_whole_numbers_allow(chain: int) -> None:
    for steps in counts(chain):
        grid = grids.trailing(steps, chain)
        nodes = (grid * chain).round()
        assert torch.equal(nodes / chain, grid)
        assert (float(grid[0]), float(grid[-1]), len(grid)) == (1.0, 0.0, steps + 1)
        gaps = -nodes.diff()
        assert gaps.min() >= 1
        assert gaps.max() - gaps.min() <= 1
        assert float((grid - grids.uniform(steps)).abs().max()) <= 0.5 / chain + 1e-12


@CHAINS
def test_strided_grids_are_every_so_manieth_node(chain: int) -> None:
    for steps in counts(chain):
        nodes = grids.strided(steps, chain) * chain
        assert len(nodes) == steps + 1
        assert float(nodes[-1]) == 0
        assert float(nodes[-2]) == pytest.approx(1)
        torch.testing.assert_close(-nodes[:-1].diff(), torch.full((steps - 1,), chain // steps, dtype=torch.float64))
        assert chain - chain // steps - steps < float(nodes[0].round()) <= chain


@CHAINS
def test_spread_grids_hold_the_first_and_the_last_node(chain: int) -> None:
    for steps in counts(chain) - {1}:
        nodes = (grids.spread(steps, chain) * chain).round()
        assert (float(nodes[0]), float(nodes[-2]), float(nodes[-1]), len(nodes)) == (chain, 1, 0, steps + 1)
        gaps = -nodes[:-1].diff()
        assert gaps.min() >= 1
        assert gaps.max() - gaps.min() <= 1
    assert grids.spread(1, chain).tolist() == [1.0, 0.0]


@pytest.mark.parametrize(
    ("spacing", "grid"), [("leading", grids.strided), ("linspace", grids.spread), ("trailing", grids.trailing)]
)
@pytest.mark.parametrize("chain", [1000, 100])
@pytest.mark.parametrize("steps", [2, 3, 4, 5, 7, 10, 13, 20, 28, 50, 64, 97])
def test_nodes_are_those_of_diffusers(spacing: str, grid: object, chain: int, steps: int) -> None:
    """Its step k, counted from 0, is our node k + 1. Its trailing steps may run on to -1."""
    scheduler = DDIMScheduler(num_train_timesteps=chain, timestep_spacing=spacing)
    scheduler.set_timesteps(steps)
    found = grid(steps, chain)  # type: ignore[operator]
    assert ((found[:-1] * chain).round().long() - 1).tolist() == scheduler.timesteps[:steps].tolist()
    assert float(found[-1]) == 0


@pytest.mark.parametrize("grid", [grids.strided, grids.spread, grids.trailing])
@pytest.mark.parametrize("steps", [0, 11, -1])
def test_a_chain_has_no_more_steps_than_it_has(grid: object, steps: int) -> None:
    with pytest.raises(ValueError, match=f"a chain of 10 has no {steps} different steps"):
        grid(steps, 10)  # type: ignore[operator]


def test_karras_grids_are_the_published_ones() -> None:
    """Karras et al. 2022, eq. 5, N = 18: on EDM's own time the last level is t = 0 itself, which is said once."""
    grid = grids.karras(18, LinearVE())
    sigma = LinearVE()(grid).sigma
    assert len(grid) == 18
    for place, expected in ((0, 80.0), (1, 57.586), (2, 40.7856), (16, 0.00752802), (17, 0.002)):
        assert float(sigma[place]) == pytest.approx(expected, rel=1e-5)
    ends = 80 ** (1 / 7), 0.002 ** (1 / 7)
    expected = float64(*((ends[0] + i / 17 * (ends[1] - ends[0])) ** 7 for i in range(18)))
    torch.testing.assert_close(sigma, expected, rtol=1e-9, atol=0)
    assert float(grid[-1]) == 0
    assert bool((grid.diff() < 0).all())


def test_karras_grids_follow_any_schedule() -> None:
    """sigma / alpha is what they space; beyond the schedule's ends they are cut off there, and 0 ends them."""
    schedule = LinearVP()
    grid = grids.karras(10, schedule, 0.05, 20.0, 3.0)
    level = schedule(grid[:-1])
    expected = torch.linspace(20 ** (1 / 3), 0.05 ** (1 / 3), 10, dtype=torch.float64) ** 3
    torch.testing.assert_close(level.sigma / level.alpha, expected, rtol=1e-8, atol=0)
    assert (len(grid), float(grid[-1])) == (11, 0.0)
    beyond = grids.karras(5, GeometricVE(0.1, 50.0), sigma_min=0.1)
    assert (float(beyond[0]), float(beyond[-1])) == (1.0, 0.0)
    assert len(beyond) == 5


@pytest.mark.parametrize("schedule", [CosineVP(), Tabulated(cosine_betas(1000))], ids=["cosine VP", "cosine chain"])
def test_log_snr_grids_have_equal_steps_of_it(schedule: Schedule) -> None:
    grid = grids.uniform_log_snr(30, schedule, 0.02)
    assert (float(grid[0]), float(grid[-1]), len(grid)) == (1.0, 0.0, 31)
    assert float(grid[-2]) == pytest.approx(0.02, abs=1e-9)
    steps = schedule(grid[:-1]).log_snr.diff()
    torch.testing.assert_close(steps, steps[:1].expand(29), rtol=1e-6, atol=0)
    assert bool((grid.diff() < 0).all())


def test_log_snr_grids_may_end_where_the_log_snr_is_finite() -> None:
    """CosineVP has a finite one at t = 0."""
    schedule = CosineVP()
    grid = grids.uniform_log_snr(10, schedule)
    torch.testing.assert_close(grid[[0, -2, -1]], float64(1, 0, 0), rtol=0, atol=1e-12)
    steps = schedule(grid[:-1]).log_snr.diff()
    torch.testing.assert_close(steps, steps[:1].expand(9), rtol=1e-6, atol=0)


def test_log_snr_grids_may_begin_where_the_log_snr_is_finite() -> None:
    """The rectified flow has no signal at t = 1."""
    grid = grids.uniform_log_snr(8, Rectified(), 0.01, first=0.99)
    assert (float(grid[0]), float(grid[-1]), len(grid)) == (0.99, 0.0, 9)
    steps = Rectified()(grid[:-1]).log_snr.diff()
    torch.testing.assert_close(steps, torch.full((7,), 4 * math.log(99) / 7, dtype=torch.float64), rtol=1e-9, atol=0)


def test_log_snr_grids_follow_the_schedule_not_the_time() -> None:
    """Two schedules, the same log-SNRs."""
    a, b = LinearVP(), Tabulated(cosine_betas(1000))
    ends = a(float64(1.0, 0.05)).log_snr
    grid = grids.uniform_log_snr(9, a, 0.05)
    expected = torch.linspace(float(ends[0]), float(ends[1]), 9, dtype=torch.float64)
    torch.testing.assert_close(a(grid[:-1]).log_snr, expected)
    torch.testing.assert_close(b(b.time(a(grid[:-1]).log_snr)).log_snr, a(grid[:-1]).log_snr, rtol=1e-9, atol=1e-9)


def test_a_ladder_stands_on_its_first_rung() -> None:
    """NCSN's ten levels: sigma = 1, ..., 0.01 in equal ratios, and Langevin dynamics at each. Song & Ermon 2019, section 4."""
    grid = grids.ladder(10)
    assert (float(grid[0]), float(grid[1]), float(grid[-1]), len(grid)) == (1.0, 1.0, 0.0, 11)
    sigma = GeometricVE(0.01, 1.0)(grid[1:]).sigma
    torch.testing.assert_close(sigma[1:] / sigma[:-1], torch.full((9,), 100 ** (-1 / 9), dtype=torch.float64))


def overlap(ratio: float, dims: int) -> float:
    """How much of a level's shell of noise lies in the three standard deviations of its louder neighbour's."""
    middle, width = math.sqrt(2 * dims) * (ratio - 1), 3 * ratio
    shell = Normal(*torch.zeros(2, dtype=torch.float64).add(torch.tensor([0.0, 1.0])))
    ends = shell.cdf(float64(middle - width, middle + width))
    return float(ends[1] - ends[0])


@pytest.mark.parametrize("dims", [5, 784, 3072, 196608])
@pytest.mark.parametrize("share", [0.3, 0.5, 0.9])
def test_rungs_overlap_by_as_much_as_asked(dims: int, share: float) -> None:
    """Song & Ermon 2020, technique 2. One rung fewer and they overlap by less."""
    span = 1e4 if dims > 5 else 1e40
    count = grids.rungs(0.01 * span, 0.01, dims, share)
    more, fewer = (overlap(span ** (1 / (count - 1 + half)), dims) for half in (0.5, -0.5))
    assert fewer - 1e-9 <= share <= more + 1e-9


def test_rungs_overlap_by_half_if_nothing_is_said() -> None:
    assert grids.rungs(50, 0.01, 3072) == grids.rungs(50, 0.01, 3072, 0.5) == 219
    assert grids.rungs(1.0, 0.999, 3072) == 2


@pytest.mark.parametrize(
    ("data", "sigma_max", "size", "published"),
    [
        ("CIFAR-10", 50, 32, 232),
        ("CelebA", 90, 64, 500),
        ("LSUN churches", 140, 96, 788),
        ("LSUN bedrooms", 190, 128, 1086),
        ("FFHQ", 348, 256, 2311),
    ],
)
def test_ncsnv2s_ladders_overlap_alike(data: str, sigma_max: float, size: int, published: int) -> None:
    """The five ladders that were trained, by one rule, to a level in a thousand. Song & Ermon 2020, appendix B."""
    found = grids.rungs(sigma_max, 0.01, 3 * size * size, 0.5668)
    assert abs(found - published) <= published / 1000, data


def test_a_step_that_goes_nowhere_is_left_out() -> None:
    assert grids.distinct(float64(1, 0.5, 0, 0)).tolist() == [1, 0.5, 0]
    assert grids.distinct(float64(1, 0.5, 1e-19, 0)).tolist() == [1, 0.5, 0]
    assert grids.distinct(float64(1, 0.5, 1e-6, 0)).tolist() == [1, 0.5, 1e-6, 0]
    assert grids.distinct(float64(0, 0)).tolist() == [0, 0]
