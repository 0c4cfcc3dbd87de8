"""Autoregressive diffusion of images and of texts (Hoogeboom et al. 2021, "Autoregressive diffusion models")."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from langevin.diffusion.times import Stratified, Times
from langevin.discrete.ardm import (
    Absorbing,
    Autoregressive,
    Guided,
    OrderAgnostic,
    Predicts,
    State,
    parallel_bound,
    stratified_bound,
)
from langevin.discrete.policy import StepLosses
from langevin.discrete.upscaling import Upscaled
from langevin.errors import DataError
from langevin.methods.gaussian import dropping
from langevin.networks.blocks import InBlocks
from langevin.protocols import Batch, Bound, Cond, Losses
from langevin.randomness import Keys, Noise


@dataclass(frozen=True)
class Drawing:
    """How samples are drawn. steps: the starts of the jumps (discrete/policy.py); or how many network calls there may be,
    for which the best starts follow from the losses that training met; None for all. scale: of the guidance.
    """

    steps: tuple[int, ...] | int | None = None
    scale: float = 1.0


class TokenDiffusion(nn.Module):
    """Tokens of one shape: it trains, samples and bounds, and learns what each step loses. The bases below say what the
    tokens are of.

    network: Predicts of ``base`` classes; levels: values of a token; base: of the digits that it is generated in, from
    coarse to fine, None for whole tokens; dropped: share of conditions left out; calls: network calls of a bound.
    """

    def __init__(
        self,
        network: nn.Module,
        shape: tuple[int, ...],
        levels: int,
        *,
        base: int | None = None,
        dropped: float = 0.1,
        drawing: Drawing = Drawing(),
        calls: int = 32,
        times: Times = Stratified(),  # noqa: B008
    ) -> None:
        super().__init__()
        self.network, self.shape, self.levels, self.base = network, shape, levels, base
        self.dropped, self.drawing, self.calls, self.objective = dropped, drawing, calls, OrderAgnostic(times)
        model = self.model(network)
        self.step_losses = StepLosses(model.steps(shape), model.stages)

    def tokens(self, batch: Batch) -> Tensor:
        """(B, *shape) int64."""
        raise NotImplementedError

    def shown(self, state: State) -> Tensor:
        """What a state looks like: the sample, where all of it is known."""
        raise NotImplementedError

    def model(self, network: Predicts) -> Autoregressive:
        return Absorbing(network, self.levels) if self.base is None else Upscaled(network, self.levels, self.base)

    def loss(self, batch: Batch, keys: Keys) -> Losses:
        """The bound by one step a sample, in bits per dimension; the term "step_loss" is in nats."""
        noise, tokens = Noise(keys), self.tokens(batch)
        found = self.objective(self.model(self.network), tokens, dropping(batch.labels, self.dropped, noise), noise)
        return Losses(found.total / (math.log(2) * math.prod(self.shape)), found.terms)

    @torch.no_grad()
    def adapt(self, ordinals: Tensor, terms: Mapping[str, Tensor]) -> None:
        """Learns what each step loses, for a policy."""
        self.step_losses.learn((terms["time"] * self.step_losses.count).round().long(), terms["step_loss"])

    def policy(self, budget: int) -> tuple[tuple[int, ...], float]:
        """The best starts for so many network calls, and the bound that training's losses promise: nats a sample."""
        steps, cost = self.step_losses.policy(budget)
        return tuple(steps), cost

    def starts(self) -> tuple[int, ...]:
        """Of the jumps by which samples are drawn."""
        steps, count = self.drawing.steps, self.step_losses.count
        if steps is None or steps == count:
            return tuple(range(count))
        return steps if isinstance(steps, tuple) else self.policy(steps)[0]

    @torch.no_grad()
    def walk(self, keys: Keys, cond: Cond) -> Iterator[Tensor]:
        model = self.model(Guided(InBlocks(self.network), self.drawing.scale))
        for state in model.walk(self.shape, self.starts(), cond, Noise(keys)):
            yield self.shown(state)

    @torch.no_grad()
    def sample(self, keys: Keys, cond: Cond) -> Tensor:
        for x in self.walk(keys, cond):  # noqa: B007
            pass
        return x

    @torch.no_grad()
    def bound(self, batch: Batch, keys: Keys) -> Bound:
        """Of a generation by all steps, one token at a time: nothing is known before, and nothing is lost after."""
        model = self.model(self.network)
        nats = stratified_bound(model, self.tokens(batch), batch.labels, Noise(keys), self.calls)
        return Bound(torch.zeros_like(nats), nats, torch.zeros_like(nats))

    def other_bounds(self, batch: Batch, keys: Keys) -> dict[str, Tensor]:
        return {"parallel": self.parallel_bound(batch, keys)}

    @torch.no_grad()
    def parallel_bound(self, batch: Batch, keys: Keys) -> Tensor:
        """The bound of what ``sample`` draws without guidance, by its own jumps: (B,) nats. Above ``bound`` in the mean."""
        model = self.model(self.network)
        return parallel_bound(model, self.tokens(batch), batch.labels, Noise(keys), self.starts())


class ARDM(TokenDiffusion):
    """Images on ``levels`` grey levels, a token a pixel and colour. shape: (C, H, W)."""

    def tokens(self, batch: Batch) -> Tensor:
        """The nearest grey level: floor((x + 1) / 2 (levels - 1) + 1/2)."""
        top = self.levels - 1
        return (batch.images.double() * (top / 2) + (top + 1) / 2).floor().long().clamp(0, top)

    def shown(self, state: State) -> Tensor:
        """(B, C, H, W) float32 in [-1, 1]; what is not yet known in the middle of what it may be."""
        return ((state.low + state.high).double() / (self.levels - 1) - 1).float()


class TextARDM(TokenDiffusion):
    """Texts of the batch's captions, a token a byte, L = shape[0] of them, told a class where the data have any.

    A text ends with the first of the zeros behind it, which are tokens like any other: the model says where it ends, and
    pays for it in the bound. Longer ones are cut to L bytes, and it is those that are bounded. Samples are (B, L) int64.
    """

    def tokens(self, batch: Batch) -> Tensor:
        """(B, L). DataError where there are no captions."""
        if batch.captions is None:
            raise DataError(
                "a model of texts needs captions, and this batch has none", mend="choose a set with captions"
            )
        length = self.shape[0]
        return nn.functional.pad(batch.captions[:, :length], (0, max(length - batch.captions.shape[1], 0))).clamp(min=0)

    def shown(self, state: State) -> Tensor:
        """(B, L) int64 bytes; 0 where nothing is known yet, and behind the text."""
        return state.low

    def bits_per_character(self, batch: Batch, keys: Keys) -> float:
        """The bound of all texts in bits over their bytes without padding, whose tokens count above and not below."""
        bits = self.bound(batch, keys).total.sum() / math.log(2)
        return float(bits / (self.tokens(batch) > 0).sum())
