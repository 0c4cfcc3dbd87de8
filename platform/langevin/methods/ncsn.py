"""Noise-conditional score networks (NCSN, Song & Ermon 2019) and their improved techniques (NCSNv2, Song & Ermon 2020)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from langevin.diffusion import grids
from langevin.diffusion.denoiser import Denoiser
from langevin.diffusion.objectives import Denoising
from langevin.diffusion.parameterizations import Blind
from langevin.diffusion.parameterizations import Noise as NoisePrediction
from langevin.diffusion.samplers.annealed_langevin import AnnealedLangevin, consistent_step_lr
from langevin.diffusion.schedules import GeometricVE
from langevin.diffusion.times import Ladder
from langevin.diffusion.weightings import Simple
from langevin.methods.gaussian import Bounding, GaussianDiffusion, Sampling
from langevin.randomness import Noise


class ScoreNetwork(GaussianDiffusion):
    """A score at a ladder of noise levels. Langevin dynamics start from uniform pixels, as in both papers; other samplers
    need x at the grid's first level."""

    def start(self, noise: Noise, like: Tensor) -> Tensor:
        if isinstance(self.sampling.sampler, AnnealedLangevin):
            return 2 * noise.uniform("prior", like) - 1
        return super().start(noise, like)


def ncsn(
    network: nn.Module,
    schedule: GeometricVE,
    levels: int,
    image_shape: tuple[int, int, int],
    sampling: Sampling,
    bounding: Bounding,
    *,
    blind: bool = False,
    dropped: float = 0.1,
) -> ScoreNetwork:
    """Denoising score matching, sigma^2 ||score + (x_t - x_0) / sigma^2||^2 at every level alike: the noise error unweighted.

    network(x, noise, cond): (B, C, H, W), which says -sigma x score; blind: it is not told the level (NCSNv2, technique 3);
    levels: of the ladder from sigma_min to sigma_max of the schedule, geometric. Song & Ermon 2019, eq. 5 and 6.
    """
    parameterization = Blind(NoisePrediction()) if blind else NoisePrediction()
    denoiser = Denoiser(network, schedule, parameterization)
    objective = Denoising(Ladder(levels), Simple())
    return ScoreNetwork(denoiser, objective, image_shape, dropped, sampling, bounding)


def improved_techniques(schedule: GeometricVE, dims: int, steps: int, levels: int | None = None) -> tuple[int, float]:
    """(levels, step_lr): techniques 2 and 4 of Song & Ermon 2020, for ``steps`` of the dynamics a level.

    levels: where they are chosen already.
    """
    levels = levels or grids.rungs(schedule.sigma_max, schedule.sigma_min, dims)
    ratio = (schedule.sigma_max / schedule.sigma_min) ** (1 / (levels - 1))
    return levels, consistent_step_lr(ratio, steps, schedule.sigma_min)


def largest_distance(images: Tensor) -> float:
    """The largest Euclidean distance of two images (N, ...): sigma_max by technique 1 of Song & Ermon 2020."""
    flat = images.flatten(1).double()
    return float(torch.cdist(flat, flat).max())
