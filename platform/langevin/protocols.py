"""What the platform sees of any method: it trains, it samples, it bounds its likelihood. Nothing else.

Training, evaluation, tuning and generation are written once against these three protocols.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from langevin.randomness import Keys

# Opaque to the platform: (B,) int64 labels for a class-conditional model, (B, L) captions for one that reads, None for
# "no condition", for which -1 stands too.
Cond = Any


@dataclass(frozen=True)
class Batch:
    """Samples of a data set on their way to a method.

    images: (B, C, H, W) float32 in [-1, 1]; labels: (B,) int64 or None; ordinals: (B,) int64, the samples' places in the
    stream they were read from (they key all randomness); keys: the B names of the samples in the data set; captions: (B, L)
    int64, the bytes of texts in UTF-8 with zeros behind them, None where there are none.
    """

    images: Tensor
    labels: Tensor | None
    ordinals: Tensor
    keys: tuple[str, ...]
    captions: Tensor | None = None

    def __len__(self) -> int:
        return self.images.shape[0]

    def __getitem__(self, places: slice | Tensor) -> Batch:
        """Some of the samples. places: a slice, or (b,) int64."""
        numbers = range(len(self))[places] if isinstance(places, slice) else places.tolist()
        labels = None if self.labels is None else self.labels[places]
        captions = None if self.captions is None else self.captions[places]
        keys = tuple(self.keys[number] for number in numbers)
        return Batch(self.images[places], labels, self.ordinals[places], keys, captions)

    def to(self, device: torch.device | str) -> Batch:
        def moved(values: Tensor) -> Tensor:
            return values.to(device, non_blocking=True)

        labels = None if self.labels is None else moved(self.labels)
        captions = None if self.captions is None else moved(self.captions)
        return Batch(moved(self.images), labels, moved(self.ordinals), self.keys, captions)


def rows(cond: Cond, start: int, stop: int) -> Cond:
    """The condition of samples start .. stop - 1. cond: a tensor, a (named) tuple of conditions, or None."""
    if isinstance(cond, tuple):
        parts = [rows(part, start, stop) for part in cond]
        return type(cond)(*parts) if hasattr(cond, "_fields") else tuple(parts)
    return None if cond is None else cond[start:stop]


def on_device(cond: Cond, device: torch.device | str) -> Cond:
    """The same condition on a device."""
    if isinstance(cond, tuple):
        parts = [on_device(part, device) for part in cond]
        return type(cond)(*parts) if hasattr(cond, "_fields") else tuple(parts)
    return None if cond is None else cond.to(device)


def own_device() -> torch.device:
    """The accelerator that this process was given, or the CPU."""
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")


@dataclass(frozen=True)
class Losses:
    """Per-sample training losses. total: (B,), what is minimised; terms: name -> (B,), what it is made of (detached)."""

    total: Tensor
    terms: Mapping[str, Tensor]

    @classmethod
    def joined(cls, parts: Sequence[Losses]) -> Losses:
        """Of one batch after the other. parts: one at least, all with the same terms."""
        if len(parts) == 1:
            return parts[0]
        terms = {name: torch.cat([part.terms[name] for part in parts]) for name in parts[0].terms}
        return cls(torch.cat([part.total for part in parts]), terms)


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
class Conditioned(Protocol):
    def condition(self, batch: Batch) -> Cond:
        """What of these images is asked for when others like them are drawn. Models without this take their labels."""
        ...


def condition_of(model: object, batch: Batch) -> Cond:
    """What a model is asked for to draw images like these."""
    return model.condition(batch) if isinstance(model, Conditioned) else batch.labels


@runtime_checkable
class Reconstructs(Protocol):
    def reconstruct(self, images: Tensor) -> Tensor:
        """The images as they come back from the model's latents: (B, C, H, W) in [-1, 1], both."""
        ...


@runtime_checkable
class Interpolates(Protocol):
    """Models whose latents form a space of their own. Their ``codec`` (codecs/codec.py) leads there and back."""

    def interpolation(self, x: Tensor, y: Tensor, steps: int, cond: Cond = None) -> Tensor:
        """Images (B, steps, C, H, W) on the way from x to y, both (B, C, H, W), through their latents."""
        ...

    def latent_grid(self, plane: Any, side: int, cond: Cond = None) -> Tensor:
        """Images (side, side, C, H, W) at places of a plane of latents."""
        ...


@runtime_checkable
class Jumps(Protocol):
    """Models that choose how often they call their network, by what training lost at each of their steps, which
    ``step_losses`` holds (discrete/policy.py).
    """

    def policy(self, budget: int) -> tuple[tuple[int, ...], float]:
        """The best steps to start from in so many calls, and the bound on -log p(x) that they promise, in nats."""
        ...

    def starts(self) -> tuple[int, ...]:
        """The steps that it starts from as it is sampled: one network call each."""
        ...


@runtime_checkable
class Bounded(Protocol):
    def bound(self, batch: Batch, keys: Keys) -> Bound:
        """An upper bound on -log p(x) of the batch's images on their own grey levels."""
        ...


@runtime_checkable
class BoundsOtherwise(Protocol):
    def other_bounds(self, batch: Batch, keys: Keys) -> Mapping[str, Tensor]:
        """Further upper bounds on -log p(x) by name, (B,) float64 nats: a tighter one, or one of another way to sample."""
        ...


@runtime_checkable
class Adapts(Protocol):
    def adapt(self, ordinals: Tensor, terms: Mapping[str, Tensor]) -> None:
        """After a step: the whole global batch's loss terms, (B,) each, in the order of its ordinals (B,).

        Changes buffers only, and the same ones on every process.
        """
        ...
