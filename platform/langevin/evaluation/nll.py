"""Negative log-likelihood in bits per dimension: a method's bound, averaged over a split, and what its estimate is off by."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from langevin.errors import DataError, NumericsError
from langevin.evaluation.crew import ALONE, Crew, Work
from langevin.evaluation.intervals import Figure, around, mean
from langevin.protocols import Batch, Bound, Bounded
from langevin.randomness import Keys

UNIT = "bits/dim"


@dataclass(frozen=True)
class Nll:
    """An upper bound on -log2 p a dimension, and the three parts that it is the sum of. Ho et al. 2020, eq. 5.

    Their intervals say what another choice of images would change. estimate: the total again, for these very images, with the
    interval of what another draw of the method's noise would change (the terms of a chain that it looks at and the noise
    it adds); None where there was one draw only.
    """

    total: Figure
    prior: Figure
    diffusion: Figure
    reconstruction: Figure
    estimate: Figure | None = None

    def figures(self) -> dict[str, Figure]:
        """By the names under which an evaluation reports them."""
        own = {} if self.estimate is None else {"nll_estimate": self.estimate}
        return {
            "nll": self.total,
            "nll_prior": self.prior,
            "nll_diffusion": self.diffusion,
            "nll_reconstruction": self.reconstruction,
            **own,
        }


def nll(model: Bounded, batches: Iterable[Batch], seed: int, dims: int, crew: Crew = ALONE, draws: int = 1) -> Nll:
    """The bound over all images of the batches, in bits/dim, each part with the interval of a mean over images.

    dims: dimensions of an image, C x H x W; crew: who takes the batches; draws: of the bound's noise for each image, of which the
    mean is taken: two tell the estimate's own error, at twice the cost of one.
    The noise of an image is keyed by (seed, draw, its ordinal), so the batch size
    changes nothing. Raises DataError where there is no image, NumericsError where an image's bound is not finite.
    """
    seeds = tuple(seed * draws + draw for draw in range(draws))
    bounds = crew.map(_Bounding(model, seeds), list(batches))
    if not bounds:
        raise DataError("there is no image to take the likelihood of", mend="give a split that is not empty")
    scale = 1 / (math.log(2) * dims)
    drawn = {part: _drawn(bounds, part) * scale for part in ("prior", "diffusion", "reconstruction")}
    totals = drawn["prior"] + drawn["diffusion"] + drawn["reconstruction"]
    parts = {part: mean(values.mean(0), UNIT) for part, values in drawn.items()}
    return Nll(mean(totals.mean(0), UNIT), **parts, estimate=_of_these_images(totals) if draws > 1 else None)


def _drawn(bounds: list[list[Bound]], part: str) -> Tensor:
    """(draws, N) float64 nats, from the draws of every batch."""
    batches = [torch.stack([getattr(bound, part) for bound in draws]) for draws in bounds]
    return torch.cat(batches, dim=1).double()


def _of_these_images(totals: Tensor) -> Figure:
    """totals: (draws, N), independent down the draws. The error of the mean from how the draws of an image differ."""
    draws, n = totals.shape
    deviation = math.sqrt(float(totals.var(0).sum()) / draws) / n
    return around(float(totals.mean()), deviation, n, UNIT)


@dataclass(frozen=True)
class _Bounding(Work[Batch, list[Bound]]):
    """The bounds of a batch, one a seed."""

    seeds: tuple[int, ...]

    def do(self, item: Batch) -> list[Bound]:
        batch = item.to(self.device)
        return [self._bound(batch, seed) for seed in self.seeds]

    def _bound(self, batch: Batch, seed: int) -> Bound:
        found = self.model.bound(batch, Keys(seed, batch.ordinals))
        bound = Bound(found.prior.cpu(), found.diffusion.cpu(), found.reconstruction.cpu())
        infinite = (~torch.isfinite(bound.total)).nonzero()[:, 0].tolist()
        if infinite:
            names = ", ".join(batch.keys[index] for index in infinite[:5])
            raise NumericsError(f"the bound of {len(infinite)} images is not finite: {names}")
        return bound
