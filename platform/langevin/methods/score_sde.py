"""Score-based models in continuous time (Song et al. 2021): a schedule is the SDE, VE, VP or sub-VP."""

from __future__ import annotations

from torch import nn

from langevin.diffusion.denoiser import Denoiser
from langevin.diffusion.objectives import Denoising
from langevin.diffusion.parameterizations import Noise, Parameterization
from langevin.diffusion.schedules import Schedule
from langevin.diffusion.times import Stratified, Times
from langevin.diffusion.weightings import Simple, Weighting
from langevin.methods.gaussian import Bounding, GaussianDiffusion, Sampling


def score_sde(
    network: nn.Module,
    schedule: Schedule,
    image_shape: tuple[int, int, int],
    sampling: Sampling,
    bounding: Bounding,
    *,
    parameterization: Parameterization = Noise(),  # noqa: B008
    times: Times = Stratified(1e-5),  # noqa: B008
    weighting: Weighting = Simple(),  # noqa: B008
    dropped: float = 0.1,
) -> GaussianDiffusion:
    """Denoising score matching over all t in (t_min, 1] with lambda(t) = sigma^2, which is the noise error unweighted.

    network(x, noise, cond): noise: t, says eps = -sigma score; schedule: ``GeometricVE`` (their VE), ``LinearVP``,
    ``SubVP``; weighting: ``Likelihood`` for lambda(t) = g^2 (Song et al. 2021, maximum likelihood training). Sampled by the
    reverse SDE (``EulerMaruyama``, ``ReverseDiffusion``, ``PredictorCorrector``) or by the ``ProbabilityFlow``, whose density
    is exact. Song et al. 2021, eq. 7 and section 3.3.
    """
    denoiser = Denoiser(network, schedule, parameterization)
    return GaussianDiffusion(denoiser, Denoising(times, weighting), image_shape, dropped, sampling, bounding)
