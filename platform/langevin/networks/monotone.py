"""A learned increasing function of time: VDM's noise schedule before it is scaled to its ends."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus


class MonotoneNetwork(nn.Module):
    """t (...) -> (...), strictly increasing, 0 at t = 0 and 1 at t = 1 exactly, in t's dtype.

    (m(t) - m(0)) / (m(1) - m(0)) of m(t) = l1(t) + l3(sigmoid(l2(l1(t)))), linear layers with positive weights of 1, width
    and 1 outputs. Kingma et al. 2021, appendix H. The parameters are float32 and computed with in t's precision (give
    float64); derivatives by jvp carry gradients to them.

    At the default width it starts within 1e-4 of the identity: sigmoids with evenly spread centres add up to a line, and
    each can grow or fade on its own. Nothing is drawn. ValueError for a width below 1.
    """

    def __init__(self, width: int = 1024) -> None:
        super().__init__()
        if width < 1:
            raise ValueError(f"width must be at least 1, found {width}")
        sharpness, centres = 12.0, torch.linspace(-0.5, 1.5, width)
        self.scale_1, self.shift_1 = nn.Parameter(torch.tensor(_before_softplus(1.0))), nn.Parameter(torch.zeros(()))
        self.scale_2 = nn.Parameter(torch.full((width,), _before_softplus(sharpness)))
        self.shift_2 = nn.Parameter(-sharpness * centres)
        self.scale_3 = nn.Parameter(
            torch.full((width,), _before_softplus(4.0))
        )  # the sigmoids then bring 2/3 of the rise

    def forward(self, t: Tensor) -> Tensor:
        slope, scale_2, scale_3 = (softplus(p.to(t)) for p in (self.scale_1, self.scale_2, self.scale_3))
        shift_1, shift_2 = self.shift_1.to(t), self.shift_2.to(t)

        def hidden(u: Tensor) -> Tensor:
            return torch.sigmoid(scale_2 * (slope * u + shift_1) + shift_2)

        start, end = hidden(torch.zeros_like(t[..., None])), hidden(torch.ones_like(t[..., None]))
        weight = scale_3 / len(scale_3)
        rise = slope + ((end - start) * weight).sum(-1)
        # t plus what bends it: every summand vanishes at both ends, so they are exact and no rounding crosses them
        bend = ((hidden(t[..., None]) - start) - t[..., None] * (end - start)) * weight
        return t + bend.sum(-1) / rise


def _before_softplus(value: float) -> float:
    """The x with log(1 + e^x) = value."""
    return value + math.log(-math.expm1(-value))
