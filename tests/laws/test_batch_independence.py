"""Sample i is the same image in any batch: bit for bit where the kernels allow it, and where they do not, to rounding.

All that samplers, wrappers and noise do is element by element or sum by sum within a sample, and gives the same bits in any
batch. A network of matrix products and convolutions on the CPU does not: its libraries choose their blocks, and with them the
order of float32 sums, by the batch's size. Measured with torch 2.13 on x86 (one thread, a UNet of 16 x 16 images, 16 or 64
channels, one call, outputs up to 2.5):

- batches of 1, 2, 3, 4, 5, 7, 8 and 11 against one of 32: every sample differs, by 4.3e-6 at most (float64: 7e-15); batches
  of 16 have the bits of 32. A 3 x 3 convolution differs at batch size 1, a linear layer at 1 to 3.
- at one batch size of 32 a sample has the same bits at any place and among any neighbours. At other sizes it mostly has, but
  not on every processor: a batch of 5 was seen to depend on the order of its samples.

So a network that always sees blocks of 32 (``InBlocks``, around every served network) gives the same bits for any batch and any
split over processes; see the last test.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from langevin.diffusion import grids, parameterizations
from langevin.diffusion.denoiser import Clamped, Denoiser, Denoises, DynamicallyClamped, Prediction, Rescheduled
from langevin.diffusion.guidance import Autoguided, ClassifierFree, GradientGuided, Interval
from langevin.diffusion.processes import IsotropicProcess
from langevin.diffusion.samplers import (
    DDIM,
    Ancestral,
    AnnealedLangevin,
    DPMSolver,
    EulerMaruyama,
    GuidedAncestral,
    Heun,
    PredictorCorrector,
    ProbabilityFlow,
    ReverseDiffusion,
    Sampler,
    walk,
)
from langevin.diffusion.schedules import CosineVP, GeometricVE, LinearVP, Rectified, Schedule
from langevin.diffusion.variance import Learned, Upper
from langevin.networks.blocks import InBlocks
from langevin.networks.unet import UNet
from langevin.randomness import Keys, Noise

COUNT = 11
SHAPE = (3, 5, 5)  # odd, so that no sample fills a vector register
LABELS = torch.arange(COUNT) % 4
SPLITS = [[*range(COUNT + 1)], [0, 1, 4, 11], [0, 8, 11], [0, 5, 10, 11]]


@dataclass(frozen=True)
class Pointwise:
    """A denoiser of elementary functions, element by element, with a second head."""

    schedule: Schedule

    def __call__(self, x: Tensor, t: Tensor, cond: Any = None) -> Prediction:
        at = self.schedule(t.expand(len(x))).against(x)
        label = 0 if cond is None else cond.reshape(-1, *(1,) * (x.ndim - 1)).to(x)
        x0 = 0.9 * torch.tanh((1 - 0.3 * at.sigma) * x) + 0.1 * torch.sin(3 * x + label)
        return Prediction(x0, torch.sin(2 * x))


def potential(x: Tensor, t: Tensor, cond: Any) -> Tensor:
    return (torch.cos(2 * x) * (1 + cond.reshape(-1, 1, 1, 1))).flatten(1).sum(1)


def samples(model: Denoises, sampler: Sampler, grid: Tensor, first: int, last: int, dtype: torch.dtype) -> Tensor:
    keys = Keys.range(7, first, last)
    like = torch.empty(last - first, *SHAPE, dtype=dtype)
    start = IsotropicProcess(model.schedule).prior(Noise(keys), like)
    *_, end = walk(model, sampler, start, grid, LABELS[first:last], Noise(keys))
    return end


def whole_and_parts(
    model: Denoises, sampler: Sampler, grid: Tensor, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, list[Tensor]]:
    """All in one batch, and once more for every split."""
    whole = samples(model, sampler, grid, 0, COUNT, dtype)
    parts = []
    for split in SPLITS:
        pieces = [samples(model, sampler, grid, a, b, dtype) for a, b in itertools.pairwise(split)]
        parts.append(torch.cat(pieces))
    return whole, parts


SAMPLERS: list[Sampler] = [
    *(Ancestral(), Ancestral(Upper()), Ancestral(Learned(1e-4)), DDIM(), DDIM(1.0), DPMSolver(), DPMSolver(1.0)),
    *(Heun(), Heun(0.1), EulerMaruyama(), ReverseDiffusion(), PredictorCorrector(), AnnealedLangevin(3, 1e-4)),
    GuidedAncestral(potential, 0.5),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda sampler: type(sampler).__name__)
@pytest.mark.parametrize("schedule", [CosineVP(), GeometricVE()], ids=str)
def test_every_sampler_gives_the_same_bits_in_any_batch(
    schedule: Schedule, sampler: Sampler, dtype: torch.dtype
) -> None:
    whole, parts = whole_and_parts(Pointwise(schedule), sampler, grids.uniform(6), dtype)
    assert bool(torch.isfinite(whole).all())
    for part in parts:
        assert torch.equal(part, whole)


WRAPPERS: dict[str, Denoises] = {
    "clamped": Clamped(Pointwise(LinearVP()), -0.5, 0.5),
    "dynamically clamped": DynamicallyClamped(Pointwise(LinearVP()), 0.7),
    "rescheduled": Rescheduled(Pointwise(LinearVP()), CosineVP()),
    "from pure noise": Pointwise(Rectified()),
    "classifier-free": ClassifierFree(Pointwise(LinearVP()), 2.5),
    "autoguided": Autoguided(Pointwise(LinearVP()), Clamped(Pointwise(LinearVP()), -0.4, 0.4), 1.7),
    "by a gradient": GradientGuided(Pointwise(LinearVP()), potential, 0.3),
    "in an interval": Interval(ClassifierFree(Pointwise(LinearVP()), 2.5), 0.2, 5.0),
}


@pytest.mark.parametrize("model", WRAPPERS.values(), ids=WRAPPERS)
def test_every_wrapper_gives_the_same_bits_in_any_batch(model: Denoises) -> None:
    whole, parts = whole_and_parts(model, DDIM(0.5), grids.uniform(6))
    assert bool(torch.isfinite(whole).all())
    for part in parts:
        assert torch.equal(part, whole)


def test_samples_follow_their_keys_not_their_places() -> None:
    """In another order, and among strangers."""
    model, grid = Pointwise(CosineVP()), grids.uniform(5)
    whole = samples(model, DDIM(0.5), grid, 0, COUNT, torch.float32)
    order = torch.tensor([8, 2, 5, 0])
    noise = Noise(Keys(7, order))
    start = IsotropicProcess(model.schedule).prior(noise, torch.empty(4, *SHAPE))
    *_, end = walk(model, DDIM(0.5), start, grid, LABELS[order], noise)
    assert torch.equal(end, whole[order])


def test_the_adaptive_flow_moves_a_sample_by_its_tolerance() -> None:
    """Its steps serve the batch: no bits are promised, only the tolerance."""
    model, grid = Pointwise(CosineVP()), torch.tensor([0.95, 0.1], dtype=torch.float64)
    whole, first = (samples(model, ProbabilityFlow(1e-4, 1e-4), grid, 0, last, torch.float32) for last in (COUNT, 2))
    torch.testing.assert_close(first, whole[:2], rtol=3e-3, atol=3e-3)


def awake(network: nn.Module) -> nn.Module:
    """With weights that make every branch matter."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            size = 1 / max(parameter[0].numel(), 1) ** 0.5 if parameter.ndim > 1 else 0.1
            parameter.add_(size * torch.randn(parameter.shape, generator=generator))
    return network.eval()


