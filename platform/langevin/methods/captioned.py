"""Models that are told captions where others are told classes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from langevin.protocols import Adapts, Batch, Bound, Cond, Conditioned, Losses
from langevin.randomness import Keys


def by_caption(batch: Batch) -> Batch:
    """The same samples, their captions (B, L) in the place of their labels."""
    return replace(batch, labels=batch.captions)


class Captioned(nn.Module):
    """``inner``, a method whose network reads: what a caption says takes the place of the class.

    It trains and is bounded on the batch's captions, and cond is captions (B, L) int64: values <= 0 are padding, a row
    without others is "no text", and so is None for all.
    """

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner = inner

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        shape: tuple[int, int, int] = self.inner.image_shape
        return shape

    def condition(self, batch: Batch) -> Cond:
        told = by_caption(batch)
        return self.inner.condition(told) if isinstance(self.inner, Conditioned) else told.labels

    def loss(self, batch: Batch, keys: Keys) -> Losses:
        losses: Losses = self.inner.loss(by_caption(batch), keys)
        return losses

    def bound(self, batch: Batch, keys: Keys) -> Bound:
        bound: Bound = self.inner.bound(by_caption(batch), keys)
        return bound

    def sample(self, keys: Keys, cond: Cond) -> Tensor:
        images: Tensor = self.inner.sample(keys, cond)
        return images

    def walk(self, keys: Keys, cond: Cond) -> Iterator[Tensor]:
        states: Iterator[Tensor] = self.inner.walk(keys, cond)
        return states


class AdaptingCaptioned(Captioned):
    """The same of a method that adapts."""

    def adapt(self, ordinals: Tensor, terms: Mapping[str, Tensor]) -> None:
        self.inner.adapt(ordinals, terms)


def captioned(inner: Any) -> Captioned:
    """The method by captions; it adapts where ``inner`` does."""
    return AdaptingCaptioned(inner) if isinstance(inner, Adapts) else Captioned(inner)
