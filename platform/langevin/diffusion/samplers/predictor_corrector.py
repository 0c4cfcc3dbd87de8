"""Predictor-corrector: a step of any sampler, then Langevin dynamics at the level where it arrived."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from langevin.diffusion.denoiser import Denoises
from langevin.diffusion.processes import scores
from langevin.diffusion.samplers.ancestral import ReverseDiffusion
from langevin.diffusion.samplers.walk import Sampler
from langevin.randomness import Noise


@dataclass(frozen=True)
class PredictorCorrector:
    """Song et al. 2021, algorithm 1. snr: r of the corrector's step, e = 2 (r ||z|| / ||score||)^2; steps: of it.

    Norms are each sample's own, where the paper's code takes the batch's mean: a sample must not depend on its neighbours.
    Their VP corrector's further factor alpha_i = 1 - beta_i, near 1 and a chain's, is left out.
    """

    predictor: Sampler = field(default_factory=ReverseDiffusion)
    snr: float = 0.16
    steps: int = 1

    def __call__(self, model: Denoises, x: Tensor, t: Tensor, s: Tensor, cond: Any, noise: Noise) -> Tensor:
        x = self.predictor(model, x, t, s, cond, noise)
        if float(model.schedule(s).sigma) == 0:  # the data have no score
            return x
        for number in range(self.steps):
            z = noise.normal(f"corrector/{number}", x)
            score = scores(model).score(x, s, cond)
            size = 2 * (self.snr * _norm(z) / _norm(score)) ** 2
            x = x + size * score + (2 * size).sqrt() * z
        return x


def _norm(x: Tensor) -> Tensor:
    """Each sample's Euclidean norm, (B, 1, ..., 1)."""
    norms: Tensor = torch.linalg.vector_norm(x.flatten(1), dim=1)
    return norms.reshape((-1,) + (1,) * (x.ndim - 1))
