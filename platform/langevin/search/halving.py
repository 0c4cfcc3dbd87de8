"""Successive halving (Jamieson & Talwalkar 2016): all candidates with little, the best of them with more."""

from __future__ import annotations

import math
from collections.abc import Mapping


def survivors(figures: Mapping[str, float], reduction: int) -> list[str]:
    """The best ceil(n / reduction) by figure, of which less is better, the best first; ties go by name. What has no finite
    figure never survives.
    """
    kept = math.ceil(len(figures) / reduction)
    finite = {name: value for name, value in figures.items() if math.isfinite(value)}
    return sorted(finite, key=lambda name: (finite[name], name))[:kept]


def rounds(candidates: int, most: int, least: int) -> list[int]:
    """How many images each round draws of a candidate, in all: doubled from round to round up to ``most``, no fewer than
    ``least`` to begin with, and no more rounds than halve the candidates to two.
    """
    halvings = max(min(math.ceil(math.log2(max(candidates, 1))) - 1, int(math.log2(max(most / least, 1)))), 0)
    return [math.ceil(most / 2 ** (halvings - done)) for done in range(halvings + 1)]


def drawn(candidates: int, counts: list[int]) -> int:
    """Images that the rounds draw: a round goes on from the images of the one before, and half of its candidates stay."""
    total, alive = 0, candidates
    for before, count in zip([0, *counts], counts, strict=False):
        total += alive * (count - before)
        alive = math.ceil(alive / 2)
    return total
