"""Power-function averages as mathematics: their profiles, and the mixture of stored ones that is nearest to another.

Karras et al. 2024 (arXiv 2312.02696), section 3 and appendix C. Everything in float64; times are counted in images.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

WIDEST = 0.29  # the plain mean, gamma = 0, has std 0.2887; the std's maximum is not far beyond


@dataclass(frozen=True)
class Profile:
    """How much the weights at time t count in an average: p(t) = (gamma + 1) t^gamma / end^(gamma + 1) on [0, end].

    std: of p as a share of ``end``, in (0, 0.29), which is the average's length; end: in images, above 0. Eq. 121.
    """

    std: float
    end: int


@dataclass(frozen=True)
class Mixture:
    """coefficients: of the stored averages, 1 in sum; error: |sum_i x_i p_i - p| / |p| in L2, of their profiles."""

    coefficients: tuple[float, ...]
    error: float


def std_of(gamma: float) -> float:
    """The relative width of a power-function profile: std^2 = (gamma + 1) / ((gamma + 2)^2 (gamma + 3)). Eq. 123."""
    return math.sqrt((gamma + 1) / ((gamma + 2) ** 2 * (gamma + 3)))


def gamma_of(std: float) -> float:
    """The inverse of ``std_of``: the largest root of g^3 + 7 g^2 + (16 - std^-2) g + 12 - std^-2. Algorithm 2.

    0.05 -> 16.97, 0.1 -> 6.94. ValueError outside (0, 0.29).
    """
    if not 0 < std < WIDEST:
        raise ValueError(f"std = {std} is no width of a power function: it lies between 0 and {WIDEST}")
    inverse = std**-2
    return float(np.roots([1, 7, 16 - inverse, 12 - inverse]).real.max())


def weight_of_new(gamma: float, before: int, now: int) -> float:
    """1 - beta = 1 - (before / now)^(gamma + 1): the share of the profile on [0, now] that lies after ``before``.

    Eq. 127 with dt = now - before, in images, 0 <= before < now; the first weights count 1.
    """
    if before == 0:
        return 1.0
    return -math.expm1((gamma + 1) * math.log1p((before - now) / now))  # 1 - beta loses digits where dt << t


def inner_products(ours: Sequence[Profile], theirs: Sequence[Profile]) -> np.ndarray:
    """The integrals of p_a p_b over time, (len(ours), len(theirs)) in 1 / images. With end_a <= end_b each is

    (gamma_a + 1) (gamma_b + 1) / (gamma_a + gamma_b + 1) (end_a / end_b)^gamma_b / end_b. Eq. 151.
    """
    (gamma_a, end_a), (gamma_b, end_b) = _columns(ours), _columns(theirs)
    gamma_a, end_a = gamma_a[:, None], end_a[:, None]
    first, last = np.minimum(end_a, end_b), np.maximum(end_a, end_b)
    gamma_of_last = np.where(end_a <= end_b, gamma_b, gamma_a)
    powers = (gamma_a + 1) * (gamma_b + 1) / (gamma_a + gamma_b + 1)
    return np.asarray(powers * (first / last) ** gamma_of_last / last)


def nearest(stored: Sequence[Profile], wanted: Profile) -> Mixture:
    """The mixture of stored profiles that is nearest to the wanted one in L2: A x = b, of inner products. Algorithm 3.

    As in its release, x is divided by its sum: weights that never moved stay what they are. ValueError without a
    stored profile.
    """
    if not stored:
        raise ValueError("there is no stored average to make another from")
    unit = 1 / np.sqrt(np.diag(inner_products(stored, stored)))  # of length 1 each, A is easier to invert
    aim_unit = 1 / math.sqrt(inner_products([wanted], [wanted]).item())
    gram = inner_products(stored, stored) * np.outer(unit, unit)
    aim = inner_products(stored, [wanted])[:, 0] * unit * aim_unit
    # snapshots close in time are nearly dependent: directions below rcond would only add up the weights' rounding
    scaled = np.linalg.lstsq(gram, aim, rcond=1e-13)[0]
    coefficients = scaled * unit / aim_unit
    total = coefficients.sum()
    scaled = scaled / total
    squared = float(scaled @ gram @ scaled - 2 * scaled @ aim + 1)
    return Mixture(tuple((coefficients / total).tolist()), math.sqrt(max(squared, 0.0)))


def _columns(profiles: Sequence[Profile]) -> tuple[np.ndarray, np.ndarray]:
    """(gammas, ends), float64."""
    gammas = {std: gamma_of(std) for std in {profile.std for profile in profiles}}
    return np.array([gammas[p.std] for p in profiles]), np.array([p.end for p in profiles], dtype=np.float64)
