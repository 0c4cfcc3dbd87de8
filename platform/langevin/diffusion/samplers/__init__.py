"""Samplers: one-step functions (model, x, t, s, cond, noise) -> x_s, and the walk that repeats them."""

from langevin.diffusion.samplers.ancestral import Ancestral, GuidedAncestral, ReverseDiffusion
from langevin.diffusion.samplers.annealed_langevin import AnnealedLangevin
from langevin.diffusion.samplers.ddim import DDIM
from langevin.diffusion.samplers.dpm_solver import DPMSolver
from langevin.diffusion.samplers.euler_maruyama import EulerMaruyama
from langevin.diffusion.samplers.heun import Heun
from langevin.diffusion.samplers.predictor_corrector import PredictorCorrector
from langevin.diffusion.samplers.probability_flow import ProbabilityFlow
from langevin.diffusion.samplers.sscs import SSCS
from langevin.diffusion.samplers.walk import Sampler, walk

__all__ = [
    "DDIM",
    "SSCS",
    "Ancestral",
    "AnnealedLangevin",
    "DPMSolver",
    "EulerMaruyama",
    "GuidedAncestral",
    "Heun",
    "PredictorCorrector",
    "ProbabilityFlow",
    "ReverseDiffusion",
    "Sampler",
    "walk",
]
