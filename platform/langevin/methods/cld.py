"""Critically-damped Langevin diffusion: noise enters by a velocity, and only its score is learned (Dockhorn et al. 2022)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from langevin.diffusion.likelihood import Hutchinson, dequantised_bound, log_prob_ode
from langevin.diffusion.processes import normal_log_prob
from langevin.diffusion.samplers import Sampler, walk
from langevin.diffusion.velocity_score import GuidedScore, VelocityDivergence, VelocityScore, VelocityScoreModel
from langevin.methods.gaussian import dropping
from langevin.networks.blocks import InBlocks
from langevin.protocols import Batch, Bound, Cond, Losses
from langevin.randomness import Keys, Noise


@dataclass(frozen=True)
class Sampling:
    """How images are drawn: the sampler along a grid of times (n + 1,) from 1 to some t > 0, guidance at a scale, away from
    the condition ``negative``, one row (1, ...), or from none.
    """

    sampler: Sampler
    grid: Tensor
    scale: float = 1.0
    negative: Tensor | None = None


@dataclass(frozen=True)
class Bounding:
    """The flow along rising times (n + 1,) from some t > 0 to 1, four calls a step, for data on ``levels`` grey levels.

    -log p(x) <= E_v[-log p(x, v) + log q(v | x)] for any q, here that of Gaussian data at the grid's first time.
    Dockhorn et al. 2022 take the start's N(0, gamma M), which the velocity has left by then. One velocity, one
    dequantisation and ``probes`` of the divergence an image.
    """

    grid: Tensor
    levels: int
    probes: int = 1

    def __call__(self, model: VelocityScoreModel, x0: Tensor, cond: Cond, noise: Noise) -> Bound:
        lower = model.process.cholesky(self.grid[0], model.start)
        slope, deviation = lower[1, 0] / lower[0, 0], lower[1, 1]

        def log_prob(x: Tensor, scope: Noise) -> Tensor:
            shock = deviation.to(x) * scope.normal("velocity", x)
            state, divergence = torch.stack([x, slope.to(x) * x + shock], 1), Hutchinson(scope, self.probes)
            joint = log_prob_ode(model, state, cond, VelocityDivergence(divergence), grid=self.grid)
            return joint - normal_log_prob(shock, deviation.to(x.device))

        return dequantised_bound(log_prob, x0, noise, self.levels)


class CLD(nn.Module):
    """A velocity's score, an objective, a sampler and a bound. image_shape: (C, H, W); dropped: share of classes left out."""

    def __init__(
        self,
        model: VelocityScoreModel,
        objective: VelocityScore,
        image_shape: tuple[int, int, int],
        dropped: float,
        sampling: Sampling,
        bounding: Bounding,
    ) -> None:
        super().__init__()
        self.model, self.objective, self.image_shape, self.dropped = model, objective, image_shape, dropped
        self.sampling, self.bounding = sampling, bounding

    def loss(self, batch: Batch, keys: Keys) -> Losses:
        noise = Noise(keys)
        return self.objective(self.model, batch.images, dropping(batch.labels, self.dropped, noise), noise)

    def walk(self, keys: Keys, cond: Cond) -> Iterator[Tensor]:
        """The positions, and last the data that are expected of the last state."""
        noise, process, grid = Noise(keys), self.model.process, self.sampling.grid
        blocked = VelocityScoreModel(InBlocks(self.model.network), process, self.model.data_var)
        model = GuidedScore(blocked, self.sampling.scale, self.sampling.negative)
        start = process.prior(noise, torch.empty(len(keys), *self.image_shape, device=keys.ordinals.device))
        for x in walk(model, self.sampling.sampler, start, grid, cond, noise):
            yield x[:, 0]
        yield process.expected_data(x, model.score(x, grid[-1], cond), grid[-1])

    @torch.no_grad()
    def sample(self, keys: Keys, cond: Cond) -> Tensor:
        for x in self.walk(keys, cond):  # noqa: B007
            pass
        return x.clamp(-1, 1)

    @torch.no_grad()
    def bound(self, batch: Batch, keys: Keys) -> Bound:
        return self.bounding(self.model, batch.images, batch.labels, Noise(keys))
