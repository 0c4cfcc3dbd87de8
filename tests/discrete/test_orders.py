"""Orders are uniform permutations, one a sample, and training looks at every step equally often."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from langevin.diffusion.times import Antithetic, Stratified
from langevin.discrete.orders import absorbed, random_order, steps_at, stratum
from langevin.randomness import Keys, Noise

from .joint import noise


def test_every_order_is_a_permutation_and_all_are_equally_likely() -> None:
    count = 24_000
    order = random_order(noise(count), torch.empty(count, 4))
    assert torch.equal(order.sort(dim=1).values, torch.arange(4).expand(count, 4))
    found = {tuple(row): 0 for row in itertools.permutations(range(4))}
    for row in order.tolist():
        found[tuple(row)] += 1
    expected = count / math.factorial(4)
    assert sum((n - expected) ** 2 / expected for n in found.values()) < 49.7  # chi-square of 23, one in a thousand


def test_an_order_is_its_samples_own_in_any_batch_and_any_shape() -> None:
    whole = random_order(noise(20), torch.empty(20, 2, 3, 5))
    places = torch.tensor([13, 2, 7])
    part = random_order(Noise(Keys(0, places)), torch.empty(3, 30, dtype=torch.int64))
    assert torch.equal(part, whole[places].flatten(1))
    assert not torch.equal(whole[0], whole[1])
    assert not torch.equal(random_order(noise(20, seed=1), torch.empty(20, 2, 3, 5)), whole)


def test_as_many_elements_are_known_as_there_were_steps() -> None:
    order, step = random_order(noise(9), torch.empty(9, 2, 4)), torch.arange(9) % 8
    hidden = absorbed(order, step)
    assert torch.equal((~hidden).flatten(1).sum(1), step)
    assert torch.equal(hidden, order >= step[:, None, None])


@pytest.mark.parametrize("count", [1, 3, 10, 64])
def test_times_become_steps_equally_often(count: int) -> None:
    n = 100 * count
    step = steps_at(Stratified()(noise(n)), count)
    assert torch.bincount(step, minlength=count).tolist() == pytest.approx([100] * count, abs=3)
    step = steps_at(Antithetic(count=n)(noise(n)), count)
    assert torch.bincount(step, minlength=count).tolist() == pytest.approx([100] * count, abs=1)


def test_the_ends_of_time_are_the_first_and_the_last_step() -> None:
    ends = torch.tensor([0.0, 1e-18, 0.2, 0.2 + 1e-12, 0.8, 1.0], dtype=torch.float64)
    assert steps_at(ends, 5).tolist() == [0, 0, 0, 1, 3, 4]


def test_strata_cover_the_steps_once_or_evenly() -> None:
    for count in (1, 7, 1000):
        for run in {0, count // 2, count - 1}:
            assert stratum(noise(500), run, count, count).unique().tolist() == [run]
    some = torch.cat([stratum(noise(7000).within(f"{run}"), run, 3, 7) for run in range(3)])
    shares = torch.bincount(some, minlength=7) / len(some)
    assert shares.tolist() == pytest.approx([1 / 7] * 7, abs=0.012)
    assert stratum(noise(500), 1, 3, 7).unique().tolist() == [2, 3, 4]  # 7/3 .. 14/3
