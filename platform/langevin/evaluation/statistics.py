"""Mean and covariance of features in float64, in a form that can be added up over shards, workers and resumed runs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from langevin.errors import DataError


@dataclass(frozen=True)
class Moments:
    """Moments of n feature vectors. mean: (d,) float64; scatter: (d, d) float64, the sum of (x - mean)(x - mean)^T."""

    n: int
    mean: Tensor
    scatter: Tensor

    @classmethod
    def of(cls, features: Tensor, counts: Tensor | None = None) -> Moments:
        """Moments of features (N, d), each taken counts[i] times (once where counts is None). counts: (N,) integers."""
        features = features.double()
        weights = torch.ones(len(features), dtype=torch.float64) if counts is None else counts.double()
        n = int(weights.sum())
        if n == 0:
            raise DataError("there are no features to take moments of", mend="give at least two images")
        mean = weights @ features / n
        centred = features - mean
        return cls(n, mean, (centred * weights[:, None]).T @ centred)

    def __add__(self, other: Moments) -> Moments:
        """Moments of both sets together. Chan, Golub & LeVeque 1979, eq. 1.5: no difference of large sums."""
        n = self.n + other.n
        shift = other.mean - self.mean
        mean = self.mean + shift * (other.n / n)
        scatter = self.scatter + other.scatter + torch.outer(shift, shift) * (self.n * other.n / n)
        return Moments(n, mean, scatter)

    @property
    def covariance(self) -> Tensor:
        """(d, d) float64, unbiased: divided by n - 1."""
        if self.n < 2:
            raise DataError("a covariance needs at least two images", field="n", value=self.n)
        return self.scatter / (self.n - 1)
