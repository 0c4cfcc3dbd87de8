"""The variance of the reverse step p(x_s | x_t)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from langevin.diffusion.kernels import ancestral_variance, transition_variance
from langevin.diffusion.levels import NoiseLevel


@dataclass(frozen=True)
class Lower:
    """The posterior's variance: right when x_0 is known. Ho et al. 2020, section 3.2."""

    def __call__(self, s: NoiseLevel, t: NoiseLevel) -> Tensor:
        return ancestral_variance(s, t)


@dataclass(frozen=True)
class Upper:
    """beta_t: right when x_0 is pure noise. Ho et al. 2020, section 3.2."""

    def __call__(self, s: NoiseLevel, t: NoiseLevel) -> Tensor:
        return transition_variance(s, t)


ReverseVariance = Lower | Upper
