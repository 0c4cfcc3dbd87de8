"""Numbers and classes as vectors."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class NoiseEmbedding(nn.Module):
    """A noise coefficient as a vector: sines and cosines of geometric frequencies, then a two-layer perceptron.

    noise: (B,) any floats -> (B, width): sin and cos of ``steps`` x noise x 10000^(-k / (n - shift)), k = 0 .. n - 1 for
    n = waves / 2 frequencies. Ho et al. 2020, appendix B: there noise x steps is the number of the chain's step.
    """

    def __init__(self, width: int, waves: int = 64, steps: float = 1000.0, shift: int = 1) -> None:
        super().__init__()
        self.steps = steps
        count = max(waves // 2, 1)
        # in float32, as published checkpoints compute them: trained weights expect these frequencies to the last digit
        exponents = -math.log(10000) * torch.arange(count, dtype=torch.float32) / max(count - shift, 1)
        self.register_buffer("frequencies", torch.exp(exponents), persistent=False)
        self.mlp = nn.Sequential(nn.Linear(2 * count, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, noise: Tensor) -> Tensor:
        # in noise's own precision steps x noise is mostly whole again; in float32 the angles would lose 3e-5
        angles = (self.steps * noise).double()[:, None] * self.get_buffer("frequencies")
        waves = torch.cat([angles.sin(), angles.cos()], dim=1)
        embedded: Tensor = self.mlp(waves.to(noise.dtype))
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
