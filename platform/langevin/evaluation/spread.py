"""What a figure's interval comes from, kept so that the figures of two models measured alike can be set against each other.

Two models that draw from the same noise for the same conditions, against the same reference and resampled alike, are off in
the same direction where the chance is one of the noise, of the reference images or of the resample. Taken one from the other
part by part, that cancels (common random numbers; Glasserman & Yao 1992). Never written to a file: only models measured
in one process are paired.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Resamples:
    """A figure in each of its resamples, (times,) float64. own: variance of what is drawn beside them (KID's subsets)."""

    values: Tensor
    own: float = 0.0

    def apart(self, before: Resamples) -> float:
        """The deviation of self - before. What each draws beside its resamples is counted twice: it may be shared, too."""
        return math.sqrt(float((self.values - before.values).var()) + self.own + before.own)


@dataclass(frozen=True)
class Items:
    """The values that a figure is the mean of, (N,) float64, one an image."""

    values: Tensor

    def apart(self, before: Items) -> float:
        """The deviation of self - before."""
        if len(self.values) < 2:
            return 0.0
        return float((self.values - before.values).std()) / math.sqrt(len(self.values))


@dataclass(frozen=True)
class Verdicts:
    """What a share counts, (N,) bool."""

    values: Tensor

    def apart(self, before: Verdicts) -> float:
        """The deviation of self - before with half a pair added to each of the four cells: a handful of images that only one
        of the two gets right would else look certain. Agresti & Min 2005.
        """
        won = float((self.values & ~before.values).sum())
        lost = float((before.values & ~self.values).sum())
        n = len(self.values) + 2
        return math.sqrt(won + lost + 1 - (won - lost) ** 2 / n) / n


Spread = Resamples | Items | Verdicts


def apart(before: Spread | None, after: Spread | None) -> float | None:
    """The deviation of after - before; None where the two are not of the same parts."""
    if before is None or after is None or type(before) is not type(after) or len(before.values) != len(after.values):
        return None
    return after.apart(before)  # type: ignore[arg-type]
