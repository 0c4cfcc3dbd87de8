"""NLL of a model whose bound is known in closed form."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from langevin.errors import DataError, NumericsError
from langevin.evaluation.nll import nll
from langevin.protocols import Batch, Bound
from langevin.randomness import Keys, Noise


@dataclass(frozen=True)
class Gaussian:
    """x ~ N(0, I) a dimension, exactly; split at will into three parts, with keyed noise that sums to zero between two."""

    def bound(self, batch: Batch, keys: Keys) -> Bound:
        x = batch.images.flatten(1)
        density = 0.5 * (x**2 + math.log(2 * math.pi)).sum(1)
        noise = Noise(keys).normal("split", density)
        return Bound(prior=density / 4 + noise, diffusion=density / 4 - noise, reconstruction=density / 2)


def batches(images: Tensor, size: int) -> Iterator[Batch]:
    for start in range(0, len(images), size):
        part = images[start : start + size]
        places = torch.arange(start, start + len(part))
        yield Batch(part, None, places, tuple(f"image-{place}" for place in places.tolist()))


@pytest.fixture
def images() -> Tensor:
    return torch.randn(300, 1, 4, 4, generator=torch.Generator().manual_seed(0))


def test_it_is_the_density_in_bits_per_dimension(images: Tensor) -> None:
    found = nll(Gaussian(), batches(images, 64), seed=1, dims=16)
    exact = -torch.distributions.Normal(0, 1).log_prob(images.double()).flatten(1).sum(1) / 16 / math.log(2)
    assert found.total.value == pytest.approx(exact.mean().item(), rel=1e-6)
    assert found.total.margin == pytest.approx(1.959964 * exact.std().item() / math.sqrt(300), rel=1e-4)
    assert (found.total.n, found.total.unit) == (300, "bits/dim")
    entropy = 0.5 * math.log2(2 * math.pi * math.e)  # of the data: the truth that the interval is about
    assert found.total.low <= entropy <= found.total.high
    parts = found.prior.value + found.diffusion.value + found.reconstruction.value
    assert parts == pytest.approx(found.total.value, rel=1e-12)
    assert found.reconstruction.value == pytest.approx(found.total.value / 2, rel=1e-6)


def test_batches_change_nothing_and_seeds_do(images: Tensor) -> None:
    one, other = (nll(Gaussian(), batches(images, size), seed=1, dims=16) for size in (300, 7))
    assert one.prior.value == pytest.approx(other.prior.value, rel=1e-6)
    assert nll(Gaussian(), batches(images, 300), seed=2, dims=16).prior.value != one.prior.value


@dataclass(frozen=True)
class Estimate:
    """The density of N(0, 1) a dimension, with an error of 3 nats from each draw of noise."""

    def bound(self, batch: Batch, keys: Keys) -> Bound:
        density = Gaussian().bound(batch, keys).total
        return Bound(0 * density, density, 3 * Noise(keys).normal("error", density))


def test_draws_tell_what_another_draw_would_change(images: Tensor) -> None:
    """The interval about these very images: narrower than the one about all images, and as wide as the error is."""
    found = nll(Estimate(), batches(images, 64), seed=1, dims=16, draws=4)
    assert found.estimate is not None
    exact = -torch.distributions.Normal(0, 1).log_prob(images.double()).flatten(1).sum(1) / 16 / math.log(2)
    unit = 1 / 16 / math.log(2)
    assert found.estimate.margin == pytest.approx(1.96 * 3 * unit / (4 * 300) ** 0.5, rel=0.1)
    assert found.estimate.low < exact.mean().item() < found.estimate.high
    assert found.estimate.value == pytest.approx(found.total.value, rel=1e-12)
    spread = (exact.var().item() + (3 * unit) ** 2 / 4) ** 0.5
    assert found.total.margin == pytest.approx(1.96 * spread / 300**0.5, rel=0.1)
    assert found.figures()["nll_estimate"] is found.estimate


def test_one_draw_says_nothing_of_its_error(images: Tensor) -> None:
    found = nll(Estimate(), batches(images, 64), seed=1, dims=16)
    assert found.estimate is None
    assert "nll_estimate" not in found.figures()


def test_seeds_share_no_draws(images: Tensor) -> None:
    """Four seeds of two draws are eight different draws."""
    errors = [nll(Estimate(), batches(images, 64), seed, dims=16, draws=2).reconstruction.value for seed in range(4)]
    single = [nll(Estimate(), batches(images, 64), seed, dims=16).reconstruction.value for seed in range(8)]
    pairs = [(single[2 * seed] + single[2 * seed + 1]) / 2 for seed in range(4)]
    assert errors == pytest.approx(pairs, rel=1e-6)


def test_what_cannot_be_averaged_is_named(images: Tensor) -> None:
    with pytest.raises(DataError, match="no image"):
        nll(Gaussian(), [], seed=0, dims=16)
    images[42] = math.inf
    with pytest.raises(NumericsError, match="image-42"):
        nll(Gaussian(), batches(images, 64), seed=0, dims=16)
