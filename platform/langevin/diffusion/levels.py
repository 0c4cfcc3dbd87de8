"""How much signal and how much noise: x_t = alpha x_0 + sigma eps."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class NoiseLevel:
    """A place on a schedule. t in [0, 1] (0 data, 1 noise), alpha and sigma >= 0: tensors of one shape, () or (B,)."""

    t: Tensor
    alpha: Tensor
    sigma: Tensor

    @property
    def log_snr(self) -> Tensor:
        """log(alpha^2 / sigma^2), +inf at sigma = 0."""
        return 2 * (torch.log(self.alpha) - torch.log(self.sigma))

    def against(self, x: Tensor) -> NoiseLevel:
        """The level in x's dtype and shaped (B, 1, ..., 1), so that it multiplies x: (B, ...)."""
        shape = (-1,) + (1,) * (x.ndim - 1)
        t, alpha, sigma = (v.to(x).reshape(shape) for v in (self.t, self.alpha, self.sigma))
        return NoiseLevel(t, alpha, sigma)

    def diffuse(self, x0: Tensor, eps: Tensor) -> Tensor:
        """x_t of q(x_t | x_0). Ho et al. 2020, eq. 4. x0, eps: (B, ...)."""
        at = self.against(x0)
        return at.alpha * x0 + at.sigma * eps
