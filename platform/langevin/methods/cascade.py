"""A cascade: a model of small images, and stages that enlarge them one after the other (Ho et al. 2021)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from langevin.methods.super_resolution import SuperResolution
from langevin.protocols import Batch, Cond, Conditioned
from langevin.randomness import Keys


class Cascade(nn.Module):
    """x_0 ~ base, x_k ~ stage k given x_{k-1} at the augmentation level of stage k. Ho et al. 2021, algorithm 2.

    base: samples images of the first stage's lower height; stages: each enlarges what the one before makes; levels: one a
    stage, 0 for none. Its weights are base.* and stage.k.*: the parts' own, as separate jobs train them, so there
    is no loss here. Nor is there a bound: base and conditional bounds add up to a bound on log p of the large image
    only where each stage models exactly what its lower image leaves open (a subband), and here a stage models all of its
    pixels, so the sum is that of a chain of images and not of the last.
    """

    def __init__(self, base: nn.Module, stages: Sequence[SuperResolution], levels: Sequence[float]) -> None:
        super().__init__()
        if not stages or len(stages) != len(levels):
            raise ValueError(f"{len(stages)} stages with {len(levels)} augmentation levels make no cascade")
        height = int(base.image_shape[1])  # type: ignore[index]
        for number, stage in enumerate(stages):
            if stage.lower != height:
                raise ValueError(f"stage {number} enlarges images of {stage.lower} pixels and is given {height}")
            height = stage.size
        self.base: Any = base
        self.stage, self.levels = nn.ModuleList(stages), tuple(levels)
        self.image_shape = stages[-1].image_shape

    def condition(self, batch: Batch) -> Cond:
        """What the base is asked for."""
        return self.base.condition(batch) if isinstance(self.base, Conditioned) else batch.labels

    @torch.no_grad()
    def sample(self, keys: Keys, cond: Cond) -> Tensor:
        """(B, C, H, W) of the last stage. The base's image is what it samples for the same keys alone."""
        x: Tensor = self.base.sample(keys, cond)
        for number, stage, level in self._stages():
            x = stage.sample_from(of_stage(keys, number), x, cond, level)
        return x

    def walk(self, keys: Keys, cond: Cond) -> Iterator[Tensor]:
        """The base's states, then each stage's, all at the last stage's size: a smaller pixel is a block of equal ones."""
        for x in self.base.walk(keys, cond):
            yield self._shown(x)
        for number, stage, level in self._stages():
            for state in stage.walk_from(of_stage(keys, number), x.clamp(-1, 1), cond, level):
                yield self._shown(state)
            x = state

    def _stages(self) -> Iterator[tuple[int, SuperResolution, float]]:
        for number, (stage, level) in enumerate(zip(self.stage, self.levels, strict=True)):
            assert isinstance(stage, SuperResolution)
            yield number, stage, level

    def _shown(self, x: Tensor) -> Tensor:
        factor = self.image_shape[1] // x.shape[-2]
        return x.repeat_interleave(factor, -2).repeat_interleave(factor, -1)


def of_stage(keys: Keys, number: int) -> Keys:
    """The same samples with a seed of the stage's own: no stage meets another's noise, nor the base's, which has keys."""
    digest = hashlib.blake2b(f"{keys.seed}/stage/{number}".encode(), digest_size=8).digest()
    return Keys(int.from_bytes(digest, "little"), keys.ordinals)
