"""The policy of parallel generation is the cheapest of all there are."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from langevin.discrete.policy import MEMORY, StepLosses, jumps, optimal_policy
from langevin.errors import ConfigError

EXAMPLE = [5, 4, 3, 2.85, 2.80]


def cost_of(losses: list[float], steps: tuple[int, ...] | list[int]) -> float:
    return sum((t - s) * losses[s] for s, t in itertools.pairwise([*steps, len(losses)]))


def cheapest(losses: list[float], budget: int, must: set[int]) -> float:
    inner = itertools.combinations(range(1, len(losses)), budget - 1)
    return min(cost_of(losses, (0, *rest)) for rest in inner if must <= {0, *rest})


@pytest.mark.parametrize(
    ("budget", "steps", "cost"),
    [(1, [0], 25), (2, [0, 2], 19), (3, [0, 1, 2], 18), (4, [0, 1, 2, 3], 17.7), (5, [0, 1, 2, 3, 4], 17.65)],
)
def test_the_example(budget: int, steps: list[int], cost: float) -> None:
    found = optimal_policy(EXAMPLE, budget)
    assert found[0] == steps
    assert found[1] == pytest.approx(cost, abs=1e-12)


@pytest.mark.parametrize("stages", [1, 2, 4])
@pytest.mark.parametrize("falling", [True, False])
def test_none_of_all_policies_is_cheaper(falling: bool, stages: int) -> None:
    generator = np.random.default_rng(stages)
    for _ in range(3):
        losses = generator.gamma(2.0, size=8).tolist()
        losses = sorted(losses, reverse=True) if falling else losses
        for budget in range(stages, 9):
            steps, cost = optimal_policy(losses, budget, stages)
            assert len(steps) == budget
            assert cost == pytest.approx(cost_of(losses, steps), rel=1e-12)
            assert cost == pytest.approx(cheapest(losses, budget, set(range(0, 8, 8 // stages))), rel=1e-12)


def test_a_larger_budget_is_never_dearer_where_losses_fall() -> None:
    losses = torch.linspace(5, 2, 40) ** 2
    costs = [optimal_policy(losses, budget)[1] for budget in range(1, 41)]
    assert all(more <= less for less, more in itertools.pairwise(costs))
    assert costs[-1] == pytest.approx(float(losses.double().sum()))


def test_lists_arrays_and_tensors_are_the_same() -> None:
    expected = optimal_policy(EXAMPLE, 3)
    assert optimal_policy(np.array(EXAMPLE), np.int64(3)) == expected
    assert optimal_policy(torch.tensor(EXAMPLE, dtype=torch.float64), 3) == expected


def test_an_images_policy_is_found_in_seconds() -> None:
    """D = 3 x 32 x 32."""
    steps, cost = optimal_policy(5 - 3 * torch.arange(3072) / 3072, 100)
    assert len(jumps(steps, 3072)) == 100
    # losses fall along a line: with equal jumps the surplus over the area below it is half a step's loss a jump
    exact = float((5 - 3 * torch.arange(3072).double() / 3072).sum())
    assert cost - exact == pytest.approx(3072 * 3 / 200, rel=0.05)


@pytest.mark.parametrize("budget", [0, -1, 6, 2.5])
def test_a_budget_that_cannot_be_kept_is_refused(budget: int) -> None:
    with pytest.raises(ConfigError, match=rf"budget = {budget}.*5 steps; choose one of 1 .. 5"):
        optimal_policy(EXAMPLE, budget)


def test_stages_need_a_jump_each() -> None:
    with pytest.raises(ConfigError, match=r"2 \.\. 4"):
        optimal_policy([4, 3, 2, 1], 1, stages=2)
    with pytest.raises(ConfigError, match="stages = 2: does not divide 5 steps"):
        optimal_policy(EXAMPLE, 2, stages=2)


@pytest.mark.parametrize("losses", [[], [[1.0]], [1.0, float("nan")], [float("inf")]])
def test_losses_must_be_a_row_of_numbers(losses: list[float]) -> None:
    with pytest.raises(ConfigError, match="losses"):
        optimal_policy(losses, 1)


def test_jumps_lead_from_one_start_to_the_next() -> None:
    assert jumps([0, 2, 3], 5) == [(0, 2), (2, 3), (3, 5)]
    for wrong in ([], [1, 2], [0, 2, 2], [0, 3, 2], [0, 5], [0, -1]):
        with pytest.raises(ConfigError, match=r"steps = .*0 to 5"):
            jumps(wrong, 5)
    with pytest.raises(ConfigError, match="multiples of 3"):
        jumps([0, 2, 4], 6, stages=2)


def test_step_losses_are_means_of_visits() -> None:
    met = StepLosses(4)
    with pytest.raises(ConfigError, match="train it"):
        met.known()
    met.learn(torch.tensor([1, 3, 1, 1]), torch.tensor([2.0, 5.0, 4.0, torch.nan]))
    met.learn(torch.tensor([1]), torch.tensor([6.0]))
    assert met.known().tolist() == [4, 4, 4, 5]  # what was not seen has the loss before it, or else the first known
    again = StepLosses(4)
    again.load_state_dict(met.state_dict())
    assert again.policy(2) == met.policy(2)


def test_old_visits_are_forgotten() -> None:
    met = StepLosses(1)
    for _ in range(3 * MEMORY):
        met.learn(torch.tensor([0]), torch.tensor([7.0]))
    for _ in range(MEMORY):
        met.learn(torch.tensor([0]), torch.tensor([1.0]))
    assert float(met.known()) == pytest.approx(1 + 6 * (1 - 1 / MEMORY) ** MEMORY)
    met.learn(torch.zeros(3 * MEMORY, dtype=torch.int64), torch.full((3 * MEMORY,), 2.0))
    assert float(met.known()) == pytest.approx(2)  # one batch of more than it remembers
