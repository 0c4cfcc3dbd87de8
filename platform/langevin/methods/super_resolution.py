"""One stage of a cascade: diffusion of an image given a smaller one (Ho et al. 2021, cascaded diffusion, section 4)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, pad

from langevin.diffusion.denoiser import Denoises, Prediction
from langevin.diffusion.samplers import walk
from langevin.diffusion.schedules import Schedule
from langevin.methods.gaussian import GaussianDiffusion, dropping, in_blocks
from langevin.networks.upsampler import LowResolution
from langevin.protocols import Batch, Cond, Losses
from langevin.randomness import Keys, Noise


class Augmentation(Protocol):
    """How the smaller images are made worse, so that a stage forgives what the stage below does wrong."""

    def trained(self, image: Tensor, noise: Noise) -> LowResolution:
        """What the network is told of real images (B, C, h, w) in training."""
        ...

    def sampled(self, image: Tensor, level: Tensor, noise: Noise) -> LowResolution:
        """What it is told of generated ones, at the levels (B,) that the caller wants. ValueError for one never trained."""
        ...


@dataclass(frozen=True)
class NoAugmentation:
    """Small images as they are. Ho et al. 2021, table 4a: worse in a cascade, better on real images."""

    def trained(self, image: Tensor, noise: Noise) -> LowResolution:
        return LowResolution(image, torch.zeros_like(image[:, 0, 0, 0]))

    def sampled(self, image: Tensor, level: Tensor, noise: Noise) -> LowResolution:
        if bool(level.any()):
            raise ValueError(f"{type(self).__name__} knows the level 0 only, found {level.max():.4g}")
        return LowResolution(image, level.to(image))


@dataclass(frozen=True)
class NoiseAugmentation:
    """z_s ~ q(z_s | z): forward diffusion of small images to a level s that the network is told. Ho et al. 2021, section 4.2.

    In training s ~ U[0, largest]. In sampling it is the non-truncated kind: the stage below is sampled to its end, then
    diffused to s, so one set of small images serves a sweep over s. The truncated kind, which stops the stage below at s, trains
    the same network. schedule: without weights of its own; largest: in (0, 1), also of the levels in sampling.
    """

    schedule: Schedule
    largest: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.largest < 1:
            raise ValueError(f"the largest level must lie in (0, 1), found {self.largest}")

    def trained(self, image: Tensor, noise: Noise) -> LowResolution:
        u = noise.uniform("level", noise.keys.ordinals.double())
        return self._diffused(image, self.largest * u, noise)

    def sampled(self, image: Tensor, level: Tensor, noise: Noise) -> LowResolution:
        if not bool(((level >= 0) & (level <= self.largest)).all()):
            raise ValueError(f"trained at levels in [0, {self.largest}], found {level.min():.4g} to {level.max():.4g}")
        return self._diffused(image, level.double(), noise)

    def _diffused(self, image: Tensor, level: Tensor, noise: Noise) -> LowResolution:
        at = self.schedule(level.to(image.device))
        return LowResolution(at.diffuse(image, noise.normal("forward", image)), level.to(image))


@dataclass(frozen=True)
class BlurAugmentation(NoAugmentation):
    """A Gaussian blur of deviation U[low, high], in pixels of the small image, on ``share`` of the training examples.

    None in sampling, and the network is not told. Ho et al. 2021, section 4.3: for 128 x 128 and above, [0.4, 0.6] and a half.
    """

    low: float = 0.4
    high: float = 0.6
    share: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.low <= self.high:
            raise ValueError(f"blurs have a deviation above 0, found [{self.low}, {self.high}]")

    def trained(self, image: Tensor, noise: Noise) -> LowResolution:
        each = image[:, 0, 0, 0]
        sigma = self.low + (self.high - self.low) * noise.uniform("sigma", each)
        chosen = noise.uniform("blurred", each) < self.share
        worse = torch.where(chosen[:, None, None, None], blurred(image, sigma, math.ceil(3 * self.high)), image)
        return LowResolution(worse, torch.zeros_like(each))


def blurred(images: Tensor, sigma: Tensor, radius: int) -> Tensor:
    """Convolved with a Gaussian of each image's own sigma > 0 (B,), cut ``radius`` pixels out, edge pixels repeated outwards."""
    offsets = torch.arange(-radius, radius + 1, device=images.device)
    weights = torch.softmax(-(offsets**2) / (2 * sigma[:, None] ** 2), dim=1)[:, :, None, None, None]
    for dim, edges in ((2, (0, 0, radius, radius)), (3, (radius, radius, 0, 0))):
        padded, size = pad(images, edges, mode="replicate"), images.shape[dim]
        images = torch.stack([weights[:, k] * padded.narrow(dim, k, size) for k in range(len(offsets))]).sum(0)
    return images


def reduced(images: Tensor, size: int) -> Tensor:
    """Means over square blocks: (B, C, H, W) -> (B, C, size, W size / H). ValueError where blocks do not fit."""
    height, width = images.shape[-2:]
    factor = height // size
    if height % size or width % factor:
        raise ValueError(f"images of {height} x {width} have no whole blocks at a height of {size}")
    return images if factor == 1 else avg_pool2d(images, factor)


