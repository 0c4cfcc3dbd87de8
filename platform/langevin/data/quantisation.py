"""Grey levels: between images in [-1, 1], level numbers 0 .. levels - 1, and the bytes of a picture file.

A set of 17 levels is stored spread over 0 .. 255, so that any viewer shows a normal picture and any stock reader a
normal tensor; the level numbers come back exactly.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from langevin.errors import ConfigError, DataError, NumericsError


def quantise(images: Tensor, levels: int) -> Tensor:
    """The nearest grey level, int64 in 0 .. levels - 1: floor((x + 1) / 2 (levels - 1) + 1/2), clipped.

    images: any shape, float in [-1, 1]. For 256 levels this is exactly ``(x * 127.5 + 128).clip(0, 255)`` truncated,
    the convention of the reference implementations, so metric specs that name it agree with published figures.
    NumericsError: a value that is not finite, which would else become a grey level without a word.
    """
    check_levels(levels)
    exact = images if images.dtype == torch.float64 else images.float()
    if not torch.isfinite(exact).all():
        raise NumericsError("an image holds values that are not finite: it has no grey levels")
    return (exact * ((levels - 1) / 2) + levels / 2).clip(0, levels - 1).long()


def dequantise(level: Tensor, levels: int) -> Tensor:
    """The centre of each grey level, float32 in [-1, 1]: 2 level / (levels - 1) - 1. ``quantise`` undoes it exactly."""
    check_levels(levels)
    return (2 * level.double() / (levels - 1) - 1).float()


def to_bytes(level: Tensor, levels: int) -> Tensor:
    """How a grey level is stored in a picture file: uint8, round(255 level / (levels - 1))."""
    check_levels(levels)
    return torch.round(255 * level.double() / (levels - 1)).to(torch.uint8)


def from_bytes(data: Tensor, levels: int) -> Tensor:
    """The grey level (int64) of each stored byte, the exact inverse of ``to_bytes``. DataError: a byte of no level."""
    level = _levels_of_bytes(levels).to(data.device)[data.long()]
    stray = level < 0
    if stray.any():
        value = int(data[stray][0])
        raise DataError(f"a pixel holds a byte that is none of the {levels} grey levels", field="pixel", value=value)
    return level


def values_of_bytes(levels: int) -> Tensor:
    """(256,) float32: the value in [-1, 1] of every byte, NaN for a byte that is no grey level of the set."""
    level = _levels_of_bytes(levels)
    return torch.where(level < 0, torch.nan, dequantise(level, levels))


def check_levels(levels: int) -> None:
    """ConfigError unless the levels fit the bytes of a picture: 2 .. 256."""
    if not 2 <= levels <= 256:
        raise ConfigError("is no number of grey levels", field="levels", value=levels, mend="choose one of 2 .. 256")


@cache
def _levels_of_bytes(levels: int) -> Tensor:
    """(256,) int64: the level of every byte, -1 where there is none."""
    table = torch.full((256,), -1)
    numbers = torch.arange(levels)
    table[to_bytes(numbers, levels).long()] = numbers
    return table
