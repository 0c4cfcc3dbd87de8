"""Are generated images new, or training images again? Asked of nearest neighbours among features."""

from __future__ import annotations

import torch
from torch import Tensor

from langevin.evaluation.intervals import Figure, share
from langevin.evaluation.nearest import about, nearest


def authenticity(images: Tensor, train: Tensor) -> Figure:
    """The share of images that are farther from their nearest training image than that one is from any other.

    Alaa et al. 2022, section 4.3, with Wilson's interval: 0 of copies. New images of the training images' own
    distribution have about a half, so the figure of the test images stands beside it as ``authenticity_floor``; well
    below it, a model repeats what it has seen. Noise has 1: it says nothing about quality. Features (N, d), (M, d).
    """
    place = _nearest(images, train)
    asked, back = torch.unique(place, return_inverse=True)
    others = _nearest(train[asked], train, own=asked)
    authentic = _distance(images, train[place]) > _distance(train[asked], train[others])[back]
    return share(authentic.tolist())


def _nearest(images: Tensor, train: Tensor, own: Tensor | None = None) -> Tensor:
    """(N,) the place of the nearest training image."""
    middle = train.double().mean(dim=0)
    _, places = nearest(about(middle, images), about(middle, train), 1, own)
    return places[:, 0]


def _distance(a: Tensor, b: Tensor) -> Tensor:
    """(N,) of a pair each, in float64: by products in float32 a copy would lie 1e-3 away."""
    return (a.double() - b.double()).norm(dim=1)
