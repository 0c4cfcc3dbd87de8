"""What a figure may be off by, because its images are a sample: 95 % intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from langevin.errors import NumericsError
from langevin.evaluation.spread import Influences, Part, Spread, Verdicts

Z = 1.959963984540054  # the standard normal's 97.5 % point


@dataclass(frozen=True)
class Figure:
    """A measured number. low, high: its 95 % interval; n: the images it rests on; unit ("" where it has none).

    spread: what the interval comes from, by which the figures of two models are paired; no part of the figure as it is kept.
    """

    value: float
    low: float
    high: float
    n: int
    unit: str = ""
    spread: Spread | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not all(math.isfinite(number) for number in (self.value, self.low, self.high)):
            raise NumericsError(f"a figure is not finite: {self.value} in [{self.low}, {self.high}], n = {self.n}")

    def __str__(self) -> str:
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}] {self.unit}".rstrip()

    @property
    def margin(self) -> float:
        """Half of the interval's width."""
        return (self.high - self.low) / 2

    def plain(self) -> dict[str, Any]:
        """The figure as JSON would hold it."""
        return {"value": self.value, "low": self.low, "high": self.high, "n": self.n, "unit": self.unit}


def around(
    value: float, deviation: float, n: int, unit: str = "", lowest: float = -math.inf, highest: float = math.inf,
    spread: Spread | None = None,
) -> Figure:  # fmt: skip
    """value +- 1.96 deviations, a 95 % interval, cut to the values that the quantity can have."""
    return Figure(value, max(value - Z * deviation, lowest), min(value + Z * deviation, highest), n, unit, spread)


def influenced(
    value: float, parts: tuple[Part, ...], n: int, unit: str = "", lowest: float = -math.inf, highest: float = math.inf
) -> Figure:
    """A figure with the interval that its images' influences give, which are kept with it. parts: one a set of images."""
    spread = Influences(parts)
    return around(value, spread.deviation, n, unit, lowest, highest, spread)


def mean(values: Tensor, unit: str = "") -> Figure:
    """The mean of independent values (N,) with its normal interval."""
    spread = Influences.of(values)
    return around(values.double().mean().item(), spread.deviation, len(values), unit, spread=spread)


def share(right: Sequence[bool]) -> Figure:
    """How many of n are right, with Wilson's interval."""
    found = proportion(sum(right), len(right))
    return replace(found, spread=Verdicts(torch.tensor(right, dtype=torch.bool)))


def proportion(successes: int, n: int) -> Figure:
    """successes out of n with Wilson's score interval (1927), which stays inside [0, 1] and is honest at its ends."""
    share, z2 = successes / n, Z * Z
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    # at 0 and n successes an end of the interval is the share itself, but for rounding
    return Figure(share, min(max(centre - half, 0.0), share), max(min(centre + half, 1.0), share), n, "fraction")
