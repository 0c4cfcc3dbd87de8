"""Precision and recall, density and coverage: which images lie in balls around images of the other set.

The ball of an image reaches to its k-th neighbour in its own set. k = 3 for precision and recall (Kynkäänniemi et al.
2019, eq. 1, by torch-fidelity's formula), k = 5 for density and coverage (Naeem et al. 2020, eq. 3 and 4), which one
outlier among the real images, with its wide ball, cannot please, nor hurt.

An image's influence is the jackknife's: what changes where it is left out. Its own ball goes, and the balls that reach to
it or past it grow to their next neighbour. On the average that is no less than the variance (Efron & Stein 1981).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from langevin.evaluation.intervals import Figure, influenced
from langevin.evaluation.nearest import about, distances, nearest
from langevin.evaluation.sets import FeatureSet

NEIGHBOURS, DENSITY_NEIGHBOURS = 3, 5


@dataclass(frozen=True)
class _Balls:
    """Around images (N, d). places: (N, K) an image's neighbours, nearest first; squared: (N, K) their distances."""

    centres: Tensor
    places: Tensor
    squared: Tensor

    @classmethod
    def around(cls, images: Tensor) -> _Balls:
        squared, places = nearest(images, images, DENSITY_NEIGHBOURS + 1, own=torch.arange(len(images)))
        return cls(images, places, squared)

    def __len__(self) -> int:
        return len(self.centres)

    def reach(self, k: int) -> Tensor:
        """(N,) squared radii."""
        return self.squared[:, k - 1]

    def sum_of_reached(self, values: Tensor, k: int) -> Tensor:
        """(N,) the sum of values (N,) over the balls that reach to an image or past it: those that grow without it."""
        places = self.places[:, :k]
        return torch.zeros(len(self)).double().index_add_(0, places.flatten(), values.double().repeat_interleave(k))


def neighbour_figures(generated: FeatureSet, reference: FeatureSet) -> dict[str, Figure]:
    """precision, recall, density, coverage of generated images, each with its interval.

    density: mean number of real balls that a generated image lies in, over k; above 1 where images crowd near the real
    ones' middles. coverage: share of the real images' balls with a generated image in them.
    """
    middle = reference.features.double().mean(dim=0)
    ours, real = (_Balls.around(about(middle, one.features)) for one in (generated, reference))
    return {
        "precision": _share_inside(generated, reference, ours, real),
        "recall": _share_inside(reference, generated, real, ours),
        **_visits(generated, reference, ours, real),
    }


def _share_inside(images: FeatureSet, others: FeatureSet, own: _Balls, balls: _Balls) -> Figure:
    """The share of images in the balls of the others. own: the images' balls, of which only the centres count here."""
    k = NEIGHBOURS
    inside, lost = torch.zeros(len(images), dtype=torch.bool), torch.zeros(len(others), dtype=torch.float64)
    for rows, between in distances(own.centres, balls.centres):
        within = between <= balls.reach(k)
        times = _count(within, 1)
        inside[rows] = times > 0
        # left out, one other image changes nothing for those that lie in two balls
        few = times <= 1
        lost += _lost(within[few], between[few] <= balls.reach(k + 1), balls.places[:, :k])
    parts = images.part(inside), others.part(lost * (len(others) / len(images)))
    return influenced(float(inside.double().mean()), parts, len(images), "fraction", lowest=0, highest=1)


def _lost(within: Tensor, grown: Tensor, places: Tensor) -> Tensor:
    """(M,) how many images are in no ball any more without each of the others, less those that then are in one.

    within, grown: (rows, M) whether an image lies in a ball, and in the ball of one neighbour more; at most one ball of each.
    """
    image, ball = (grown & ~within).nonzero(as_tuple=True)
    let_in = torch.zeros_like(within)  # into a ball that grows
    let_in[image[:, None], places[ball]] = True
    alone = within.any(dim=1)
    gone = within[alone] & ~let_in[alone]
    return _count(gone, 0) - _count(let_in[~alone], 0)


def _visits(generated: FeatureSet, reference: FeatureSet, ours: _Balls, real: _Balls) -> dict[str, Figure]:
    """density and coverage."""
    k, n, m = DENSITY_NEIGHBOURS, len(generated), len(reference)
    visits, more = (torch.zeros(m, dtype=torch.float64) for _ in range(2))  # of a ball; of the next neighbour's
    made, alone = (torch.zeros(n, dtype=torch.float64) for _ in range(2))  # by an image; in how many it is the only one
    for rows, between in distances(real.centres, ours.centres):
        within = between <= real.reach(k)[rows, None]
        visits[rows] = _count(within, 1)
        more[rows] = _count(between <= real.reach(k + 1)[rows, None], 1)
        made += _count(within, 0)
        alone += _count(within[visits[rows] == 1], 0)
    covered = visits > 0
    density = generated.part(made / k), reference.part((visits - real.sum_of_reached(more - visits, k)) * m / (k * n))
    newly = real.sum_of_reached(~covered & (more > 0), k)
    coverage = generated.part(alone * (n / m)), reference.part(covered.double() - newly)
    return {
        "density": influenced(float(made.mean()) / k, density, n, lowest=0),
        "coverage": influenced(float(covered.double().mean()), coverage, m, "fraction", lowest=0, highest=1),
    }


def _count(true: Tensor, dim: int) -> Tensor:
    """How many are: float64. Summed as int32, which is 18 times as fast as the usual int64."""
    return true.sum(dim=dim, dtype=torch.int32).double()
