"""Denoising diffusion probabilistic models (Ho et al. 2020), with classifier-free guidance (Ho & Salimans 2022)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from langevin.diffusion.denoiser import Clamped, Denoiser
from langevin.diffusion.guidance import ClassifierFree
from langevin.diffusion.likelihood import stratified_bound
from langevin.diffusion.objectives import Denoising
from langevin.diffusion.samplers import Sampler, walk
from langevin.diffusion.variance import ReverseVariance
from langevin.protocols import Batch, Bound, Cond, Losses
from langevin.randomness import Keys, Noise


@dataclass(frozen=True)
class Sampling:
    """How images are drawn: the sampler along a grid of times (n + 1,), guidance at a scale, D clamped to [-1, 1]."""

    sampler: Sampler
    grid: Tensor
    scale: float = 1.0


@dataclass(frozen=True)
class Bounding:
    """How the likelihood is bounded: the chain's times (n + 1,), its reverse variance, the data's grey levels, and how
    many of the chain's terms are looked at for each image."""

    grid: Tensor
    variance: ReverseVariance
    levels: int
    calls: int


class DDPM(nn.Module):
    """A denoiser, an objective, a sampler and a bound. image_shape: (C, H, W); dropped: share of conditions left out."""

    def __init__(
        self,
        denoiser: Denoiser,
        objective: Denoising,
        image_shape: tuple[int, int, int],
        dropped: float,
        sampling: Sampling,
        bounding: Bounding,
    ) -> None:
        super().__init__()
        self.denoiser, self.objective, self.image_shape, self.dropped = denoiser, objective, image_shape, dropped
        self.sampling, self.bounding = sampling, bounding

    def loss(self, batch: Batch, keys: Keys) -> Losses:
        noise = Noise(keys)
        labels = batch.labels
        if labels is not None:
            labels = labels.where(noise.uniform("condition", labels.float()) >= self.dropped, -1)
        total = self.objective(self.denoiser, batch.images, labels, noise)
        return Losses(total=total, terms={})

    def walk(self, keys: Keys, cond: Cond) -> Iterator[Tensor]:
        noise = Noise(keys)
        like = torch.empty(len(keys), *self.image_shape, device=keys.ordinals.device)
        model = Clamped(ClassifierFree(self.denoiser, self.sampling.scale))
        start = model.schedule(self.sampling.grid[0]).sigma.to(like) * noise.normal("prior", like)
        return walk(model, self.sampling.sampler, start, self.sampling.grid, cond, noise)

    @torch.no_grad()
    def sample(self, keys: Keys, cond: Cond) -> Tensor:
        for x in self.walk(keys, cond):  # noqa: B007
            pass
        return x.clamp(-1, 1)

    @torch.no_grad()
    def bound(self, batch: Batch, keys: Keys) -> Bound:
        chain, noise = self.bounding, Noise(keys)
        model = Clamped(self.denoiser)  # at alpha ~ 0 an unclamped D is noise / alpha
        return stratified_bound(
            model, batch.images, batch.labels, noise, chain.grid, chain.variance, chain.levels, chain.calls
        )
