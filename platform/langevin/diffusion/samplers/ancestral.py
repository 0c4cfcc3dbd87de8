"""Ancestral sampling of the reverse chain, and what goes with it: guidance of its mean, reverse diffusion."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from langevin.diffusion.denoiser import Denoises
from langevin.diffusion.guidance import LogPotential, gradient
from langevin.diffusion.kernels import posterior, transition_variance
from langevin.diffusion.processes import scores
from langevin.diffusion.variance import Lower, ReverseVariance
from langevin.randomness import Noise


@dataclass(frozen=True)
class Ancestral:
    """x_s ~ N(posterior mean at x_0 = D, variance). Ho et al. 2020, algorithm 2, between any two levels."""

    variance: ReverseVariance = field(default_factory=Lower)

    def __call__(self, model: Denoises, x: Tensor, t: Tensor, s: Tensor, cond: Any, noise: Noise) -> Tensor:
        here, there = model.schedule(t), model.schedule(s)
        prediction = model(x, t, cond)
        mean = posterior(prediction.x0, x, there, here).mean
        if float(there.sigma) == 0:  # the data themselves: the mean is D, and noise would only stay
            return mean
        return mean + self.variance(there, here, prediction.head).sqrt().to(x) * noise.normal("ancestral", x)


@dataclass(frozen=True)
class GuidedAncestral:
    """Ancestral sampling with its mean moved by variance x scale x grad log_potential at x_t.

    Dhariwal & Nichol 2021, algorithm 1 (the gradient as in their code). In short steps it is ``GradientGuided``.
    """

    log_potential: LogPotential
    scale: float
    variance: ReverseVariance = field(default_factory=Lower)

    def __call__(self, model: Denoises, x: Tensor, t: Tensor, s: Tensor, cond: Any, noise: Noise) -> Tensor:
        here, there = model.schedule(t), model.schedule(s)
        prediction = model(x, t, cond)
        variance = self.variance(there, here, prediction.head).to(x)
        mean = posterior(prediction.x0, x, there, here).mean
        mean = mean + variance * self.scale * gradient(self.log_potential, x, t, cond)
        return mean if float(there.sigma) == 0 else mean + variance.sqrt() * noise.normal("ancestral", x)


@dataclass(frozen=True)
class ReverseDiffusion:
    """The forward chain's own discretisation, run backwards: x_s = x - f + V score + sqrt(V) z.

    With x_t = r x_s + sqrt(V) z forwards, f = (r - 1) x. Song et al. 2021, appendix E, algorithms 2 and 3's predictor.
    There is no noise in the step to the data, as in their code.
    """

    def __call__(self, model: Denoises, x: Tensor, t: Tensor, s: Tensor, cond: Any, noise: Noise) -> Tensor:
        here, there = model.schedule(t), model.schedule(s)
        ratio, variance = (here.alpha / there.alpha).to(x), transition_variance(there, here).to(x)
        mean = (2 - ratio) * x + variance * scores(model).score(x, t, cond)
        return mean if float(there.sigma) == 0 else mean + variance.sqrt() * noise.normal("reverse", x)
