"""Precision and recall, density and coverage: which images lie in balls around images of the other set.

The ball of an image reaches to its k-th neighbour in its own set. k = 3 for precision and recall (Kynkäänniemi et al.
2019, eq. 1, by torch-fidelity's formula), k = 5 for density and coverage (Naeem et al. 2020, eq. 3 and 4), which one
outlier among the real images, with its wide ball, cannot please, nor hurt.

Intervals are from the bootstrap (bootstrap.py). A resample moves only how far balls reach, never beyond the 24th
neighbour, so of all pairs of images a resample looks at those that are near enough ever to meet.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from langevin.evaluation.bootstrap import Resampled
from langevin.evaluation.fidelity import DENSITY_NEIGHBOURS, NEIGHBOURS
from langevin.evaluation.intervals import Figure, around

REACH = 24  # neighbours: a resample misses all but two of them once in 10^8
ROWS = 1024  # images whose distances to all others are in memory at a time


@dataclass(frozen=True)
class _Balls:
    """Balls around N images, and which of M others may lie in them.

    places: (N, m), an image's neighbours among its own, nearest first; ball, other, rank: (P,), a pair each: the other one
    is farther from the ball's centre than ``rank`` of its neighbours.
    """

    places: Tensor
    ball: Tensor
    other: Tensor
    rank: Tensor
    others: int

    @classmethod
    def around(cls, features: Tensor, others: Tensor) -> _Balls:
        """features: (N, d); others: (M, d)."""
        reach = min(REACH, len(features) - 1)
        places, balls, found, ranks = [], [], [], []
        for start in range(0, len(features), ROWS):
            centres = features[start : start + ROWS]
            own = torch.cdist(centres, features)
            own[torch.arange(len(centres)), start + torch.arange(len(centres))] = torch.inf  # none is its own neighbour
            nearest = own.topk(reach, largest=False)
            between = torch.cdist(centres, others)
            rank = torch.searchsorted(nearest.values, between)
            ball, other = (rank < reach).nonzero(as_tuple=True)
            places.append(nearest.indices)
            balls.append(ball + start)
            found.append(other)
            ranks.append(rank[ball, other])
        return cls(torch.cat(places), torch.cat(balls), torch.cat(found), torch.cat(ranks), len(others))

    def inside(self, k: int, counts: Tensor) -> Tensor:
        """(P,) whether the pair's other image lies in the ball, when each centre is drawn counts[i] times. counts: (N,).

        The ball reaches to the k-th drawn neighbour, one drawn twice counted as two. Copies of the centre itself do not
        count, or one drawn four times would have a ball of radius 0; where it is not drawn there is no ball.
        """
        reached = (counts[self.places].cumsum(dim=1) < k).sum(dim=1)
        within = self.rank <= reached.clamp_max(self.places.shape[1] - 1)[self.ball]
        return within & (counts[self.ball] > 0)


def neighbour_figures(generated: Resampled, reference: Resampled) -> dict[str, Figure]:
    """precision, recall, density, coverage of generated images, each with its bootstrap interval.

    density: mean number of real balls that a generated image lies in, over k; above 1 where images crowd near the real
    ones' middles. coverage: share of the real images' balls with a generated image in them.
    """
    ours = _Balls.around(generated.features, reference.features)
    real = _Balls.around(reference.features, generated.features)
    values = _shares(ours, real, *(torch.ones(len(one), dtype=torch.int64) for one in (generated, reference)))
    draws = zip(generated.counts, reference.counts, strict=True)
    drawn = torch.tensor([_shares(ours, real, *counts) for counts in draws], dtype=torch.float64)
    precision, recall, density, coverage = zip(values, drawn.std(dim=0).tolist(), strict=True)
    n, m = len(generated), len(reference)
    return {
        "precision": around(*precision, n, "fraction", lowest=0, highest=1),
        "recall": around(*recall, m, "fraction", lowest=0, highest=1),
        "density": around(*density, n, lowest=0),
        "coverage": around(*coverage, m, "fraction", lowest=0, highest=1),
    }


def _shares(ours: _Balls, real: _Balls, of_ours: Tensor, of_real: Tensor) -> tuple[float, float, float, float]:
    """Precision, recall, density and coverage where the images are drawn so often: (N,) of generated, (M,) of real."""
    near_real = _any(real.other[real.inside(NEIGHBOURS, of_real)], real.others)
    near_ours = _any(ours.other[ours.inside(NEIGHBOURS, of_ours)], ours.others)
    ball, other = (values[real.inside(DENSITY_NEIGHBOURS, of_real)] for values in (real.ball, real.other))
    visits = of_ours[other]
    covered = _any(ball[visits > 0], len(of_real))
    n, m = int(of_ours.sum()), int(of_real.sum())
    density = float((visits * of_real[ball]).sum()) / (DENSITY_NEIGHBOURS * n)
    return (
        float(of_ours[near_real].sum()) / n,
        float(of_real[near_ours].sum()) / m,
        density,
        float(of_real[covered].sum()) / m,
    )


def _any(places: Tensor, count: int) -> Tensor:
    """(count,) whether a place occurs among the places."""
    return torch.zeros(count, dtype=torch.bool).index_fill(0, places, True)
