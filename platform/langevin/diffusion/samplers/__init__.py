"""Samplers: one-step functions (model, x, t, s, cond, noise) -> x_s, and the walk that repeats them."""

from langevin.diffusion.samplers.ancestral import Ancestral
from langevin.diffusion.samplers.ddim import DDIM
from langevin.diffusion.samplers.walk import Sampler, walk

__all__ = ["DDIM", "Ancestral", "Sampler", "walk"]
