"""The loss on images that training never saw, with noise that is the same at every reading."""

from __future__ import annotations

import torch

from langevin.protocols import Batch, Trainable
from langevin.randomness import Keys


@torch.no_grad()
def validation_loss(method: Trainable, batch: Batch, seed: int, rounds: int = 4) -> float:
    """Mean loss over the batch, each image at ``rounds`` noise levels keyed by (seed, place): readings compare exactly."""
    count = len(batch)
    total = 0.0
    for index in range(rounds):
        keys = Keys(seed, batch.ordinals + index * count)
        total += float(method.loss(batch, keys).total.double().mean())
    return total / rounds