def nothing(image: Tensor, size: Any) -> Tensor:
    """The zeros (B, C, H, W) that images are differences from when a stage models them as they are."""
    return image.new_zeros(*image.shape[:2], *size)


@dataclass(frozen=True)
class Beside:
    """A denoiser that is told a small image besides: what is left of its condition is the label, which guidance may drop.

    D(x_t) = centre + base(x_t - alpha centre): base knows the images by what they differ in from the centre (B, C, H, W).
    """

    base: Denoises
    told: LowResolution
    centre: Tensor

    @property
    def schedule(self) -> Schedule:
        return self.base.schedule

    def __call__(self, x: Tensor, t: Tensor, cond: Cond = None) -> Prediction:
        at = self.schedule(t.expand(len(x))).against(x)
        difference = self.base(x - at.alpha * self.centre, t, self.told._replace(cond=cond))
        return difference._replace(x0=self.centre + difference.x0)


class SuperResolution(nn.Module):
    """Images of height ``size`` given those of height ``lower``: inner's loss and sampler, told of a LowResolution.

    Trained on images of any height that ``size`` divides: the target is their mean over blocks, and the condition the target's.
    Labels are dropped as inner drops them, the small image never is: guidance works on the label alone. inner: its
    network is an ``Upsampler``, its data are the images' differences from ``centre(small image, (H, W))``: ``nothing`` for the
    images themselves (Ho et al. 2021), ``enlarged`` for what the small image leaves open (Li et al. 2022, SRDiff, section
    3.3); level: at which ``condition`` gives the small ones of real images. There is no bound: block means of larger
    images lie on no grey levels.
    """

    def __init__(
        self,
        inner: GaussianDiffusion,
        lower: int,
        size: int,
        augmentation: Augmentation,
        level: float = 0.0,
        centre: Callable[[Tensor, Any], Tensor] = nothing,
    ) -> None:
        super().__init__()
        if inner.image_shape[1] != size or not 0 < lower < size or size % lower:
            raise ValueError(
                f"a stage from {lower} to {size} cannot be made of a model of {inner.image_shape[1]} pixels"
            )
        self.inner, self.lower, self.size, self.augmentation, self.level = inner, lower, size, augmentation, level
        self.centre = centre

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return self.inner.image_shape

    def loss(self, batch: Batch, keys: Keys) -> Losses:
        """inner's objective of the target, with labels dropped. Ho et al. 2021, algorithm 1."""
        noise, target = Noise(keys), reduced(batch.images, self.size)
        told = self.augmentation.trained(reduced(target, self.lower), noise.within("augmentation"))
        label = dropping(batch.labels, self.inner.dropped, noise)
        difference = target - self.centre(told.image, target.shape[-2:])
        return self.inner.objective(self.inner.denoiser, difference, told._replace(cond=label), noise)

    def condition(self, batch: Batch) -> LowResolution:
        """The images made smaller, and their labels."""
        return given(reduced(batch.images, self.lower), batch.labels, self.level)

    def sample_from(self, keys: Keys, low: Tensor, cond: Cond = None, level: float = 0.0) -> Tensor:
        """(B, C, size, W) of clean small images low: (B, C, lower, w) in [-1, 1], which are brought to ``level`` first."""
        return self.sample(keys, given(low, cond, level))

    def walk_from(self, keys: Keys, low: Tensor, cond: Cond = None, level: float = 0.0) -> Iterator[Tensor]:
        """The states on the way to what ``sample_from`` returns."""
        return self.walk(keys, given(low, cond, level))

    @torch.no_grad()
    def sample(self, keys: Keys, cond: LowResolution) -> Tensor:
        """cond: clean small images, the levels to bring them to, and labels. Ho et al. 2021, algorithm 2."""
        for x in self.walk(keys, cond):  # noqa: B007
            pass
        return x.clamp(-1, 1)

    def walk(self, keys: Keys, cond: LowResolution) -> Iterator[Tensor]:
        inner, noise, grid = self.inner, Noise(keys), self.inner.sampling.grid
        if cond.image.shape[-2] != self.lower:
            raise ValueError(f"a stage from {self.lower} pixels was given images of {tuple(cond.image.shape)}")
        told = self.augmentation.sampled(cond.image, cond.level, noise.within("augmentation"))
        centre = self.centre(told.image, inner.image_shape[1:])
        model = inner.sampling.guided(Beside(in_blocks(inner.denoiser), told, centre))
        start = model.schedule(grid[0]).alpha.to(centre) * centre + inner.start(noise, centre)
        for x in walk(model, inner.sampling.sampler, start, grid, cond.cond, noise):
            yield x
        if float(model.schedule(grid[-1]).sigma) > 0:  # as GaussianDiffusion: what D makes of the last noise
            yield model(x, grid[-1], cond.cond).x0


def given(low: Tensor, cond: Cond, level: float) -> LowResolution:
    """One level for all of the small images low: (B, C, h, w)."""
    return LowResolution(low, torch.full_like(low[:, 0, 0, 0], level), cond)
