"""From images to latents and back: what latent diffusion asks of a codec, and the posterior that a codec gives an image."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from langevin.protocols import Cond
from langevin.randomness import Noise

LEAST, MOST = -30.0, 20.0  # of a log-variance, as in Rombach et al.'s code: its exponential and its inverse stay finite


@dataclass(frozen=True)
class DiagonalGaussian:
    """q(z | x) = N(mean, exp(log_var)), element by element. mean, log_var: (B, ...); log_var is clamped to [-30, 20]."""

    mean: Tensor
    log_var: Tensor

    def __post_init__(self) -> None:
        object.__setattr__(self, "log_var", self.log_var.clamp(LEAST, MOST))

    def sample(self, noise: Noise, stream: str = "posterior") -> Tensor:
        """mean + deviation x the samples' own noise: (B, ...), with gradients to both. Kingma & Welling 2013, eq. 4."""
        return self.mean + torch.exp(0.5 * self.log_var) * noise.normal(stream, self.mean)

    def scaled(self, by: Tensor) -> DiagonalGaussian:
        """The posterior of by x z. by: () > 0."""
        return DiagonalGaussian(by * self.mean, self.log_var + 2 * torch.log(by))

    def kl(self) -> Tensor:
        """KL(q || N(0, I)): (B,) float64 nats, the sum over elements. Kingma & Welling 2013, appendix B."""
        mean, log_var = self.mean.double(), self.log_var.double()
        return _total(0.5 * (mean**2 + torch.expm1(log_var) - log_var))

    def log_prob(self, z: Tensor) -> Tensor:
        """log q(z | x): (B,) float64 nats. z: (B, ...)."""
        mean, log_var = self.mean.double(), self.log_var.double()
        return _total(-0.5 * ((z.double() - mean) ** 2 * torch.exp(-log_var) + log_var + math.log(2 * math.pi)))

    def entropy(self) -> Tensor:
        """-E[log q(z | x)]: (B,) float64 nats."""
        return _total(0.5 * (self.log_var.double() + math.log(2 * math.pi) + 1))


class Codec(Protocol):
    """Images x (B, C, H, W) in [-1, 1] as latents z (B, *latent_shape), and back. cond: for a codec that knows classes.

    Latents are in the codec's own scale: they come out of ``encode`` and go into ``decode`` multiplied by ``scale``, () and a
    buffer, so that it is stored with the weights that it belongs to.
    """

    @property
    def scale(self) -> Tensor: ...

    @property
    def latent_shape(self) -> tuple[int, ...]: ...

    def posterior(self, x: Tensor, cond: Cond = None) -> DiagonalGaussian:
        """q(z | x), of scaled latents."""
        ...

    def encode(self, x: Tensor, noise: Noise | None, cond: Cond = None) -> Tensor:
        """A draw of the posterior, its mean without noise."""
        ...

    def decode(self, z: Tensor, cond: Cond = None) -> Tensor:
        """The image that z stands for; it may leave [-1, 1] a little."""
        ...

    def log_likelihood(self, x: Tensor, z: Tensor, cond: Cond = None) -> Tensor:
        """log P(x | z) of images on their grey levels: (B,) float64 nats."""
        ...


def _total(values: Tensor) -> Tensor:
    return values.flatten(1).sum(1)
