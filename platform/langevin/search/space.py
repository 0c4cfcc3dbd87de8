"""The settings that a search may try: knobs with choices or ranges, and how settings are taken from them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

Settings = dict[str, Any]  # the value of every knob


@dataclass(frozen=True)
class Choices:
    """One of these."""

    values: tuple[Any, ...]

    @property
    def ends(self) -> tuple[Any, ...]:
        return self.values

    def at(self, uniform: float) -> Any:
        """The value at a number in [0, 1)."""
        return self.values[int(uniform * len(self.values))]

    def near(self, value: Any, more: bool) -> Any:
        """The one after the value, or before it; at an end itself."""
        place = self.values.index(value) + (1 if more else -1)
        return self.values[min(max(place, 0), len(self.values) - 1)]


@dataclass(frozen=True)
class Range:
    """Any number from low to high, both included; whole ones where both are whole. log: equally likely in each octave."""

    low: float
    high: float
    log: bool = False

    @property
    def is_whole(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def ends(self) -> tuple[Any, ...]:
        return (self.low, self.high)

    def at(self, uniform: float) -> Any:
        """The value at a number in [0, 1)."""
        low, high = (self.low, self.high + 1) if self.is_whole else (self.low, self.high)
        value = low * (high / low) ** uniform if self.log else low + (high - low) * uniform
        return min(math.floor(value), self.high) if self.is_whole else float(value)

    def near(self, value: float, more: bool) -> Any:
        """1.2 times the value, or 0.8 times, within the ends; of whole numbers the nearest, and another one."""
        found: float = value * (1.2 if more else 0.8)
        if self.is_whole and (found := round(found)) == value:
            found += 1 if more else -1
        return min(max(found, self.low), self.high)


Knobs = Mapping[str, Choices | Range]


def grid(knobs: Knobs) -> list[Settings]:
    """Every combination of the choices, and of the ends of the ranges; the last knob changes fastest."""
    ends = (knob.ends for knob in knobs.values())
    return [dict(zip(knobs, values, strict=True)) for values in itertools.product(*ends)]


def draws(knobs: Knobs, seed: int, count: int) -> list[Settings]:
    """``count`` different settings, each knob drawn for itself; fewer where the knobs do not have as many.

    Settings i of a seed are the same however many are drawn.
    """
    found: list[Settings] = []
    for number in range(20 * count):  # of a space that is nearly used up, most draws are known already
        uniforms = np.random.Generator(np.random.Philox(key=[seed, number])).random(len(knobs))
        settings = {name: knob.at(float(at)) for (name, knob), at in zip(knobs.items(), uniforms, strict=True)}
        if settings not in found:
            found.append(settings)
        if len(found) == count:
            break
    return found
