"""Moving averages of the weights, one of which is what samples and is evaluated.

An average is of the parameters alone. Its buffers stay those of the first weights: what a model adapts during training,
such as statistics of its own loss, moves where training looks, not what it is, and a validation loss is read the same
way at every time. The exception are parts that say so, by ``followed = True``: by their buffers samples are drawn.
"""

from __future__ import annotations

import copy

import torch
from torch import nn

from langevin.training.posthoc import Profile, gamma_of, weight_of_new


class EMA:
    """Exponential moving average with warm-up: decay_n = min(decay, (1 + n) / (10 + n)) after n updates.

    Ho et al. 2020, appendix B, has the decay; the warm-up forgets the first, random weights. ``model`` holds the average.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(model).requires_grad_(False).eval()
        self.decay, self.updates = decay, 0

    def update(self, model: nn.Module) -> None:
        self.updates += 1
        _towards(self.model, model, 1 - min(self.decay, (1 + self.updates) / (10 + self.updates)))


class PowerEMA:
    """Average whose length grows with the training: beta = (1 - dt / t)^(gamma + 1). Karras et al. 2024, eq. 127.

    std: its length as a share of the training so far, in (0, 0.29). ``model`` holds the average; images: up to which
    time. The images of a step that was skipped count for the weights after the next.
    """

    def __init__(self, model: nn.Module, std: float) -> None:
        self.model = copy.deepcopy(model).requires_grad_(False).eval()
        self.std, self.images = std, 0
        self._gamma = gamma_of(std)

    @property
    def profile(self) -> Profile:
        return Profile(self.std, self.images)

    def update(self, model: nn.Module, images: int) -> None:
        """``model``: the weights after ``images`` images in all, more than there were before."""
        _towards(self.model, model, weight_of_new(self._gamma, self.images, images))
        self.images = images


@torch.no_grad()
def _towards(average: nn.Module, model: nn.Module, weight: float) -> None:
    torch._foreach_lerp_(list(average.parameters()), [p.detach() for p in model.parameters()], weight)
    for mine, theirs in zip(average.modules(), model.modules(), strict=True):
        if getattr(mine, "followed", False):
            for kept, now in zip(mine.buffers(), theirs.buffers(), strict=True):
                kept.copy_(now)
