"""What a figure may be off by, because its images are a sample: 95 % intervals.

An interval says where the same measurement would land with as many other images, so it lies around the figure itself.
For FID, precision and recall that is figure +- 1.96 bootstrap deviations, because the two textbook alternatives miss. A
resample adds to FID the bias of a second draw: percentile intervals lie above the figure altogether (coverage 0 % in 64
dimensions), and basic intervals, mirrored below it, aim at the FID of infinitely many images, which nobody reports. On
Gaussian features the interval used covers 96 to 100 %: it errs on the wide side.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from scipy import stats
from torch import Tensor

from langevin.errors import NumericsError
from langevin.evaluation.fidelity import NEIGHBOURS, InceptionScore, Kid, PrecisionRecall, fid, precision_recall
from langevin.evaluation.statistics import Moments
from langevin.randomness import Keys, Noise

Z = 1.959963984540054  # the standard normal's 97.5 % point
RESAMPLES = 200  # bootstrap deviations are then themselves within 10 %


@dataclass(frozen=True)
class Figure:
    """A measured number. low, high: its 95 % interval; n: the images it rests on; unit ("" where it has none)."""

    value: float
    low: float
    high: float
    n: int
    unit: str = ""

    def __post_init__(self) -> None:
        if not all(math.isfinite(number) for number in (self.value, self.low, self.high)):
            raise NumericsError(f"a figure is not finite: {self.value} in [{self.low}, {self.high}], n = {self.n}")

    def __str__(self) -> str:
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}] {self.unit}".rstrip()

    @property
    def margin(self) -> float:
        """Half of the interval's width."""
        return (self.high - self.low) / 2


def around(value: float, deviation: float, n: int, unit: str = "", lowest: float = -math.inf) -> Figure:
    """value +- 1.96 deviations, cut at the lowest value that the quantity can have."""
    return Figure(value, max(value - Z * deviation, lowest), value + Z * deviation, n, unit)


def mean(values: Tensor, unit: str = "") -> Figure:
    """The mean of independent values (N,) with its normal interval."""
    values = values.double()
    spread = values.std().item() if len(values) > 1 else 0.0
    return around(values.mean().item(), spread / math.sqrt(len(values)), len(values), unit)


def proportion(successes: int, n: int) -> Figure:
    """successes out of n with Wilson's score interval (1927), which stays inside [0, 1] and is honest at its ends."""
    share, z2 = successes / n, Z * Z
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    # at 0 and n successes the ends are 0 and 1 but for rounding
    return Figure(share, min(max(centre - half, 0.0), share), max(min(centre + half, 1.0), share), n, "fraction")


def resamples(seed: int, stream: str, n: int, times: int) -> Iterator[Tensor]:
    """How often each of n images is drawn in each of ``times`` bootstrap resamples: (n,) int64 that sum to n."""
    for number in range(times):
        noise = Noise(Keys.range(seed, number, number + 1))
        uniform = noise.uniform(f"bootstrap/{stream}", torch.empty(1, n, dtype=torch.float64))
        yield torch.bincount((uniform[0] * n).long(), minlength=n)


@dataclass(frozen=True)
class FidFigures:
    """fid: generated against reference; floor: real training images against reference; ratio: fid / floor."""

    fid: Figure
    floor: Figure
    ratio: Figure


def fid_figures(generated: Tensor, reference: Tensor, train: Tensor, seed: int, times: int = RESAMPLES) -> FidFigures:
    """FID and its floor, both against the same reference and the same resamples of it. Features (N, d) each.

    The ratio's interval takes in the covariance that the shared reference gives numerator and denominator.
    """
    features = {"generated": generated.double(), "reference": reference.double(), "train": train.double()}
    whole = {name: Moments.of(values) for name, values in features.items()}
    value, floor = fid(whole["generated"], whole["reference"]), fid(whole["train"], whole["reference"])
    draws = zip(*(resamples(seed, name, len(values), times) for name, values in features.items()), strict=True)
    pairs = []
    for counts in draws:
        g, r, t = (Moments.of(values, drawn) for values, drawn in zip(features.values(), counts, strict=True))
        pairs.append((fid(g, r), fid(t, r)))
    covariance = torch.cov(torch.tensor(pairs, dtype=torch.float64).T)
    deviations = covariance.diagonal().sqrt().tolist()
    return FidFigures(
        around(value, deviations[0], len(generated), lowest=0),
        around(floor, deviations[1], len(train), lowest=0),
        _ratio(value, floor, covariance, len(generated)),
    )


def kid_figure(found: Kid, generated: int, reference: int) -> Figure:
    """KID with the delete-d jackknife over its subsets of m images: variance = m / (n - m) x the subsets' variance.

    Shao & Wu 1989, with the smaller n of the two sets, so on the wide side. KID is unbiased and may be negative.
    """
    n = min(generated, reference)
    return around(found.mean, found.deviation * math.sqrt(found.subset / (n - found.subset)), generated)


def inception_figure(found: InceptionScore, n: int) -> Figure:
    """Inception score with Student's interval over its splits: they share no image, so they are independent."""
    deviation = found.deviation / math.sqrt(found.splits - 1)  # from the population's to the mean's
    half = float(stats.t.ppf(0.975, found.splits - 1)) * deviation
    return Figure(found.mean, max(found.mean - half, 1.0), found.mean + half, n)


def precision_recall_figures(
    generated: Tensor, reference: Tensor, seed: int, times: int = RESAMPLES
) -> tuple[Figure, Figure]:
    """Precision and recall with their bootstrap deviations, over resamples of both sets. Features (N, d)."""
    found = precision_recall(generated, reference)
    a, b = _Manifold.of(generated), _Manifold.of(reference)
    between = torch.cdist(generated, reference)
    draws = zip(
        resamples(seed, "generated", len(generated), times),
        resamples(seed, "reference", len(reference), times),
        strict=True,
    )
    shares = []
    for of_a, of_b in draws:
        inside_b = (between <= b.radii(of_b)).any(dim=1).double() @ of_a.double() / len(generated)
        inside_a = (between <= a.radii(of_a)[:, None]).any(dim=0).double() @ of_b.double() / len(reference)
        shares.append(PrecisionRecall(inside_b.item(), inside_a.item()))
    precision = _share(found.precision, [share.precision for share in shares], len(generated))
    recall = _share(found.recall, [share.recall for share in shares], len(reference))
    return precision, recall


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


def _share(value: float, resampled: list[float], n: int) -> Figure:
    deviation = torch.tensor(resampled, dtype=torch.float64).std().item()
    figure = around(value, deviation, n, "fraction", lowest=0)
    return Figure(figure.value, figure.low, min(figure.high, 1.0), n, figure.unit)


def _ratio(value: float, floor: float, covariance: Tensor, n: int) -> Figure:
    """value / floor, with the first-order variance of a ratio: (1, -ratio) covariance (1, -ratio)^T / floor^2."""
    if floor == 0:
        raise NumericsError("the FID floor is 0: the training and the reference images are the same")
    slope = torch.tensor([1.0, -value / floor], dtype=torch.float64) / floor
    return around(value / floor, math.sqrt(max((slope @ covariance @ slope).item(), 0.0)), n, lowest=0)