def unet() -> Denoiser:
    return Denoiser(awake(UNet((3, 16, 16), 16, (1, 2), 1, (8,), classes=4)), CosineVP(), parameterizations.Velocity())


@torch.no_grad()
def images(model: Denoises, ordinals: Tensor) -> Tensor:
    noise = Noise(Keys(3, ordinals))
    start = noise.normal("prior", torch.empty(len(ordinals), 3, 16, 16))
    *_, end = walk(model, DDIM(1.0), start, grids.uniform(6), ordinals % 4, noise)
    return end


def test_the_unets_samples_agree_to_rounding() -> None:
    """Six steps through a network that was never trained, so that it forgives nothing."""
    model = Clamped(unet())
    whole = images(model, torch.arange(8))
    for size in (1, 3, 5):
        parts = torch.cat([images(model, part) for part in torch.arange(8).split(size)])
        torch.testing.assert_close(parts, whole, rtol=0, atol=2e-5)


@pytest.mark.parametrize("size", [2, 5])
def test_the_unets_samples_have_the_same_bits_in_blocks(size: int) -> None:
    """Wherever in the batch, whoever is there beside it, and however large the batch."""
    base = unet()
    model = Clamped(Denoiser(InBlocks(base.network), base.schedule, base.parameterization))
    first = images(model, torch.arange(size))
    assert torch.equal(images(model, torch.arange(size).flip(0)).flip(0), first)
    assert torch.equal(images(model, torch.cat([torch.arange(100, 99 + size), torch.tensor([0])]))[-1], first[0])
    assert torch.equal(images(model, torch.arange(40))[:size], first)
