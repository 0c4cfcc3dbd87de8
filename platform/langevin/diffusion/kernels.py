"""The Gaussian kernels between two noise levels s < t, and their Kullback-Leibler divergences, in closed form."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from langevin.diffusion.levels import NoiseLevel


@dataclass(frozen=True)
class Gaussian:
    """N(mean, var): mean (B, ...), var broadcast against it."""

    mean: Tensor
    var: Tensor


def ancestral_variance(s: NoiseLevel, t: NoiseLevel) -> Tensor:
    """Var[x_s | x_t, x_0] = sigma_s^2 (1 - snr_t / snr_s). Ho et al. 2020, eq. 7. Shapes as the levels'."""
    return s.sigma**2 * lost(s, t)


def transition_variance(s: NoiseLevel, t: NoiseLevel) -> Tensor:
    """Var[x_t | x_s] = sigma_t^2 (1 - snr_t / snr_s): beta_t of a chain. Kingma et al. 2021, eq. 21."""
    return t.sigma**2 * lost(s, t)


def lost(s: NoiseLevel, t: NoiseLevel) -> Tensor:
    """1 - snr_t / snr_s in [0, 1]: the share of the signal that the step from s to t loses; 1 for s = data."""
    return -torch.expm1(t.log_snr - s.log_snr)


def posterior(x0: Tensor, xt: Tensor, s: NoiseLevel, t: NoiseLevel) -> Gaussian:
    """q(x_s | x_t, x_0). Ho et al. 2020, eq. 6-7, for any s < t. x0, xt: (B, ...); levels: (B,)."""
    ratio = s.sigma / t.sigma * torch.exp((t.log_snr - s.log_snr) / 2)  # no alpha below: it may be 0 at t = 1
    shape = (-1,) + (1,) * (xt.ndim - 1)
    keep, gain = ratio.to(xt).reshape(shape), (s.alpha * lost(s, t)).to(xt).reshape(shape)
    return Gaussian(gain * x0 + keep * xt, ancestral_variance(s, t).to(xt).reshape(shape))


def gaussian_kl(p: Gaussian, q: Gaussian) -> Tensor:
    """KL(p || q) per element, in nats."""
    ratio = p.var / q.var
    return 0.5 * (ratio - 1 - torch.log(ratio) + (p.mean - q.mean) ** 2 / q.var)
