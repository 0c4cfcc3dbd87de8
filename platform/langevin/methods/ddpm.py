"""Denoising diffusion probabilistic models (Ho et al. 2020), with classifier-free guidance (Ho & Salimans 2022)."""

from __future__ import annotations

from torch import Tensor, nn

from langevin.diffusion.denoiser import Denoiser
from langevin.diffusion.objectives import Denoising
from langevin.diffusion.parameterizations import Noise, Parameterization
from langevin.diffusion.schedules import Tabulated
from langevin.diffusion.times import Discrete, Stratified
from langevin.diffusion.weightings import Simple, Weighting
from langevin.methods.gaussian import Bounding, GaussianDiffusion, Sampling


def ddpm(
    network: nn.Module,
    betas: Tensor,
    image_shape: tuple[int, int, int],
    sampling: Sampling,
    bounding: Bounding,
    *,
    parameterization: Parameterization = Noise(),  # noqa: B008
    weighting: Weighting = Simple(),  # noqa: B008
    dropped: float = 0.1,
) -> GaussianDiffusion:
    """A discrete chain, its noise predicted, all its steps equally likely and their errors equally weighted (L_simple).

    network(x, noise, cond): x (B, C, H, W) -> (B, C, H, W), noise: t = i / T; betas: (T,) in (0, 1); sampling: in the paper
    ``Ancestral`` along all T steps, in practice ``DDIM`` along some of them; dropped: share of classes left out, so that
    the model learns to do without. Ho et al. 2020, algorithms 1 and 2, eq. 14.
    """
    denoiser = Denoiser(network, Tabulated(betas), parameterization)
    # stratified: the times of a batch cover the chain evenly, and each step is as likely as any other
    times = Discrete(len(betas), Stratified())
    return GaussianDiffusion(denoiser, Denoising(times, weighting), image_shape, dropped, sampling, bounding)
