"""Where training looks, and that it looks everywhere."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from langevin.diffusion.times import Discrete, Stratified, Times, Uniform
from langevin.randomness import Keys, Noise


def drawn(times: Times, ordinals: Tensor, seed: int = 0) -> Tensor:
    return times(Noise(Keys(seed, ordinals)))


def discrepancy(t: Tensor) -> float:
    """The largest difference between the share of t below a point and the point, over all points of [0, 1]."""
    ordered, count = t.sort().values, len(t)
    above = torch.arange(1, count + 1) / count - ordered
    below = ordered - torch.arange(count) / count
    return float(torch.maximum(above, below).max())


def test_uniform_times_are_uniform() -> None:
    t = drawn(Uniform(), torch.arange(40_000))
    assert t.dtype == torch.float64
    assert 0 < float(t.min()) < 1e-3
    assert 1 - 1e-3 < float(t.max()) <= 1
    assert discrepancy(t) < 1.63 / 200  # Kolmogorov-Smirnov at 1 %
    assert discrepancy(t[:2000]) > 1.2 / 2000  # and left to chance


@pytest.mark.parametrize("kind", [Uniform, Stratified])
def test_times_begin_at_t_min(kind: type[Uniform] | type[Stratified]) -> None:
    t = drawn(kind(t_min=0.25), torch.arange(4000))
    assert 0.25 < float(t.min()) < 0.252
    assert 0.998 < float(t.max()) <= 1
    assert discrepancy((t - 0.25) / 0.75) < 0.03


@pytest.mark.parametrize("count", [10, 64, 500, 5000])
@pytest.mark.parametrize("start", [0, 123_457, 2**40])
@pytest.mark.parametrize("stride", [1, 2])
def test_any_run_of_stratified_times_is_even(count: int, start: int, stride: int) -> None:
    """Gaps and discrepancy of order 1 / n, where chance has log n / n and 1 / sqrt n; every second ordinal is one of
    two workers' share."""
    t = drawn(Stratified(), start + stride * torch.arange(count))
    circle = torch.cat([t.sort().values, t.min()[None] + 1])
    assert float(circle.diff().max()) < (3 if stride == 1 else 6) / count
    assert discrepancy(t) < (2 + math.log(count)) / count


def test_stratified_times_are_the_same_on_any_split() -> None:
    ordinals = torch.arange(1000, 1128)
    whole = drawn(Stratified(), ordinals)
    for world in (2, 3):
        parts = [drawn(Stratified(), ordinals[rank::world]) for rank in range(world)]
        assert all(torch.equal(part, whole[rank::world]) for rank, part in enumerate(parts))


def test_stratified_times_start_anywhere() -> None:
    """The seed shifts the whole sequence, by a uniform number: no seed's first sample is special."""
    first = torch.cat([drawn(Stratified(), torch.arange(1), seed) for seed in range(2000)])
    assert discrepancy(first) < 1.63 / 2000**0.5
    a, b = drawn(Stratified(), torch.arange(100), 0), drawn(Stratified(), torch.arange(100), 1)
    turns = (a - b) % 1
    torch.testing.assert_close(turns, turns[:1].expand(100), rtol=0, atol=1e-12)


def test_scopes_shift_stratified_times() -> None:
    noise = Noise(Keys.range(0, 0, 10))
    assert not torch.allclose(Stratified()(noise), Stratified()(noise.within("elsewhere")))


@pytest.mark.parametrize("base", [Uniform(), Stratified()])
@pytest.mark.parametrize("steps", [1, 7, 1000])
def test_discrete_times_are_the_chains_nodes(base: Times, steps: int) -> None:
    t = drawn(Discrete(steps, base), torch.arange(20_000))
    nodes = torch.arange(1, steps + 1, dtype=torch.float64) / steps
    found, counts = t.unique(return_counts=True)
    assert torch.equal(found, nodes)
    share, expected = counts / 20_000, 1 / steps
    chance = 4.5 * math.sqrt(expected * (1 - expected) / 20_000)
    assert float((share - expected).abs().max()) <= (chance if isinstance(base, Uniform) else 12 / 20_000)


def test_discrete_times_round_towards_noise() -> None:
    """t in ((i - 1) / T, i / T] is node i, so each has the density's share of its own step."""
    base = drawn(Stratified(), torch.arange(3000))
    t = drawn(Discrete(40, Stratified()), torch.arange(3000))
    assert bool(((t - base >= -1e-12) & (t - base < 1 / 40)).all())
