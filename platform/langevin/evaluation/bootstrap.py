"""Intervals for what is no mean over images (FID, KID, precision, recall): by drawing the images again.

An interval says where the same measurement would land with as many other images of the same classes, so it lies around
the figure itself: figure +- 1.96 bootstrap deviations. The two textbook alternatives miss. A resample adds to FID the bias
of a second draw: percentile intervals lie above the figure altogether (on Gaussian features of 64 dimensions they cover
it in 0 % of the cases), and basic intervals, mirrored below it, aim at the FID of infinitely many images, which nobody
reports. The interval used covers 96 to 100 % there: it errs on the wide side.

Images are drawn again within their classes, whose numbers are a choice and not chance. Drawn across classes, intervals
are three times as wide, and most of the width is how many sevens there happen to be.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from langevin.errors import NumericsError
from langevin.evaluation.fidelity import NEIGHBOURS, Kid, fid, kernel, precision_recall
from langevin.evaluation.intervals import Figure, around
from langevin.evaluation.spread import Resamples
from langevin.evaluation.statistics import Moments
from langevin.randomness import Keys, Noise

RESAMPLES = 200  # a bootstrap deviation is then itself known to 5 %


@dataclass(frozen=True)
class Resampled:
    """Features (N, d) of a set of images and how often each is drawn in each resample: counts (times, N) int64."""

    features: Tensor
    counts: Tensor

    @classmethod
    def of(
        cls, features: Tensor, seed: int, stream: str, labels: Tensor | None = None, times: int = RESAMPLES
    ) -> Resampled:
        """Drawn with replacement, within each class where there are labels (N,). ``stream`` names the set of images."""
        strata = torch.zeros(len(features), dtype=torch.int64) if labels is None else labels
        return cls(features, resamples(seed, stream, strata, times))

    def __len__(self) -> int:
        return len(self.features)


@dataclass(frozen=True)
class FidFigures:
    """fid: generated against reference; floor: real training images against reference; ratio: fid / floor."""

    fid: Figure
    floor: Figure
    ratio: Figure


def resamples(seed: int, stream: str, strata: Tensor, times: int) -> Tensor:
    """How often each image is drawn: (times, N) int64. Each stratum keeps its size. strata: (N,), which one an image is in."""
    order = strata.argsort(stable=True)
    _, inverse, sizes = torch.unique(strata, return_inverse=True, return_counts=True)
    size, start = sizes[inverse], (sizes.cumsum(0) - sizes)[inverse]
    like = torch.empty(1, len(strata), dtype=torch.float64)
    counts = []
    for number in range(times):
        uniform = Noise(Keys.range(seed, number, number + 1)).uniform(f"bootstrap/{stream}", like)[0]
        counts.append(torch.bincount(order[start + (uniform * size).long()], minlength=len(strata)))
    return torch.stack(counts)


def fid_figures(generated: Resampled, reference: Resampled, train: Resampled) -> FidFigures:
    """FID and its floor against the same reference. The ratio's interval knows that they share it."""
    sets = [(one.features.double(), one.counts) for one in (generated, reference, train)]
    value, floor = _pair(*(Moments.of(features) for features, _ in sets))
    if floor == 0:
        raise NumericsError("the FID floor is 0: the training and the reference images are the same")
    pairs = [
        _pair(*(Moments.of(features, drawn) for (features, _), drawn in zip(sets, counts, strict=True)))
        for counts in zip(*(counts for _, counts in sets), strict=True)
    ]
    drawn = torch.tensor(pairs, dtype=torch.float64)
    slope = torch.tensor([1.0, -value / floor], dtype=torch.float64) / floor  # of the ratio, to first order
    return FidFigures(
        _distance(value, drawn[:, 0], len(generated)),
        _distance(floor, drawn[:, 1], len(train)),
        _distance(value / floor, drawn @ slope, len(generated)),
    )


def fid_figure(generated: Resampled, reference: Resampled) -> Figure:
    """FID without a floor beside it."""
    sets = [(one.features.double(), one.counts) for one in (generated, reference)]
    drawn = [
        fid(*(Moments.of(features, times) for (features, _), times in zip(sets, counts, strict=True)))
        for counts in zip(*(counts for _, counts in sets), strict=True)
    ]
    value = fid(*(Moments.of(features) for features, _ in sets))
    return _distance(value, torch.tensor(drawn, dtype=torch.float64), len(generated))


