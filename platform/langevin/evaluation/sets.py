"""A set of images as the figures see it: features, and the strata within which it is a sample."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from langevin.evaluation.spread import Part


@dataclass(frozen=True)
class FeatureSet:
    """features: (N, d); strata: (N,) int64, whose numbers of images are a choice, such as classes. seed, stream: by which
    images are put into parts; stream names the set.
    """

    features: Tensor
    strata: Tensor
    seed: int
    stream: str

    @classmethod
    def of(cls, features: Tensor, seed: int, stream: str, labels: Tensor | None = None) -> FeatureSet:
        """Each class a stratum where there are labels (N,)."""
        strata = torch.zeros(len(features), dtype=torch.int64) if labels is None else labels
        return cls(features, strata, seed, stream)

    def __len__(self) -> int:
        return len(self.features)

    def part(self, influences: Tensor) -> Part:
        """Of this set's images: (N,)."""
        return Part(influences.double(), self.strata)
