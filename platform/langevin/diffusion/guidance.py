"""Guidance is a denoiser made of denoisers. One convention: scale 1 is the conditional model, 0 the unconditional one.

Each wrapper knows its ``unguided`` model, the one that it is at scale 1 (a gradient's: at scale 0).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from langevin.diffusion.denoiser import Denoises, Prediction
from langevin.diffusion.schedules import Schedule

LogPotential = Callable[[Tensor, Tensor, Any], Tensor]  # (x: (B, ...), t: (B,) float64, cond) -> (B,) log-potential


class Guided(Denoises, Protocol):
    @property
    def unguided(self) -> Denoises: ...


@dataclass(frozen=True)
class ClassifierFree:
    """D = D_null + scale (D_cond - D_null); scale = 1 + w of Ho & Salimans 2022, eq. 6. null: the "no condition" value.

    Any scale: below 0 it leads away from the condition. null may be another condition (a negative prompt): a row for each
    sample, or one for all.
    """

    base: Denoises
    scale: float
    null: Any = None

    @property
    def schedule(self) -> Schedule:
        return self.base.schedule

    @property
    def unguided(self) -> Denoises:
        return self.base

    def __call__(self, x: Tensor, t: Tensor, cond: Any = None) -> Prediction:
        if self.scale == 1:  # the other half would be multiplied by nothing
            return self.base(x, t, cond)
        null = self.base(x, t, for_each(self.null, x))
        if self.scale == 0:
            return null
        conditional = self.base(x, t, cond)
        return conditional._replace(x0=null.x0 + self.scale * (conditional.x0 - null.x0))


@dataclass(frozen=True)
class Autoguided:
    """D = D_weak + scale (D_main - D_weak): away from a worse version of itself. Karras et al. 2024 (autoguidance), eq. 3.

    Both on the same schedule.
    """

    main: Denoises
    weak: Denoises
    scale: float

    @property
    def schedule(self) -> Schedule:
        return self.main.schedule

    @property
    def unguided(self) -> Denoises:
        return self.main

    def __call__(self, x: Tensor, t: Tensor, cond: Any = None) -> Prediction:
        main = self.main(x, t, cond)
        if self.scale == 1:
            return main
        weak = self.weak(x, t, cond).x0
        return main._replace(x0=weak + self.scale * (main.x0 - weak))


@dataclass(frozen=True)
class GradientGuided:
    """The score moved by scale x grad log_potential, so D by scale sigma^2 / alpha times it.

    The potential is a classifier's log p(y | x_t) (Dhariwal & Nichol 2021, eq. 12-14: eps - sigma scale grad) or a
    similarity to a text (Nichol et al. 2021, section 2.4). The base is left as it is: to guide an unconditional model make
    it one, ``ClassifierFree(model, 0)``.
    """

    base: Denoises
    log_potential: LogPotential
    scale: float

    @property
    def schedule(self) -> Schedule:
        return self.base.schedule

    @property
    def unguided(self) -> Denoises:
        return self.base

    def __call__(self, x: Tensor, t: Tensor, cond: Any = None) -> Prediction:
        prediction = self.base(x, t, cond)
        if self.scale == 0:
            return prediction
        at = self.schedule(t.expand(len(x))).against(x)
        push = at.sigma**2 / at.alpha * gradient(self.log_potential, x, t, cond)
        return prediction._replace(x0=prediction.x0 + self.scale * push)


@dataclass(frozen=True)
class Interval:
    """Guidance where lo < sigma / alpha <= hi, the unguided model elsewhere. Kynkäänniemi et al. 2024, eq. 5."""

    base: Guided
    lo: float
    hi: float

    @property
    def schedule(self) -> Schedule:
        return self.base.schedule

    @property
    def unguided(self) -> Denoises:
        return self.base.unguided

    def __call__(self, x: Tensor, t: Tensor, cond: Any = None) -> Prediction:
        level = self.schedule(t.expand(len(x)))
        inside = (self.lo * level.alpha < level.sigma) & (level.sigma <= self.hi * level.alpha)
        if bool(inside.all()):
            return self.base(x, t, cond)
        plain = self.unguided(x, t, cond)
        if not bool(inside.any()):
            return plain
        guided = self.base(x, t, cond)
        mask = inside.to(x.device).reshape((-1,) + (1,) * (x.ndim - 1))
        return plain._replace(x0=torch.where(mask, guided.x0, plain.x0))


@dataclass(frozen=True)
class ClassPotential:
    """log p(y | x_t) of a noise-aware classifier. network(x, noise) -> (B, classes) logits, noise: (B,) the time.

    Dhariwal & Nichol 2021, section 4. cond: (B,) int64 labels; -1 and None, no class, have a flat potential.
    """

    network: nn.Module

    def __call__(self, x: Tensor, t: Tensor, cond: Any) -> Tensor:
        if cond is None:
            return 0 * x.flatten(1).sum(1)
        log_shares = torch.log_softmax(self.network(x, t.to(x)), dim=1)
        log_shares = torch.cat([log_shares, torch.zeros_like(log_shares[:, :1])], dim=1)  # the last one is "no class"
        return log_shares.gather(1, cond[:, None] % log_shares.shape[1])[:, 0]


@dataclass(frozen=True)
class Similarity:
    """Cosine of the angle between an image's and a text's embedding: CLIP guidance. Nichol et al. 2021, section 2.4.

    image(x, t) -> (B, d): a noise-aware tower; text(cond) -> (B, d). Either may be any module or function.
    """

    image: Callable[[Tensor, Tensor], Tensor]
    text: Callable[[Any], Tensor]

    def __call__(self, x: Tensor, t: Tensor, cond: Any) -> Tensor:
        return nn.functional.cosine_similarity(self.image(x, t.to(x)), self.text(cond), dim=1)


@dataclass(frozen=True)
class OnData:
    """A potential of clean images, taken at D(x_t): for classifiers and CLIPs that never saw noise.

    Its gradient runs through the denoiser. Bansal et al. 2023, eq. 6 (universal guidance).
    """

    base: Denoises
    potential: Callable[[Tensor, Any], Tensor]

    def __call__(self, x: Tensor, t: Tensor, cond: Any) -> Tensor:
        return self.potential(self.base(x, t, cond).x0, cond)


def for_each(cond: Any, x: Tensor) -> Any:
    """A condition of one row for every sample of x, (B, ...), on its device. One of B rows stays, and so does None."""
    return cond.to(x.device).expand(len(x), *cond.shape[1:]) if isinstance(cond, Tensor) else cond


def gradient(log_potential: LogPotential, x: Tensor, t: Tensor, cond: Any) -> Tensor:
    """d log_potential / dx at each sample, x's shape. t: () or (B,)."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        total = log_potential(x, t.expand(len(x)), cond).sum()
        slope: Tensor = torch.autograd.grad(total, x)[0]
    return slope
