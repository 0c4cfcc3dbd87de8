"""Rectified flow (Liu et al. 2022): straight paths from noise to data, and the velocity along them."""

from __future__ import annotations

from torch import nn

from langevin.diffusion.denoiser import Denoiser
from langevin.diffusion.objectives import Denoising
from langevin.diffusion.parameterizations import Flow, Parameterization
from langevin.diffusion.schedules import Rectified
from langevin.diffusion.times import Stratified
from langevin.diffusion.weightings import FlowError
from langevin.methods.gaussian import Bounding, GaussianDiffusion, Sampling

T_MIN = 1e-4  # the velocity's error is a difference of numbers that agree to t: below, float32 has no digits left


def rectified(
    network: nn.Module,
    image_shape: tuple[int, int, int],
    sampling: Sampling,
    bounding: Bounding,
    *,
    parameterization: Parameterization = Flow(),  # noqa: B008
    dropped: float = 0.1,
) -> GaussianDiffusion:
    """E_t ||(eps - x_0) - u_hat(x_t, t)||^2 for x_t = (1 - t) x_0 + t eps, t uniform. Liu et al. 2022, eq. 1.

    network(x, noise, cond): noise: t, says u = dx_t / dt. At t = 1 there is no signal at all, so a network that says the
    noise or the score would say nothing there. Euler's method on the flow is ``DDIM``; ``Heun`` has order 2.
    """
    denoiser = Denoiser(network, Rectified(), parameterization)
    objective = Denoising(Stratified(T_MIN), FlowError())
    return GaussianDiffusion(denoiser, objective, image_shape, dropped, sampling, bounding)
