"""What a figure's interval comes from: by how much each image moves the figure.

An image's influence is what one image more of its kind would change of the figure, times the number of images (Hampel
1974). The figure is nearly a mean over influences, so their variance over the number is its variance, and no image need be
drawn again. Strata, such as the classes of a set, keep their numbers, which are a choice and not chance: only what differs
within them counts. Counted across, intervals are three times as wide, and most of the width is how many sevens there
happen to be.

Kept beside the figure, influences also set the figures of two models against each other. Two models that draw from the same
noise for the same conditions, against the same reference, are off in the same direction where the chance is one of the noise
or of the reference images. Taken one from the other image by image, that cancels (common random numbers; Glasserman & Yao
1992). Never written to a file: only models measured in one process are paired.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Part:
    """One set's influences on a figure, (N,) float64, up to a constant. strata: (N,) int64, which one an image is in."""

    values: Tensor
    strata: Tensor

    @property
    def variance(self) -> float:
        """Of the mean of the influences, where each stratum keeps its number of images."""
        _, place, sizes = torch.unique(self.strata, return_inverse=True, return_counts=True)
        sums = torch.zeros(len(sizes), dtype=torch.float64).index_add(0, place, self.values)
        squares = (self.values - (sums / sizes)[place]).square() * (sizes / (sizes - 1).clamp_min(1))[place]
        return float(squares.sum()) / len(self.values) ** 2

    def minus(self, other: Part) -> Part:
        """The influences on the difference of two figures of the same images."""
        return Part(self.values - other.values, self.strata)


@dataclass(frozen=True)
class Influences:
    """Those of the sets that a figure is of, which are independent of each other: generated images, reference images, ..."""

    parts: tuple[Part, ...]

    @classmethod
    def of(cls, values: Tensor) -> Influences:
        """Of the mean of values (N,), one an image of a single stratum."""
        return cls((Part(values.double(), torch.zeros(len(values), dtype=torch.int64)),))

    @property
    def deviation(self) -> float:
        """Of the figure."""
        return math.sqrt(sum(part.variance for part in self.parts))

    @property
    def sizes(self) -> tuple[int, ...]:
        return tuple(len(part.values) for part in self.parts)

    def apart(self, before: Influences) -> float:
        """The deviation of self - before."""
        pairs = zip(self.parts, before.parts, strict=True)
        return Influences(tuple(ours.minus(theirs) for ours, theirs in pairs)).deviation


@dataclass(frozen=True)
class Verdicts:
    """What a share counts, (N,) bool."""

    values: Tensor

    @property
    def sizes(self) -> tuple[int, ...]:
        return (len(self.values),)

    def apart(self, before: Verdicts) -> float:
        """The deviation of self - before with half a pair added to each of the four cells: a handful of images that only one
        of the two gets right would else look certain. Agresti & Min 2005.
        """
        won = float((self.values & ~before.values).sum())
        lost = float((before.values & ~self.values).sum())
        n = len(self.values) + 2
        return math.sqrt(won + lost + 1 - (won - lost) ** 2 / n) / n


Spread = Influences | Verdicts


def apart(before: Spread | None, after: Spread | None) -> float | None:
    """The deviation of after - before; None where the two are not of the same images."""
    if before is None or after is None or type(before) is not type(after) or before.sizes != after.sizes:
        return None
    return after.apart(before)  # type: ignore[arg-type]
