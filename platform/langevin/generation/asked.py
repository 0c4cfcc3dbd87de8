"""What each sample of a request is asked for: a class, or a text. Nothing else of a request depends on which it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from langevin.data.records import as_captions


class Told(NamedTuple):
    """What a shard says of a sample besides its image. members: content by ending; facts: for its JSON."""

    members: dict[str, bytes]
    facts: dict[str, Any]


class Asked(Protocol):
    def cond(self, start: int, stop: int) -> Tensor:
        """What the model is told for samples start .. stop - 1, in as many rows."""
        ...

    def told(self, index: int) -> Told:
        """The same of one sample, for those who read the shard."""
        ...


@dataclass(frozen=True)
class Labels:
    """Sample i is of the i-th of ``labels``, which are repeated. classes: all names, a label's number counts into them."""

    classes: tuple[str, ...]
    labels: tuple[str, ...]

    def cond(self, start: int, stop: int) -> Tensor:
        """(B,) int64."""
        return torch.tensor([self._label(index) for index in range(start, stop)])

    def told(self, index: int) -> Told:
        label = self._label(index)
        return Told({"cls": str(label).encode()}, {"label": label, "class": self.classes[label]})

    def _label(self, index: int) -> int:
        return self.classes.index(self.labels[index % len(self.labels)])


@dataclass(frozen=True)
class Prompts:
    """Sample i is asked for by the i-th of ``prompts``, which are repeated."""

    prompts: tuple[str, ...]

    def cond(self, start: int, stop: int) -> Tensor:
        """(B, L) int64, captions as the data's: L is the same for all samples of the request."""
        rows = as_captions(self.prompts)
        return rows[torch.arange(start, stop) % len(rows)]

    def told(self, index: int) -> Told:
        prompt = self.prompts[index % len(self.prompts)]
        return Told({"txt": prompt.encode()}, {"prompt": prompt})
