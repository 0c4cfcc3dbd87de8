"""EDM with magnitude-preserving networks (EDM2, Karras et al. 2024)."""

from __future__ import annotations

from torch import nn

from langevin.diffusion.denoiser import Denoiser
from langevin.diffusion.objectives import Denoising, Uncertain
from langevin.diffusion.parameterizations import Karras
from langevin.diffusion.schedules import LinearVE
from langevin.diffusion.times import LogNormalSigma
from langevin.diffusion.weightings import EDM
from langevin.methods.gaussian import Bounding, GaussianDiffusion, Sampling


def edm2(
    network: nn.Module,
    uncertainty: nn.Module,
    schedule: LinearVE,
    image_shape: tuple[int, int, int],
    sampling: Sampling,
    bounding: Bounding,
    *,
    sigma_data: float = 0.5,
    mean: float = -0.4,
    deviation: float = 1.0,
    dropped: float = 0.1,
) -> GaussianDiffusion:
    """EDM's loss over a learned variance, u(sigma), that keeps every noise level's gradient of one size.

    network: a magnitude-preserving one (``networks.mp_unet``); uncertainty(noise) -> (B,) log-variances, trained along and
    used for nothing else; mean, deviation: of ln(sigma) in training. The average that samples is a power function of the
    images seen, whose length can be chosen after training (``training.posthoc``). Their eq. 14 and 15, table 6; guidance
    by a worse version of itself (``guidance.Autoguided``) is Karras et al. 2024, "a bad version of itself".
    """
    denoiser = Denoiser(network, schedule, Karras(sigma_data))
    objective = Uncertain(Denoising(LogNormalSigma(schedule, mean, deviation), EDM(sigma_data)), uncertainty)
    return GaussianDiffusion(denoiser, objective, image_shape, dropped, sampling, bounding, uncertainty=uncertainty)
