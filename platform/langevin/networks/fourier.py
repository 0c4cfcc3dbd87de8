"""Fine detail for a network that sees small differences poorly."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


def fourier_features(x: Tensor, exponents: Sequence[int]) -> Tensor:
    """x (B, C, ...) with sin(2^n pi x) and cos(2^n pi x) behind it for every n: (B, C (1 + 2 len(exponents)), ...).

    Kingma et al. 2021, section 3.4: the likelihood rests on details of one grey level. In [-1, 1] they are 2 / (levels - 1)
    apart, so n = log2(levels - 1) - 1 turns neighbours by pi: n = 7 (and 8) for 256 levels, 3 (and 4) for the digits' 17.
    """
    waves = [wave(2**n * math.pi * x) for n in exponents for wave in (torch.sin, torch.cos)]
    return torch.cat([x, *waves], dim=1)


class FourierFeatures(nn.Module):
    """network(x, noise, cond) that is shown x's Fourier features too. network: takes C (1 + 2 len(exponents)) channels."""

    def __init__(self, network: nn.Module, exponents: Sequence[int] = (7, 8)) -> None:
        super().__init__()
        self.network, self.exponents = network, tuple(exponents)

    def forward(self, x: Tensor, noise: Tensor, cond: Any = None) -> Tensor:
        out: Tensor = self.network(fourier_features(x, self.exponents), noise, cond)
        return out
