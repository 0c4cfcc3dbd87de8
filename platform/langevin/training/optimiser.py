"""AdamW and its learning rate, which is a function of the images seen."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class Cosine:
    """Half a cosine, from 1 to 0 at ``images``."""

    images: int

    def __call__(self, seen: int) -> float:
        return 0.5 * (1 + math.cos(math.pi * min(1.0, seen / self.images)))


@dataclass(frozen=True)
class InverseSqrt:
    """1 / sqrt(max(seen / images, 1)): flat, then ever slower. Karras et al. 2024 (arXiv 2312.02696), app. B."""

    images: int

    def __call__(self, seen: int) -> float:
        return 1 / math.sqrt(max(seen / self.images, 1.0))


@dataclass(frozen=True)
class Constant:
    """1 at any time: averages of the weights do what a falling rate does."""

    def __call__(self, seen: int) -> float:
        return 1.0


Decay = Cosine | InverseSqrt | Constant


@dataclass(frozen=True)
class LearningRate:
    """``peak`` times the decay, both after ``seen`` images, with a linear warm-up over the first ``warmup``."""

    peak: float
    warmup: int
    decay: Decay

    def __call__(self, seen: int) -> float:
        """The rate of the step that begins after ``seen`` images."""
        rise = min(1.0, (seen + 1) / self.warmup) if self.warmup else 1.0
        return self.peak * rise * self.decay(seen)


def adamw(model: nn.Module, weight_decay: float, betas: tuple[float, float]) -> torch.optim.Optimizer:
    """AdamW over the model's parameters in one fused kernel; the loop sets the rate. Loshchilov & Hutter 2019."""
    return torch.optim.AdamW(model.parameters(), lr=0.0, betas=betas, weight_decay=weight_decay, fused=True)
