"""Langevin: train, search, evaluate, register and run diffusion models."""

__version__ = "0.1.0"
