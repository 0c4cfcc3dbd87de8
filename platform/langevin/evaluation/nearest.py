"""Nearest neighbours of features, in blocks of rows: never N x M numbers at a time.

Distances are squared and float32, of features about a common middle: far from 0, |a|^2 + |b|^2 - 2 a.b would lose its digits.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

ROWS = 256  # of so many images the distances to 10,000 others stay in a processor's cache


def about(middle: Tensor, features: Tensor) -> Tensor:
    """Features (N, d) about a middle (d,), float32."""
    return (features.double() - middle.double()).float()


def distances(a: Tensor, b: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Rows of a (N, d) and their squared distances (rows, M) to all of b (M, d); rounded, they may be just below 0."""
    of_a, of_b = a.square().sum(dim=1, keepdim=True), b.square().sum(dim=1)
    for start in range(0, len(a), ROWS):
        rows = slice(start, start + ROWS)
        yield rows, torch.addmm(of_b, a[rows], b.T, alpha=-2).add_(of_a[rows])


def nearest(a: Tensor, b: Tensor, count: int, own: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Squared distances (N, count) of a's nearest among b and their places, nearest first. own: (N,) the place of each of a
    itself among b, which is left out.
    """
    values, places = [], []
    for rows, between in distances(a, b):
        if own is not None:
            between[torch.arange(len(between)), own[rows]] = torch.inf
        found = between.topk(count, largest=False)
        values.append(found.values)
        places.append(found.indices)
    return torch.cat(values), torch.cat(places)
