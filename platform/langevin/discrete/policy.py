"""Parallel generation: at which steps to call the network where it may be called only so often.

Hoogeboom et al. 2021, section 4 and appendix C, by the dynamic programming of Watson et al. 2021.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from numbers import Integral

import torch
from torch import Tensor, nn

from langevin.errors import ConfigError

MEMORY = 100  # visits of a step that its mean loss remembers


def optimal_policy(losses: Sequence[float] | Tensor, budget: int, stages: int = 1) -> tuple[list[int], float]:
    """The cheapest way from step 0 to step D in ``budget`` jumps: (steps, cost).

    losses: L_0, ..., L_{D-1}, the mean of -log p of an element given what is known at the step (list, array or tensor).
    The network is called at the steps s_0 = 0 < s_1 < ... < s_{budget-1}; the call at s_i generates elements s_i to
    s_{i+1} - 1 at once (s_budget = D) and costs (s_{i+1} - s_i) L_{s_i}. cost: their sum, in the losses' unit, the bound
    on -log p of what is so generated. steps: these ``budget`` starts, not D itself.

    Exactly ``budget`` jumps; where the losses never rise, fewer are not cheaper. stages: the steps fall into so many
    equal parts that no jump leaves (upscaling.py). Time O(D^2 budget), memory O(D budget): seconds for 3072 and 100.
    ConfigError for losses that are no row of finite numbers, and a budget out of stages .. D.
    """
    known = torch.as_tensor(losses, dtype=torch.float64, device="cpu")
    _check(known, budget, stages)
    count = len(known)
    # cost[b, s]: from s to the end in b jumps, of which the first leads to t and costs (t - s) L_s
    cost = torch.full((budget + 1, count + 1), torch.inf, dtype=torch.float64)
    cost[0, count] = 0
    lengths = torch.arange(1, count + 1, dtype=torch.float64)

    def jumps_from(s: int, after: Tensor) -> Tensor:
        """By where they lead, s + 1 to the end of the stage. after: (..., count + 1) costs of going on from there."""
        end = s - s % (count // stages) + count // stages
        return after[..., s + 1 : end + 1] + lengths[: end - s] * known[s]

    for s in reversed(range(count)):
        cost[1:, s] = jumps_from(s, cost[:-1]).amin(dim=1)
    steps = [0]
    for left in range(budget - 1, 0, -1):
        steps.append(steps[-1] + 1 + int(jumps_from(steps[-1], cost[left]).argmin()))
    return steps, float(cost[budget, 0])


def jumps(steps: Sequence[int], count: int, stages: int = 1) -> list[tuple[int, int]]:
    """(s_i, s_{i+1}) of the starts s_0 = 0 < s_1 < ..., the last one up to ``count``.

    ConfigError for starts in another order, beyond the end, or that leave out the first step of one of the stages.
    """
    found = list(itertools.pairwise([*steps, count]))
    if not set(range(0, count, count // stages)) <= set(steps) or any(s >= t or s < 0 for s, t in found):
        raise ConfigError(
            f"are no starts of jumps from 0 to {count}",
            field="steps",
            value=list(steps),
            mend=f"give rising numbers below {count}, the multiples of {count // stages} among them",
        )
    return found


class StepLosses(nn.Module):
    """What each step lost lately, L_0, ..., L_{count - 1}: buffers, saved and loaded with the model that holds them.

    An average of the model's weights follows them (training/ema.py): it is what samples, and at the best steps.
    """

    followed = True

    def __init__(self, count: int, stages: int = 1) -> None:
        super().__init__()
        self.count, self.stages = count, stages
        self.register_buffer("means", torch.zeros(count, dtype=torch.float64))
        self.register_buffer("seen", torch.zeros(count, dtype=torch.int64))

    def learn(self, step: Tensor, losses: Tensor) -> None:
        """Takes note of losses (B,) at steps (B,) int64: the mean of all visits, then of about the last MEMORY.

        What is not finite is left out. On the CPU, where sums come in one order: the same on every process.
        """
        means, seen = self.get_buffer("means"), self.get_buffer("seen")
        finite = torch.isfinite(losses)
        step, losses = step[finite].cpu(), losses[finite].double().cpu()
        met = torch.bincount(step, minlength=self.count).to(seen)
        total = torch.bincount(step, losses, self.count).to(means)
        seen += met
        share = met.to(means) / torch.minimum(seen, met.clamp(min=MEMORY)).clamp(min=1)
        means += share * (total / met.clamp(min=1) - means)

    def known(self) -> Tensor:
        """(count,) float64 on the CPU; a step not seen yet has the loss before it. ConfigError where none was seen."""
        seen = self.get_buffer("seen").cpu() > 0
        if not bool(seen.any()):
            raise ConfigError("a policy needs losses, and this model has met none", mend="train it, or give the steps")
        numbers = torch.arange(self.count)
        return self.get_buffer("means").cpu()[torch.where(seen, numbers, numbers[seen][0]).cummax(0).values]

    def policy(self, budget: int) -> tuple[list[int], float]:
        """``optimal_policy`` for these losses."""
        return optimal_policy(self.known(), budget, self.stages)


def _check(losses: Tensor, budget: int, stages: int) -> None:
    if losses.ndim != 1 or not len(losses) or not bool(torch.isfinite(losses).all()):
        raise ConfigError(f"is no row of finite numbers but has shape {tuple(losses.shape)}", field="losses")
    if stages < 1 or len(losses) % stages:
        raise ConfigError(f"does not divide {len(losses)} steps", field="stages", value=stages)
    if not isinstance(budget, Integral) or not stages <= budget <= len(losses):
        raise ConfigError(
            f"is no number of jumps over {len(losses)} steps",
            field="budget",
            value=budget,
            mend=f"choose one of {stages} .. {len(losses)}",
        )
