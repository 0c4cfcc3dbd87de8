"""In which order the elements of a sample are generated: a permutation of its own for each, and where training looks."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from langevin.randomness import Noise


def random_order(noise: Noise, like: Tensor) -> Tensor:
    """A uniform permutation a sample: int64 of like's shape (B, ...), order_k in 0 .. D - 1 when element k is generated.

    Hoogeboom et al. 2021, section 3: sigma ~ U(S_D).
    """
    u = noise.uniform("order", torch.empty(like.shape, dtype=torch.float64, device=like.device))
    return u.flatten(1).argsort(dim=1, stable=True).reshape(like.shape)


def absorbed(order: Tensor, step: Tensor) -> Tensor:
    """The elements not generated before ``step``, order_k >= step: bool of order's shape (B, ...). step: (B,)."""
    return order >= step.reshape((-1,) + (1,) * (order.ndim - 1))


def steps_at(times: Tensor, count: int) -> Tensor:
    """Times (B,) in (0, 1], uniform, as steps 0 .. count - 1, equally likely: ceil(t count) - 1, int64."""
    return (times * count).ceil().long().clamp(1, count) - 1


def stratum(noise: Noise, run: int, runs: int, count: int) -> Tensor:
    """A step a sample, (B,) int64: floor((run + u) count / runs), u ~ U[0, 1). All runs together cover 0 .. count - 1 evenly.

    For runs = count it is ``run`` itself. u has 24 bits, so that the sum and the product are exact.
    """
    u = noise.uniform("step", torch.empty(len(noise.keys), device=noise.keys.ordinals.device)).double()
    return ((run + u) * count / runs).long()


def elements(shape: torch.Size | tuple[int, ...]) -> int:
    """D, the elements of a sample of this shape (without the batch's dimension)."""
    return math.prod(shape)
