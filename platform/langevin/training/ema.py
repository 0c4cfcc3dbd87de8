"""The moving average of the weights, which is what samples and is evaluated."""

from __future__ import annotations

import copy

import torch
from torch import nn


class EMA:
    """Exponential moving average with warm-up: decay_n = min(decay, (1 + n) / (10 + n)) after n updates.

    Ho et al. 2020, appendix B, has the decay; the warm-up forgets the first, random weights. ``model`` holds the average.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(model).requires_grad_(False).eval()
        self.decay, self.updates = decay, 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(list(self.model.parameters()), [p.detach() for p in model.parameters()], 1 - decay)
