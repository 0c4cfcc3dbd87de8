"""A joint distribution of a few tokens, and the network that knows its conditionals exactly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from langevin.randomness import Keys, Noise

D, K = 3, 3


@dataclass(frozen=True)
class Joint:
    """p: (K, ..., K) float64, D times, the probability of (x_1, ..., x_D)."""

    p: Tensor

    @classmethod
    def random(cls, levels: int = K, tokens: int = D, seed: int = 0) -> Joint:
        u = Noise(Keys.range(seed, 0, 1)).normal("joint", torch.zeros(1, levels**tokens, dtype=torch.float64))
        return cls(torch.softmax(u[0], dim=0).reshape((levels,) * tokens))

    def all(self) -> Tensor:
        """(K^D, D) int64: every sample once."""
        return torch.cartesian_prod(*[torch.arange(side) for side in self.p.shape])

    def nats(self, x: Tensor) -> Tensor:
        return -self.p[tuple(x.T)].log()

    def conditional(self, possible: Tensor, element: int) -> Tensor:
        """p(x_element | every element lies where it may). possible: (B, D, K) bool -> (B, K)."""
        shares = self.p.expand(len(possible), *self.p.shape)
        for k in range(self.p.ndim):
            allowed = possible[:, k].reshape(
                [-1] + [self.p.shape[0] if k == axis else 1 for axis in range(self.p.ndim)]
            )
            if k != element:
                shares = shares * allowed
        others = [axis + 1 for axis in range(self.p.ndim) if axis != element]
        return shares.sum(others)


class Exact(nn.Module):
    """The network of an order-agnostic model: x (B, D) -> (B, D, K) log-probabilities."""

    def __init__(self, joint: Joint) -> None:
        super().__init__()
        self.joint = joint
        self.told: list[Tensor] = []  # the noise of every call

    def forward(self, x: Tensor, hidden: Tensor, noise: Tensor, cond: Any) -> Tensor:
        self.told.append(noise)
        assert not x[hidden].any()  # nothing of an absorbed token is told
        torch.testing.assert_close(noise, (~hidden).float().mean(1))
        values = torch.arange(self.joint.p.shape[0])
        possible = hidden[..., None] | (x[..., None] == values)
        return torch.stack([self.joint.conditional(possible, k) for k in range(x.shape[1])], dim=1).log()


class ExactDigits(nn.Module):
    """The network of an upscaling model of the joint: x (B, D), digits known so far -> (B, D, base)."""

    def __init__(self, joint: Joint, base: int, stages: int) -> None:
        super().__init__()
        self.joint, self.base, self.stages = joint, base, stages

    def forward(self, x: Tensor, hidden: Tensor, noise: Tensor, cond: Any) -> Tensor:
        levels, tokens = self.joint.p.shape[0], x.shape[1]
        stage = (noise * self.stages + 1e-4).floor().long()
        torch.testing.assert_close(noise * self.stages - stage, (~hidden).float().mean(1), atol=1e-5, rtol=0)
        place = (self.base ** (self.stages - 1 - stage))[:, None]
        width = torch.where(hidden, place * self.base, place)[..., None]
        values = torch.arange(levels)
        possible = values // width == x[..., None] // width
        shares = torch.zeros(len(x), tokens, self.base, dtype=torch.float64)
        for k in range(tokens):
            of_value = self.joint.conditional(possible, k)
            if_known = possible[:, k] | (~hidden[:, k])[:, None]
            digit = values // place % self.base
            for d in range(self.base):
                shares[:, k, d] = (of_value * if_known * (digit == d)).sum(1)
        # what the model must refuse by itself gets a share here
        return torch.where(shares > 0, shares.log(), 0.0 if levels < self.base**self.stages else -torch.inf)


def noise(count: int, seed: int = 0) -> Noise:
    return Noise(Keys.range(seed, 0, count))
