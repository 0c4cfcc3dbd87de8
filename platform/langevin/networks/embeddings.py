"""Numbers and classes as vectors."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class NoiseEmbedding(nn.Module):
    """A noise coefficient as a vector: sines and cosines of geometric frequencies, then a two-layer perceptron.

    noise: (B,) float -> (B, width). Frequencies run from 1 to ``fastest`` radians per unit: for t in [0, 1] the fastest
    tells levels 1 / 1000 apart. Ho et al. 2020, appendix B (there t counts steps).
    """

    def __init__(self, width: int, waves: int = 64, fastest: float = 1000.0) -> None:
        super().__init__()
        self.register_buffer("frequencies", torch.logspace(0, math.log10(fastest), waves // 2), persistent=False)
        self.mlp = nn.Sequential(nn.Linear(waves, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, noise: Tensor) -> Tensor:
        angles = noise[:, None] * self.get_buffer("frequencies")
        embedded: Tensor = self.mlp(torch.cat([angles.sin(), angles.cos()], dim=1))
        return embedded


class ClassEmbedding(nn.Module):
    """Classes 0 .. n-1 as vectors, and one more vector for "no class", which None and the label -1 stand for."""

    NONE = -1

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.table = nn.Embedding(classes + 1, width)

    def forward(self, labels: Tensor | None, batch: int) -> Tensor:
        if labels is None:
            return self.table.weight[:1].expand(batch, -1)
        embedded: Tensor = self.table(labels + 1)
        return embedded
