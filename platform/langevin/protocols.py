"""What the platform sees of any method: it trains, it samples, it bounds its likelihood. Nothing else.

Training, evaluation, tuning and generation are written once against these three protocols.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from langevin.randomness import Keys

Cond = Any  # opaque to the platform: (B,) int64 labels for a class-conditional model, None for "no condition"


@dataclass(frozen=True)
class Batch:
    """Samples of a data set on their way to a method.

    images: (B, C, H, W) float32 in [-1, 1]; labels: (B,) int64 or None; ordinals: (B,) int64, the samples' places in the
    stream they were read from (they key all randomness); keys: the B names of the samples in the data set.
    """

    images: Tensor
    labels: Tensor | None
    ordinals: Tensor
    keys: tuple[str, ...]

    def __len__(self) -> int:
        return self.images.shape[0]

    def to(self, device: torch.device | str) -> Batch:
        labels = None if self.labels is None else self.labels.to(device, non_blocking=True)
        return Batch(
            self.images.to(device, non_blocking=True), labels, self.ordinals.to(device, non_blocking=True), self.keys
        )


@dataclass(frozen=True)
class Losses:
    """Per-sample training losses. total: (B,), what is minimised; terms: name -> (B,), what it is made of (detached)."""

    total: Tensor
    terms: Mapping[str, Tensor]


@dataclass(frozen=True)
class Bound:
    """The three parts of an upper bound on -log p(x), each (B,) in nats: their sum is the bound. Ho et al. 2020, eq. 5."""

    prior: Tensor
    diffusion: Tensor
    reconstruction: Tensor

    @property
    def total(self) -> Tensor:
        return self.prior + self.diffusion + self.reconstruction


@runtime_checkable
class Trainable(Protocol):
    def loss(self, batch: Batch, keys: Keys) -> Losses:
        """Per-sample losses, a pure function of (weights, batch, keys)."""
        ...


@runtime_checkable
class Samples(Protocol):
    def sample(self, keys: Keys, cond: Cond) -> Tensor:
        """One image a key: (B, C, H, W) float32 in [-1, 1]."""
        ...

    def walk(self, keys: Keys, cond: Cond) -> Iterator[Tensor]:
        """Every state on the way, from pure noise to the sample that ``sample`` returns."""
        ...


@runtime_checkable
class Bounded(Protocol):
    def bound(self, batch: Batch, keys: Keys) -> Bound:
        """An upper bound on -log p(x) of the batch's images on their own grey levels."""
        ...


@runtime_checkable
class Adapts(Protocol):
    def adapt(self, ordinals: Tensor, terms: Mapping[str, Tensor]) -> None:
        """After a step: the whole global batch's loss terms, (B,) each, in the order of its ordinals (B,).

        Changes buffers only, and the same ones on every process.
        """
        ...
