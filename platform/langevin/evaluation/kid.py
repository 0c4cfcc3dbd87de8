"""KID: squared MMD with the kernel (x.y/d + 1)^3, unbiased, the mean over random subsets. Binkowski et al. 2018.

The numbers are those of torch-fidelity 0.4.0, which draws the same subsets. The loop is written out because one look at the
kernels then also gives the interval: what an image adds to MMD^2 is twice how much nearer it is, by the kernel, to its own
set than to the other one, and a subset holds so many others of both that the mean over the subsets it is in says so.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from langevin.errors import ConfigError
from langevin.evaluation.intervals import Figure, influenced
from langevin.evaluation.sets import FeatureSet
from langevin.evaluation.spread import Part

SUBSETS, SUBSET_LIMIT = 100, 1000


@dataclass(frozen=True)
class Kid:
    """values: (subsets,) float64, of so many images each (size). generated, reference: (N,), (M,) each image's influence."""

    values: Tensor
    size: int
    generated: _Witness
    reference: _Witness

    @property
    def mean(self) -> float:
        return float(self.values.mean())

    @property
    def deviation(self) -> float:
        """Of the population, over the subsets."""
        return float(self.values.std(correction=0))


class _Witness:
    """How much nearer images are to their own set than to the other: means over the subsets that they are in."""

    def __init__(self, count: int) -> None:
        self.sums, self.times = torch.zeros(count, dtype=torch.float64), torch.zeros(count, dtype=torch.float64)

    def add(self, places: Tensor, own: Tensor, other: Tensor) -> None:
        """own, other: (size,) mean kernel of the images at these places with the others of each set."""
        self.sums.index_add_(0, places, 2 * (own - other))
        self.times[places] += 1

    def part(self, images: FeatureSet) -> Part:
        """Images in no subset are left out, and those that are stand for them."""
        seen = self.times > 0
        standing = seen.double().mean().sqrt()
        return Part(self.sums[seen] / self.times[seen] * standing, images.strata[seen])


def subset_size(generated: int, reference: int) -> int:
    """Half of the smaller set at most, so that the subsets differ; 1,000 at most."""
    return min(SUBSET_LIMIT, generated // 2, reference // 2)


def kid(generated: Tensor, reference: Tensor, seed: int, subset: int | None = None, subsets: int = SUBSETS) -> Kid:
    """Of features (N, d), (M, d). ConfigError where a set is smaller than a subset.

    Kernels are float32, as torch-fidelity's are, and their sums are float64.
    """
    size = subset_size(len(generated), len(reference)) if subset is None else subset
    if min(len(generated), len(reference)) < size:
        raise ConfigError("is more images than there are", field="subset", value=size,
                          mend=f"give at most {min(len(generated), len(reference))}")  # fmt: skip
    ours, theirs, values = _Witness(len(generated)), _Witness(len(reference)), []
    chance = np.random.RandomState(seed % 2**32)
    for _ in range(subsets):
        a, b = (torch.from_numpy(chance.choice(len(one), size, replace=False)) for one in (generated, reference))
        x, y = generated[a], reference[b]
        between = kernel(x, y)
        of_x, of_y = between.sum(dim=1).double() / size, between.sum(dim=0).double() / size
        within_x, within_y = _within(x), _within(y)
        values.append(within_x.mean() + within_y.mean() - 2 * of_x.mean())
        ours.add(a, within_x, of_x)
        theirs.add(b, within_y, of_y)
    return Kid(torch.stack(values), size, ours, theirs)


def kid_figure(generated: FeatureSet, reference: FeatureSet, seed: int, subsets: int = SUBSETS) -> Figure:
    """KID with its interval, in which the choice of the subsets counts too. It may be negative."""
    found = kid(generated.features, reference.features, seed, subsets=subsets)
    chosen = Part(found.values, torch.zeros(subsets, dtype=torch.int64))
    parts = found.generated.part(generated), found.reference.part(reference), chosen
    return influenced(found.mean, parts, len(generated))


def kernel(a: Tensor, b: Tensor) -> Tensor:
    """Between all pairs: (N, d), (M, d) -> (N, M)."""
    one = torch.addmm(a.new_ones(1), a, b.T, alpha=1 / a.shape[1])
    return (one * one).mul_(one)


def _within(x: Tensor) -> Tensor:
    """(N,) float64 mean kernel of each with the others; with itself is no pair."""
    whole = kernel(x, x)
    return (whole.sum(dim=1).double() - whole.diagonal().double()) / (len(x) - 1)
