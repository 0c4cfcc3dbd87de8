"""Latent diffusion: any method of this package on the latents of a codec that stands still (Rombach et al. 2022)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from langevin.codecs.vae import KLCodec
from langevin.diffusion.denoiser import Denoises
from langevin.diffusion.flow import Hutchinson, log_prob_ode
from langevin.diffusion.likelihood import continuous_bound
from langevin.methods.autoencoder import Blocked
from langevin.protocols import Adapts, Batch, Bound, Cond, Losses
from langevin.randomness import Keys, Noise


class Latent(nn.Module):
    """inner: a method whose images are latents of ``codec``, at deviation 1. Their section 3.3.

    Latents have no range and no grey levels: inner must sample with a D that is not clamped (Sampling.clamped) and bound
    by a density of this file. The codec's weights are frozen, and part of the state.
    """

    inner: Any  # a module with the platform's three protocols

    def __init__(self, codec: KLCodec, inner: nn.Module) -> None:
        super().__init__()
        self.codec, self.inner = codec.requires_grad_(False), inner

    def loss(self, batch: Batch, keys: Keys) -> Losses:
        """inner's. batch.images: scaled latents (B, *latent_shape), as the codec's ``encode`` gave them, drawn once."""
        losses: Losses = self.inner.loss(batch, keys)
        return losses

    def adapt(self, ordinals: Tensor, terms: Mapping[str, Tensor]) -> None:
        if isinstance(self.inner, Adapts):
            self.inner.adapt(ordinals, terms)

    def walk(self, keys: Keys, cond: Cond) -> Iterator[Tensor]:
        """Every state on inner's way, decoded."""
        for z in self.inner.walk(keys, cond):
            yield Blocked(self.codec).decode(z)

    @torch.no_grad()
    def sample(self, keys: Keys, cond: Cond) -> Tensor:
        for z in self.inner.walk(keys, cond):  # noqa: B007 - inner.sample would keep latents in [-1, 1]
            pass
        return Blocked(self.codec).decode(z).clamp(-1, 1)

    @torch.no_grad()
    def bound(self, batch: Batch, keys: Keys) -> Bound:
        """-log P(x) <= E_q[-log p(z)] + E_q[log q(z|x)] + E_q[-log P(x|z)], z ~ q(z|x) scaled latents. batch: of IMAGES.

        The first is inner's bound of a density and may be negative, the second minus the posterior's entropy, which is
        exact; it and the third are added to inner's reconstruction.
        """
        posterior = Blocked(self.codec).posterior(batch.images)
        z = posterior.sample(Noise(keys).within("codec"))
        inner: Bound = self.inner.bound(replace(batch, images=z), keys)
        decoded = self.codec.log_likelihood(batch.images, z)
        return replace(inner, reconstruction=inner.reconstruction - posterior.entropy() - decoded)


@dataclass(frozen=True)
class Density:
    """-log p(z) of continuous data by the continuous-time bound, ``calls`` looks a sample, down to t = ``last``.

    Kingma et al. 2021, eq. 11, with a density of z given z_t at ``last`` in the place of the discretised likelihood.
    """

    calls: int
    last: float

    def __call__(self, model: Denoises, z: Tensor, cond: Cond, noise: Noise) -> Bound:
        found = continuous_bound(model, z, cond, noise, levels=2, calls=self.calls, t_min=self.last)
        return replace(found, reconstruction=_reconstruction(model, z, cond, noise.within("density"), self.last))


@dataclass(frozen=True)
class FlowDensity:
    """-log p(z) of continuous data along the probability flow from ``t_min`` to 1. Song et al. 2021, section 4.3.

    It is exact to the solver's tolerance and the probes' chance, for the flow's own density, of data at t_min.
    """

    probes: int
    t_min: float
    tolerance: float

    def __call__(self, model: Denoises, z: Tensor, cond: Cond, noise: Noise) -> Bound:
        divergence = Hutchinson(noise, self.probes)
        log_prob = log_prob_ode(model, z, cond, divergence, self.t_min, self.tolerance, self.tolerance)
        nothing = torch.zeros_like(log_prob)
        return Bound(nothing, -log_prob, nothing)


def _reconstruction(model: Denoises, z: Tensor, cond: Cond, noise: Noise, last: float) -> Tensor:
    """-log p(z | z_t) for a draw of z_t at t = last: (B,) float64 nats.

    A normal density about D(z_t) of variance 1 / (1 + snr), that of white data of deviation 1: what scaled latents nearly
    are, and where snr is high every data's variance is nearly this one. Any makes a bound.
    """
    t = torch.full((len(z),), last, dtype=torch.float64, device=z.device)
    level = model.schedule(t)
    guess = model(level.diffuse(z, noise.normal("forward", z)), level.t, cond).x0.double()
    variance = torch.sigmoid(-level.log_snr).reshape((-1,) + (1,) * (z.ndim - 1))
    squares = (z.double() - guess) ** 2 / variance
    return 0.5 * (squares + torch.log(2 * torch.pi * variance)).flatten(1).sum(1)
