"""Improved denoising diffusion probabilistic models: the reverse variance is learned (Nichol & Dhariwal 2021)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from langevin.diffusion import grids
from langevin.diffusion.bound_objectives import HybridBound, VariationalBound
from langevin.diffusion.denoiser import Denoiser
from langevin.diffusion.parameterizations import Noise, Parameterization
from langevin.diffusion.schedules import Tabulated
from langevin.diffusion.times import Discrete, LossAware, Stratified
from langevin.diffusion.variance import Learned
from langevin.methods.gaussian import Bounding, GaussianDiffusion, Sampling


def improved_ddpm(
    network: nn.Module,
    betas: Tensor,
    image_shape: tuple[int, int, int],
    levels: int,
    sampling: Sampling,
    bounding: Bounding,
    *,
    parameterization: Parameterization = Noise(),  # noqa: B008
    hybrid: bool = True,
    loss_aware: bool = False,
    dropped: float = 0.1,
) -> GaussianDiffusion:
    """DDPM whose network has a second head, the variance between its two ends.

    network: (B, C, H, W) -> (B, 2C, H, W); levels: the data's grey levels, which the bound's last term is about; hybrid:
    L_simple + 0.001 L_vlb, else L_vlb alone; loss_aware: steps are drawn as their losses are large, which L_vlb needs.
    Nichol & Dhariwal 2021, sections 3.1 and 3.3.
    """
    steps, schedule = len(betas), Tabulated(betas)
    times = LossAware(steps) if loss_aware else Discrete(steps, Stratified())
    bound = VariationalBound(times, steps, learned_variance(schedule), levels)
    parts = Denoiser(network, schedule, parameterization), HybridBound(bound) if hybrid else bound
    if isinstance(times, LossAware):
        return LossAwareDiffusion(*parts, image_shape, dropped, sampling, bounding, times=times)
    return GaussianDiffusion(*parts, image_shape, dropped, sampling, bounding)


def learned_variance(schedule: Tabulated) -> Learned:
    """For the whole chain, whose second step bounds the first one's variance from below."""
    return Learned.of(schedule, grids.uniform(schedule.steps))


class LossAwareDiffusion(GaussianDiffusion):
    """Learns after each step where its losses are large. Its history is a buffer, so a resumed run goes on with it."""

    def adapt(self, ordinals: Tensor, terms: Mapping[str, Tensor]) -> None:
        times = self.parts["times"]
        assert isinstance(times, LossAware)
        finite = torch.isfinite(terms["unweighted"])
        times.learn(terms["time"][finite], terms["unweighted"][finite])
