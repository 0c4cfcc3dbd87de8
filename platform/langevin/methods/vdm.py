"""Variational diffusion models (Kingma et al. 2021): the bound itself is minimised, along a schedule that is learned."""

from __future__ import annotations

from torch import nn

from langevin.diffusion.bound_objectives import ContinuousBound
from langevin.diffusion.denoiser import Denoiser
from langevin.diffusion.parameterizations import Noise, ToldLogSNR
from langevin.diffusion.schedules import Learned
from langevin.diffusion.times import Stratified
from langevin.methods.gaussian import Bounding, GaussianDiffusion, Sampling


def vdm(
    network: nn.Module,
    curve: nn.Module,
    image_shape: tuple[int, int, int],
    sampling: Sampling,
    bounding: Bounding,
    *,
    gamma_min: float = -13.3,
    gamma_max: float = 5.0,
    dropped: float = 0.1,
) -> GaussianDiffusion:
    """The continuous-time bound in bits per dimension, at one time an image.

    network(x, noise, cond): noise: the log-SNR, 0 at the data's end and 1 at the other, so that it does not depend on the
    schedule; images should come with Fourier features (``networks.fourier``), which let it see fine grey levels. curve: the
    monotone network of the schedule (``networks.monotone``), which learns to reduce the variance of the loss and leaves its
    mean alone; gamma = -log_snr at its ends. Their sections 3 and 5.
    """
    schedule = Learned(curve, gamma_min, gamma_max)
    denoiser = Denoiser(network, schedule, ToldLogSNR(Noise(), low=-gamma_max, high=-gamma_min))
    # low-discrepancy times, as in their appendix I.1, that need not know the batch
    return GaussianDiffusion(denoiser, ContinuousBound(Stratified()), image_shape, dropped, sampling, bounding)
