"""Negative log-likelihood in bits per dimension: the exact discrete bound of a method, averaged over a split."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch

from langevin.errors import DataError, NumericsError
from langevin.evaluation.intervals import Figure, mean
from langevin.evaluation.threads import in_threads
from langevin.protocols import Batch, Bound, Bounded
from langevin.randomness import Keys

UNIT = "bits/dim"


@dataclass(frozen=True)
class Nll:
    """An upper bound on -log2 p a dimension, and the three parts that it is the sum of. Ho et al. 2020, eq. 5."""

    total: Figure
    prior: Figure
    diffusion: Figure
    reconstruction: Figure

    def figures(self) -> dict[str, Figure]:
        """By the names under which an evaluation reports them."""
        return {
            "nll": self.total,
            "nll_prior": self.prior,
            "nll_diffusion": self.diffusion,
            "nll_reconstruction": self.reconstruction,
        }


def nll(model: Bounded, batches: Iterable[Batch], seed: int, dims: int, threads: int = 1) -> Nll:
    """The bound over all images of the batches, in bits/dim, each part with the interval of a mean over images.

    dims: dimensions of an image, C x H x W; threads: batches at a time.
    The noise of an image is keyed by (seed, its ordinal), so the batch size
    changes nothing. Raises DataError where there is no image, NumericsError where an image's bound is not finite.
    """
    bounds = in_threads(lambda batch: _bound(model, batch, seed), batches, threads)
    if not bounds:
        raise DataError("there is no image to take the likelihood of", mend="give a split that is not empty")
    scale = 1 / (math.log(2) * dims)
    parts = {
        part: torch.cat([getattr(bound, part) for bound in bounds]).double().cpu() * scale
        for part in ("prior", "diffusion", "reconstruction")
    }
    total = parts["prior"] + parts["diffusion"] + parts["reconstruction"]
    return Nll(mean(total, UNIT), **{part: mean(values, UNIT) for part, values in parts.items()})


@torch.no_grad()
def _bound(model: Bounded, batch: Batch, seed: int) -> Bound:
    bound = model.bound(batch, Keys(seed, batch.ordinals))
    infinite = (~torch.isfinite(bound.total)).nonzero()[:, 0].tolist()
    if infinite:
        names = ", ".join(batch.keys[index] for index in infinite[:5])
        raise NumericsError(f"the bound of {len(infinite)} images is not finite: {names}")
    return bound
