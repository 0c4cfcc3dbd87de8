"""Upscaling autoregressive diffusion: values from coarse to fine, digit by digit (Hoogeboom et al. 2021, section 5)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from langevin.discrete.ardm import Absorbing, Predicts, State
from langevin.discrete.orders import elements
from langevin.discrete.policy import jumps
from langevin.randomness import Noise


@dataclass(frozen=True)
class Upscaled:
    """Values 0 .. levels - 1 in digits of a base, the most significant first: each stage is an order-agnostic model of
    one digit of every element, given the digits before. A base of ``levels`` is the order-agnostic model itself.

    network: Predicts whose x are values as far as they are known, the digits that are not at 0, whose K is the base, and
    whose noise is (stage + t / D) / stages. Steps are stages x D, and the bound is the sum of the stages' bounds.
    Digits that would lead beyond ``levels`` have probability 0. ValueError for a base below 2.
    """

    network: Predicts
    levels: int
    base: int

    def __post_init__(self) -> None:
        if self.base < 2:
            raise ValueError(f"digits need a base of 2 or more, not {self.base}")

    @property
    def stages(self) -> int:
        """The digits of the largest value."""
        return next(count for count in itertools.count(1) if self.base**count >= self.levels)

    def steps(self, shape: tuple[int, ...]) -> int:
        return self.stages * elements(shape)

    def place(self, stage: Tensor) -> Tensor:
        """What one of a stage's digit is worth: base^(stages - 1 - stage)."""
        return self.base ** (self.stages - 1 - stage)

    def step_losses(self, x: Tensor, step: Tensor, cond: Any, noise: Noise) -> Tensor:
        count = elements(x.shape[1:])
        stage = step // count
        whole = x // self.place(against(stage, x))  # the digits up to the stage's own
        model = Absorbing(Stage(self, whole // self.base, stage), self.base)
        return model.step_losses(whole % self.base, step % count, cond, noise)

    def walk(self, shape: tuple[int, ...], starts: Sequence[int], cond: Any, noise: Noise) -> Iterator[State]:
        count = elements(shape)
        begun = [s for s, _ in jumps(starts, self.steps(shape), self.stages)]
        coarse = torch.zeros(len(noise.keys), *shape, dtype=torch.int64, device=noise.keys.ordinals.device)
        for number in range(self.stages):
            stage = torch.full((len(coarse),), number, device=coarse.device)
            model = Absorbing(Stage(self, coarse, stage), self.base)
            own = [s % count for s in begun if s // count == number]
            states = model.walk(shape, own, cond, noise.within(f"stage/{number}"))
            for digits in itertools.islice(states, number > 0, None):  # a stage begins where the last one ended
                yield self._values(coarse, digits, number)
            coarse = coarse * self.base + digits.low

    def _values(self, coarse: Tensor, digits: State, number: int) -> State:
        place = self.base ** (self.stages - 1 - number)
        low, high = ((coarse * self.base + digit) * place for digit in digits)
        return State(low, (high + place - 1).clamp(max=self.levels - 1))


@dataclass(frozen=True)
class Stage:
    """The network of an upscaling model as Predicts of one stage's digits. coarse: (B, *shape) int64, the digits before as
    a number; number: (B,) int64, which stage.
    """

    model: Upscaled
    coarse: Tensor
    number: Tensor

    def __call__(self, x: Tensor, hidden: Tensor, noise: Tensor, cond: Any) -> Tensor:
        model, place = self.model, self.model.place(against(self.number, x))
        known = (self.coarse * model.base + x) * place
        logits = model.network(known, hidden, (self.number + noise) / model.stages, cond)
        possible = self.coarse[..., None] * model.base + torch.arange(model.base, device=x.device)
        return logits.masked_fill(possible * place[..., None] >= model.levels, -torch.inf)


def against(values: Tensor, x: Tensor) -> Tensor:
    """values (B,) shaped to meet x: (B, ...)."""
    return values.reshape((-1,) + (1,) * (x.ndim - 1))
