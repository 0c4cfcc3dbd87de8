"""What every denoising method does with its parts: it trains, samples and bounds its likelihood, whatever they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from langevin.diffusion.denoiser import Clamped, Denoiser, Denoises
from langevin.diffusion.guidance import ClassifierFree, Interval
from langevin.diffusion.processes import prior_deviation
from langevin.diffusion.samplers import Sampler, walk
from langevin.networks.blocks import InBlocks
from langevin.protocols import Batch, Bound, Cond, Losses
from langevin.randomness import Keys, Noise


class Objective(Protocol):
    def __call__(self, model: Denoiser, x0: Tensor, cond: Cond, noise: Noise) -> Losses: ...


class Bounding(Protocol):
    def __call__(self, model: Denoises, x0: Tensor, cond: Cond, noise: Noise, /) -> Bound: ...


@dataclass(frozen=True)
class Sampling:
    """How images are drawn: the sampler along a grid of times (n + 1,), classifier-free guidance at a scale and where
    sigma / alpha lies in an interval (None: everywhere), and how D is kept in the range of images. negative: the condition
    that guidance leads away from, one row (1, ...), in the place of none.
    """

    sampler: Sampler
    grid: Tensor
    scale: float = 1.0
    interval: tuple[float, float] | None = None
    clamped: Callable[[Denoises], Denoises] = Clamped
    negative: Tensor | None = None

    def guided(self, model: Denoises) -> Denoises:
        """The denoiser that the sampler meets."""
        guided = ClassifierFree(model, self.scale, self.negative)
        return self.clamped(Interval(guided, *self.interval) if self.interval else guided)


class GaussianDiffusion(nn.Module):
    """A denoiser, an objective, a sampler and a bound. image_shape: (C, H, W); dropped: share of conditions left out.

    parts: modules that the objective trains beside the denoiser.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        objective: Objective,
        image_shape: tuple[int, int, int],
        dropped: float,
        sampling: Sampling,
        bounding: Bounding,
        **parts: nn.Module,
    ) -> None:
        super().__init__()
        self.denoiser, self.objective, self.image_shape, self.dropped = denoiser, objective, image_shape, dropped
        self.sampling, self.bounding, self.parts = sampling, bounding, nn.ModuleDict(parts)

    def loss(self, batch: Batch, keys: Keys) -> Losses:
        noise = Noise(keys)
        return self.objective(self.denoiser, batch.images, dropping(batch.labels, self.dropped, noise), noise)

    def drawn_by(self) -> tuple[Denoises, Sampler]:
        """The denoiser, guided and kept in range, and the sampler that meets it."""
        return self.sampling.guided(in_blocks(self.denoiser)), self.sampling.sampler

    def start(self, noise: Noise, like: Tensor) -> Tensor:
        """x at the grid's first time. like: (B, C, H, W)."""
        deviation = prior_deviation(self.denoiser.schedule, float(self.sampling.grid[0]))
        return deviation.to(like) * noise.normal("prior", like)

    def walk(self, keys: Keys, cond: Cond) -> Iterator[Tensor]:
        noise, grid = Noise(keys), self.sampling.grid
        start = self.start(noise, torch.empty(len(keys), *self.image_shape, device=keys.ordinals.device))
        model, sampler = self.drawn_by()
        for x in walk(model, sampler, start, grid, cond, noise):
            yield x
        if float(model.schedule(grid[-1]).sigma) > 0:  # the grid ends above the data: what D makes of the last noise
            yield model(x, grid[-1], cond).x0

    @torch.no_grad()
    def sample(self, keys: Keys, cond: Cond) -> Tensor:
        for x in self.walk(keys, cond):  # noqa: B007
            pass
        return x.clamp(-1, 1)

    @torch.no_grad()
    def bound(self, batch: Batch, keys: Keys) -> Bound:
        return self.bounding(self.denoiser, batch.images, batch.labels, Noise(keys))


def in_blocks(denoiser: Denoiser) -> Denoiser:
    """The same denoiser, whose bits do not depend on the batch."""
    return Denoiser(InBlocks(denoiser.network), denoiser.schedule, denoiser.parameterization)


def dropping(cond: Tensor | None, share: float, noise: Noise) -> Tensor | None:
    """Labels (B,) or captions (B, L) of which ``share`` are -1, "no class" or "no text". Ho & Salimans 2022, algorithm 1."""
    if cond is None:
        return None
    kept = noise.uniform("condition", torch.empty(len(cond), device=cond.device)) >= share
    return cond.where(kept.reshape((-1,) + (1,) * (cond.ndim - 1)), -1)
