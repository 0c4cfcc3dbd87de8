"""Drawing images again, for intervals of what is no mean over images: KID, precision and its kin.

An interval says where the same measurement would land with as many other images of the same classes, so it lies around
the figure itself: figure +- 1.96 bootstrap deviations. Images are drawn again within their classes, whose numbers are a
choice and not chance. Drawn across classes, intervals are three times as wide, and most of the width is how many sevens
there happen to be.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from langevin.evaluation.fidelity import Kid, kernel
from langevin.evaluation.intervals import Figure, around
from langevin.randomness import Keys, Noise

RESAMPLES = 200  # a bootstrap deviation is then itself known to 5 %


@dataclass(frozen=True)
class Resampled:
    """Features (N, d) of a set of images, to be drawn again within strata (N,), by the seed. stream: names the set."""

    features: Tensor
    strata: Tensor
    seed: int
    stream: str
    times: int = RESAMPLES

    @classmethod
    def of(
        cls, features: Tensor, seed: int, stream: str, labels: Tensor | None = None, times: int = RESAMPLES
    ) -> Resampled:
        """Within each class where there are labels (N,)."""
        strata = torch.zeros(len(features), dtype=torch.int64) if labels is None else labels
        return cls(features, strata, seed, stream, times)

    def __len__(self) -> int:
        return len(self.features)

    @cached_property
    def counts(self) -> Tensor:
        """How often each image is drawn in each resample: (times, N) int64."""
        return resamples(self.seed, self.stream, self.strata, self.times)


def resamples(seed: int, stream: str, strata: Tensor, times: int) -> Tensor:
    """How often each image is drawn: (times, N) int64. Each stratum keeps its size. strata: (N,), which one an image is in."""
    order = strata.argsort(stable=True)
    _, inverse, sizes = torch.unique(strata, return_inverse=True, return_counts=True)
    size, start = sizes[inverse], (sizes.cumsum(0) - sizes)[inverse]
    like, counts = torch.empty(1, len(strata), dtype=torch.float64), []
    for keys in blocks(Keys.range(seed, 0, times), len(strata)):
        uniform = Noise(keys).uniform(f"bootstrap/{stream}", like.expand(len(keys), -1))
        drawn = order[start + (uniform * size).long()]
        counts.append(torch.zeros_like(drawn).scatter_add(1, drawn, torch.ones_like(drawn)))
    return torch.cat(counts)


def blocks(keys: Keys, width: int) -> Iterator[Keys]:
    """Keys whose noise of this width is in memory at a time: some 10^6 numbers."""
    rows = max(1, 2**20 // width)
    for start in range(0, len(keys), rows):
        yield Keys(keys.seed, keys.ordinals[start : start + rows])


def kid_figure(found: Kid, generated: Resampled, reference: Resampled) -> Figure:
    """KID with the deviation of the whole sets' MMD, and of the mean over random subsets. It may be negative."""
    distance = _mean_kernel(generated) + _mean_kernel(reference) - 2 * _mean_cross_kernel(generated, reference)
    variance = float(distance.var()) + found.deviation**2 / found.subsets
    return around(found.mean, math.sqrt(variance), len(generated))


def _mean_kernel(one: Resampled) -> Tensor:
    """(times,) mean of the kernel over pairs of different images; copies of one image are not a pair."""
    counts, features = one.counts.double(), one.features.double()
    square = counts**2
    same = square @ (features.square().mean(dim=1) + 1) ** 3  # the kernel of each image with itself
    whole = _sum_kernel(one.features, one.features, one.counts, one.counts)
    return (whole - same) / (len(one) ** 2 - square.sum(dim=1))


def _mean_cross_kernel(a: Resampled, b: Resampled) -> Tensor:
    return _sum_kernel(a.features, b.features, a.counts, b.counts) / (len(a) * len(b))


def _sum_kernel(a: Tensor, b: Tensor, of_a: Tensor, of_b: Tensor) -> Tensor:
    """(times,) sum over i, j of of_a[:, i] k(a_i, b_j) of_b[:, j], in blocks of rows: never N x N numbers at a time.

    The kernel in float32: only the deviation over resamples is asked for, to a few digits.
    """
    b, total = b.float(), torch.zeros(len(of_a), dtype=torch.float64)
    for rows, counts in zip(a.float().split(1024), of_a.float().split(1024, dim=1), strict=True):
        total += ((counts @ kernel(rows, b)).double() * of_b).sum(dim=1)
    return total