def kid_figure(found: Kid, generated: Resampled, reference: Resampled) -> Figure:
    """KID with the deviation of the whole sets' MMD, and of the mean over random subsets. It may be negative."""
    distance = _mean_kernel(generated) + _mean_kernel(reference) - 2 * _mean_cross_kernel(generated, reference)
    own = found.deviation**2 / found.subsets
    deviation = math.sqrt(float(distance.var()) + own)
    return around(found.mean, deviation, len(generated), spread=Resamples(distance, own))


def precision_recall_figures(generated: Resampled, reference: Resampled) -> tuple[Figure, Figure]:
    """Precision and recall, each with its bootstrap deviation."""
    found = precision_recall(generated.features, reference.features)
    ours, real = _Manifold.of(generated.features), _Manifold.of(reference.features)
    between = torch.cdist(generated.features, reference.features)
    precisions, recalls = [], []
    for of_ours, of_real in zip(generated.counts, reference.counts, strict=True):
        near_real = (between <= real.radii(of_real)).any(dim=1)
        near_ours = (between <= ours.radii(of_ours)[:, None]).any(dim=0)
        precisions.append(of_ours[near_real].sum() / of_ours.sum())
        recalls.append(of_real[near_ours].sum() / of_real.sum())
    return (
        _share(found.precision, torch.stack(precisions), len(generated)),
        _share(found.recall, torch.stack(recalls), len(reference)),
    )


@dataclass(frozen=True)
class _Manifold:
    """The nearest neighbours of each feature vector among the others: distances and places, (N, m), nearest first."""

    distances: Tensor
    places: Tensor

    @classmethod
    def of(cls, features: Tensor) -> _Manifold:
        distances = torch.cdist(features, features).fill_diagonal_(math.inf)
        # of 24 neighbours a resample misses all but two once in 10^8
        nearest = distances.topk(min(24, len(features) - 1), largest=False)
        return cls(nearest.values, nearest.indices)

    def radii(self, counts: Tensor) -> Tensor:
        """Distance to the k-th drawn neighbour, one drawn twice counted as two; -1 (nothing is inside) where not drawn.

        Copies of the point itself do not count, or a point drawn four times would have a ball of radius 0.
        """
        reached = counts[self.places].cumsum(dim=1) < NEIGHBOURS
        place = reached.sum(dim=1, keepdim=True).clamp_max(self.distances.shape[1] - 1)
        return torch.where(counts > 0, self.distances.gather(1, place)[:, 0], -1.0)


def _pair(generated: Moments, reference: Moments, train: Moments) -> tuple[float, float]:
    return fid(generated, reference), fid(train, reference)


def _mean_kernel(one: Resampled) -> Tensor:
    """(times,) mean of the kernel over pairs of different images; copies of one image are not a pair."""
    counts, features = one.counts.double(), one.features.double()
    square = counts**2
    same = square @ (features.square().mean(dim=1) + 1) ** 3  # the kernel of each image with itself
    return (_sum_kernel(features, features, counts, counts) - same) / (len(one) ** 2 - square.sum(dim=1))


def _mean_cross_kernel(a: Resampled, b: Resampled) -> Tensor:
    whole = _sum_kernel(a.features.double(), b.features.double(), a.counts.double(), b.counts.double())
    return whole / (len(a) * len(b))


def _sum_kernel(a: Tensor, b: Tensor, of_a: Tensor, of_b: Tensor) -> Tensor:
    """(times,) sum over i, j of of_a[:, i] k(a_i, b_j) of_b[:, j], in blocks of rows: never N x N numbers at a time."""
    blocks = zip(a.split(1024), of_a.split(1024, dim=1), strict=True)
    return sum(((counts @ kernel(rows, b)) * of_b).sum(dim=1) for rows, counts in blocks)  # type: ignore[return-value]


def _distance(value: float, resampled: Tensor, n: int) -> Figure:
    return around(value, float(resampled.std()), n, lowest=0, spread=Resamples(resampled))


def _share(value: float, resampled: Tensor, n: int) -> Figure:
    resampled = resampled.double()
    return around(value, float(resampled.std()), n, "fraction", lowest=0, highest=1, spread=Resamples(resampled))
