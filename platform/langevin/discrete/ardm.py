"""Order-agnostic autoregressive diffusion of tokens (Hoogeboom et al. 2021, "Autoregressive diffusion models").

A sample is D tokens 0 .. K - 1 in any shape. In the forward direction they are absorbed one after the other, in an order
drawn at random; the network says what each absorbed one may have been, given all that are left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from langevin.discrete.orders import absorbed, elements, random_order, steps_at, stratum
from langevin.discrete.policy import jumps
from langevin.protocols import Losses
from langevin.randomness import Noise


class Predicts(Protocol):
    def __call__(self, x: Tensor, hidden: Tensor, noise: Tensor, cond: Any) -> Tensor:
        """Logits (B, *shape, K) of every token, whatever the others absorbed with it are.

        x: (B, *shape) int64, 0 where absorbed; hidden: (B, *shape) bool, true where absorbed; noise: (B,) float32 t / D,
        the share of tokens that are known.
        """
        ...


class State(NamedTuple):
    """What is known on the way: every value lies in low .. high. (B, *shape) int64; equal once it has been generated."""

    low: Tensor
    high: Tensor


class Autoregressive(Protocol):
    """A model that generates a sample in ``steps``, in as many equal parts as it has ``stages``."""

    @property
    def stages(self) -> int: ...

    def steps(self, shape: tuple[int, ...]) -> int:
        """How many, for samples of this shape."""
        ...

    def step_losses(self, x: Tensor, step: Tensor, cond: Any, noise: Noise) -> Tensor:
        """L_step of each sample, by an order of its own: (B,) float64 nats, the mean over the tokens still absorbed.

        Their sum over all steps bounds -log p(x) in the mean over orders. x: (B, *shape) int64; step: (B,) int64.
        """
        ...

    def walk(self, shape: tuple[int, ...], starts: Sequence[int], cond: Any, noise: Noise) -> Iterator[State]:
        """From nothing known to a sample for each of the noise's keys. starts: of the jumps, as policy.py has them."""
        ...


@dataclass(frozen=True)
class Absorbing:
    """The order-agnostic model itself: one step a token. levels: K. Their section 3."""

    network: Predicts
    levels: int

    @property
    def stages(self) -> int:
        return 1

    def steps(self, shape: tuple[int, ...]) -> int:
        return elements(shape)

    def step_losses(self, x: Tensor, step: Tensor, cond: Any, noise: Noise) -> Tensor:
        """L_t = 1 / (D - t) sum over order_k >= t of -log p(x_k | x_{order < t}). Their eq. 6 and 7."""
        hidden = absorbed(random_order(noise, x), step)
        logits = self.network(x.masked_fill(hidden, 0), hidden, step.float() / elements(x.shape[1:]), cond)
        logits = logits if logits.dtype == torch.float64 else logits.float()
        missed = cross_entropy(logits.flatten(0, -2), x.flatten(), reduction="none").reshape(x.shape)
        return (missed.double() * hidden).flatten(1).sum(1) / hidden.flatten(1).sum(1)

    def walk(self, shape: tuple[int, ...], starts: Sequence[int], cond: Any, noise: Noise) -> Iterator[State]:
        """Every token is drawn by a uniform number of its own, whenever its turn comes. Their algorithm 1."""
        x = torch.zeros(len(noise.keys), *shape, dtype=torch.int64, device=noise.keys.ordinals.device)
        order, u = random_order(noise, x), noise.uniform("token", x.double())
        yield State(x, torch.full_like(x, self.levels - 1))
        for s, t in jumps(starts, self.steps(shape)):
            known = torch.full((len(x),), s / self.steps(shape), device=x.device)
            logits = self.network(x, order >= s, known, cond)
            now = (order >= s) & (order < t)
            x = x.masked_scatter(now, drawn(logits[now], u[now]))
            yield State(x, x.masked_fill(order >= t, self.levels - 1))


@dataclass(frozen=True)
class OrderAgnostic:
    """The bound by one step a sample: N L_step, (B,) float64 nats, N the number of steps (D without upscaling).

    Its mean over the steps is the bound. Their eq. 6, algorithm 2. times: noise -> (B,) uniform in (0, 1], stratified or
    antithetic over the ordinals (diffusion/times.py). terms: "time" = step / N, "step_loss" = L_step, for a policy.
    """

    times: Callable[[Noise], Tensor]

    def __call__(self, model: Autoregressive, x: Tensor, cond: Any, noise: Noise) -> Losses:
        count = model.steps(x.shape[1:])
        step = steps_at(self.times(noise), count)
        losses = model.step_losses(x, step, cond, noise)
        return Losses(count * losses, {"time": step.double() / count, "step_loss": losses.detach()})


def stratified_bound(model: Autoregressive, x: Tensor, cond: Any, noise: Noise, calls: int) -> Tensor:
    """An unbiased estimate of the bound on -log p(x) by ``calls`` network calls a sample: (B,) float64 nats.

    One step out of each of ``calls`` equal strata, each with a new order; for as many calls as steps, every step once.
    x: (B, *shape) int64. ValueError for calls < 1.
    """
    if calls < 1:
        raise ValueError(f"a bound needs at least one network call, not {calls}")
    count, total = model.steps(x.shape[1:]), torch.zeros(len(x), dtype=torch.float64, device=x.device)
    for run in range(calls):
        scope = noise.within(f"bound/{run}")
        total = total + model.step_losses(x, stratum(scope, run, calls, count), cond, scope)
    return total * (count / calls)


def parallel_bound(model: Autoregressive, x: Tensor, cond: Any, noise: Noise, starts: Sequence[int]) -> Tensor:
    """The bound on -log p(x) of what ``walk`` generates by these jumps: the sum of (t - s) L_s, (B,) float64 nats.

    Their section 4. A call for each jump, each with a new order. starts: as policy.py has them.
    """
    total = torch.zeros(len(x), dtype=torch.float64, device=x.device)
    for s, t in jumps(starts, model.steps(x.shape[1:]), model.stages):
        step = torch.full((len(x),), s, device=x.device)
        total = total + (t - s) * model.step_losses(x, step, cond, noise.within(f"jump/{s}"))
    return total


@dataclass(frozen=True)
class Guided:
    """log p = log p_u + scale (log p_c - log p_u), up to a constant: classifier-free guidance of tokens.

    Ho & Salimans 2022 in the project's convention: scale 1 is the conditional model, 0 the unconditional one.
    """

    network: Predicts
    scale: float

    def __call__(self, x: Tensor, hidden: Tensor, noise: Tensor, cond: Any) -> Tensor:
        told = self.network(x, hidden, noise, cond)
        return (
            told
            if self.scale == 1 or cond is None
            else torch.lerp(self.network(x, hidden, noise, None), told, self.scale)
        )


def drawn(logits: Tensor, u: Tensor) -> Tensor:
    """The classes that the inverse of each row's distribution function gives for u: (n,) int64.

    logits: (n, K); u: (n,) float64 in [0, 1). In float64, row by row: a row's bits do not depend on the others.
    """
    shares = torch.softmax(logits.double(), dim=-1).cumsum(-1)
    place = torch.searchsorted(shares, u[:, None] * shares[:, -1:], right=True)
    return place[:, 0].clamp(max=logits.shape[-1] - 1)
