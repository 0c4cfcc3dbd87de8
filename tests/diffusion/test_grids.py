"""Grids run from noise to data, through the times that their names promise."""

from __future__ import annotations

import pytest
import torch

from langevin.diffusion import grids
from langevin.diffusion.schedules import CosineVP, LinearVP, Schedule, Tabulated, cosine_betas


def test_uniform_grids_have_equal_steps() -> None:
    torch.testing.assert_close(grids.uniform(4), torch.tensor([1, 0.75, 0.5, 0.25, 0], dtype=torch.float64))


@pytest.mark.parametrize("chain", [1, 2, 3, 10, 97, 1000])
def test_strided_grids_are_different_nodes_as_even_as_whole_numbers_allow(chain: int) -> None:
    for steps in {1, 2, 3, chain // 3, chain // 2, chain - 1, chain} & set(range(1, chain + 1)):
        grid = grids.strided(steps, chain)
        nodes = (grid * chain).round()
        assert torch.equal(nodes / chain, grid)
        assert (float(grid[0]), float(grid[-1]), len(grid)) == (1.0, 0.0, steps + 1)
        gaps = -nodes.diff()
        assert gaps.min() >= 1
        assert gaps.max() - gaps.min() <= 1
        assert float((grid - grids.uniform(steps)).abs().max()) <= 0.5 / chain + 1e-12


@pytest.mark.parametrize("steps", [0, 11, -1])
def test_strided_grids_refuse_steps_that_the_chain_lacks(steps: int) -> None:
    with pytest.raises(ValueError, match=f"a chain of 10 has no {steps} different steps"):
        grids.strided(steps, 10)


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
    steps = schedule(grid[:-1]).log_snr.diff()
    torch.testing.assert_close(steps, steps[:1].expand(9), rtol=1e-6, atol=0)


def test_log_snr_grids_follow_the_schedule_not_the_time() -> None:
    """Two schedules, the same log-SNRs."""
    a, b = LinearVP(), Tabulated(cosine_betas(1000))
    ends = a(torch.tensor([1.0, 0.05], dtype=torch.float64)).log_snr
    grid = grids.uniform_log_snr(9, a, 0.05)
    expected = torch.linspace(float(ends[0]), float(ends[1]), 9, dtype=torch.float64)
    torch.testing.assert_close(a(grid[:-1]).log_snr, expected)
    torch.testing.assert_close(b(b.time(a(grid[:-1]).log_snr)).log_snr, a(grid[:-1]).log_snr, rtol=1e-9, atol=1e-9)
