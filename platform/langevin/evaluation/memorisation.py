"""Are generated images new, or training images again? Asked of nearest neighbours among features."""

from __future__ import annotations

import torch
from torch import Tensor

from langevin.evaluation.intervals import Figure, proportion

ROWS = 1024  # images whose distances to all others are in memory at a time


def authenticity(images: Tensor, train: Tensor) -> Figure:
    """The share of images that are farther from their nearest training image than that one is from any other.

    Alaa et al. 2022, section 4.3, with Wilson's interval: 0 of copies. New images of the training images' own
    distribution have about a half, so the figure of the test images stands beside it as ``authenticity_floor``; well
    below it, a model repeats what it has seen. Noise has 1: it says nothing about quality. Features (N, d), (M, d).
    """
    distance, nearest = _nearest(images, train)
    asked, place = torch.unique(nearest, return_inverse=True)
    own, _ = _nearest(train[asked], train, asked)
    authentic = distance > own[place]
    return proportion(int(authentic.sum()), len(images))


def _nearest(images: Tensor, train: Tensor, places: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Distance to the nearest training image and its place, (N,) each. places: an image's own place, which is left out."""
    distances, found = [], []
    images, train = images.double(), train.double()  # in float32 a copy would lie 1e-3 away
    for start in range(0, len(images), ROWS):
        between = torch.cdist(images[start : start + ROWS], train)
        if places is not None:
            own = places[start : start + ROWS]
            between[torch.arange(len(own)), own] = torch.inf
        values, indices = between.min(dim=1)
        distances.append(values)
        found.append(indices)
    return torch.cat(distances), torch.cat(found)
