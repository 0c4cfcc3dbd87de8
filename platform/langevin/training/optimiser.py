"""AdamW and its learning rate, which is a function of the images seen."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class LearningRate:
    """Linear warm-up over ``warmup`` images, then half a cosine from ``peak`` to 0 at ``images``."""

    peak: float
    warmup: int
    images: int

    def __call__(self, seen: int) -> float:
        """The rate of the step that begins after ``seen`` images."""
        rise = min(1.0, (seen + 1) / self.warmup) if self.warmup else 1.0
        return self.peak * rise * 0.5 * (1 + math.cos(math.pi * min(1.0, seen / self.images)))


def adamw(model: nn.Module, weight_decay: float, betas: tuple[float, float]) -> torch.optim.Optimizer:
    """AdamW over the model's parameters in one fused kernel; the loop sets the rate. Loshchilov & Hutter 2019."""
    return torch.optim.AdamW(model.parameters(), lr=0.0, betas=betas, weight_decay=weight_decay, fused=True)
