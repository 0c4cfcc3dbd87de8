"""The design space of diffusion models, elucidated (EDM, Karras et al. 2022)."""

from __future__ import annotations

from torch import nn

from langevin.diffusion.denoiser import Denoiser
from langevin.diffusion.objectives import Denoising
from langevin.diffusion.parameterizations import Karras
from langevin.diffusion.schedules import LinearVE
from langevin.diffusion.times import LogNormalSigma
from langevin.diffusion.weightings import EDM
from langevin.methods.gaussian import Bounding, GaussianDiffusion, Sampling


def edm(
    network: nn.Module,
    schedule: LinearVE,
    image_shape: tuple[int, int, int],
    sampling: Sampling,
    bounding: Bounding,
    *,
    sigma_data: float = 0.5,
    mean: float = -1.2,
    deviation: float = 1.2,
    dropped: float = 0.1,
) -> GaussianDiffusion:
    """Preconditioned denoising: unit variance in and out of the network, and on its error, at every noise level.

    network(x, noise, cond): noise: ln(sigma) / 4; ln(sigma) ~ N(mean, deviation^2) in training; sigma_data: the deviation of
    the data's values. Sampled by ``Heun`` along ``grids.karras``, 2 n - 1 network calls for n levels. Their table 1.
    """
    denoiser = Denoiser(network, schedule, Karras(sigma_data))
    objective = Denoising(LogNormalSigma(schedule, mean, deviation), EDM(sigma_data))
    return GaussianDiffusion(denoiser, objective, image_shape, dropped, sampling, bounding)
