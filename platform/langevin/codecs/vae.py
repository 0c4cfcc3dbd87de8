"""The codec of a variational autoencoder: an encoder, a decoder, a likelihood of grey levels, and the scale of its latents."""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor, nn

from langevin.codecs.codec import DiagonalGaussian
from langevin.protocols import Cond
from langevin.randomness import Noise


class Likelihood(Protocol):
    def __call__(self, x: Tensor, mean: Tensor) -> Tensor:
        """log P(x | mean) of x on its grey levels -1, ..., 1: (B,) float64 nats, the sum over elements. Both (B, ...)."""
        ...


class Laplace(nn.Module):
    """Discretised Laplace distributions of one learned width about the decoder's image: the likelihood whose mean is L1.

    levels: grey levels of the data, equally far apart from -1 to 1. width: where it starts, in units of x.
    """

    def __init__(self, levels: int, width: float = 0.1) -> None:
        super().__init__()
        self.levels = levels
        self.log_width = nn.Parameter(torch.tensor(math.log(width)))

    def forward(self, x: Tensor, mean: Tensor) -> Tensor:
        mass = discretised_laplace(x.double(), mean.double(), torch.exp(self.log_width.double()), self.levels)
        return mass.flatten(1).sum(1)


class KLCodec(nn.Module):
    """A codec (codec.py) of two networks. Rombach et al. 2022, section 3.1, with the KL penalty of their appendix G.

    encoder(x, cond) -> (B, 2 c, ...): means and log-variances of ``latent_shape`` = (c, ...); decoder(z, cond) -> x.
    The scale is 1 while the networks are trained; then it is set once, to where latents have deviation 1: their section 4.3.
    """

    scale: Tensor

    def __init__(
        self, encoder: nn.Module, decoder: nn.Module, latent_shape: tuple[int, ...], likelihood: nn.Module
    ) -> None:
        super().__init__()
        self.encoder, self.decoder, self.latent_shape, self.likelihood = encoder, decoder, latent_shape, likelihood
        self.register_buffer("scale", torch.ones(()))

    def posterior(self, x: Tensor, cond: Cond = None) -> DiagonalGaussian:
        mean, log_var = self.encoder(x, cond).chunk(2, dim=1)
        return DiagonalGaussian(mean, log_var).scaled(self.scale)

    def encode(self, x: Tensor, noise: Noise | None, cond: Cond = None) -> Tensor:
        posterior = self.posterior(x, cond)
        return posterior.mean if noise is None else posterior.sample(noise)

    def decode(self, z: Tensor, cond: Cond = None) -> Tensor:
        out: Tensor = self.decoder(z / self.scale, cond)
        return out

    def log_likelihood(self, x: Tensor, z: Tensor, cond: Cond = None) -> Tensor:
        value: Tensor = self.likelihood(x, self.decode(z, cond))
        return value


def discretised_laplace(x: Tensor, mean: Tensor, width: Tensor, levels: int) -> Tensor:
    """log of the mass on x's grey level of the Laplace density exp(-|x - mean| / width) / (2 width), per element.

    x: (B, ...) on the ``levels`` values -1, ..., 1, of which the end ones are open; width: () > 0. By differences of
    exponentials that keep their digits in the tails, with finite gradients everywhere.
    """
    half = 1 / (levels - 1)
    low = torch.where(x < -1 + half, -torch.inf, (x - half - mean) / width)
    high = torch.where(x > 1 - half, torch.inf, (x + half - mean) / width)
    mirrored = low > 0  # the cell above the mean: its mass is that of the same cell below
    low, high = torch.where(mirrored, -high, low), torch.where(mirrored, -low, high)
    holds_mean = high > 0
    # each formula is given values at which it and its slope are finite where the other one is taken
    around = torch.log(-0.5 * (torch.expm1(low) + torch.expm1(-high.clamp(min=0))))
    gap = torch.where(holds_mean, -1.0, low - high)
    below = math.log(0.5) + high.clamp(max=0) + torch.log(-torch.expm1(gap))
    return torch.where(holds_mean, around, below)
