"""NCSN and NCSNv2: a ladder of noise levels, and the techniques that choose it."""

from __future__ import annotations

import math

import pytest
import torch

from langevin.diffusion.samplers import AnnealedLangevin
from langevin.diffusion.schedules import GeometricVE
from langevin.methods.ncsn import improved_techniques, largest_distance
from langevin.protocols import Batch
from langevin.randomness import Keys

from .examples import SHAPE, made, recording


def flat(count: int) -> Batch:
    return Batch(torch.zeros(count, *SHAPE), None, torch.arange(count), tuple(map(str, range(count))))


def test_every_rung_is_seen_equally_often_and_no_other_level() -> None:
    """And its loss is ||eps - eps_hat||^2, sigma^2 times the score's."""
    method = made("ncsn")
    recorder = recording(method)
    loss = method.loss(flat(1000), Keys.range(5, 0, 1000)).total
    x, t, _ = recorder.told[0]
    places, counts = (t * 4).round().unique(return_counts=True)
    torch.testing.assert_close(t * 4, (t * 4).round())
    assert places.tolist() == [0, 1, 2, 3, 4]
    assert int((counts - 200).abs().max()) <= 2  # stratified
    sigma = 0.02 * (2.0 / 0.02) ** t.double()
    eps = x.double() / sigma[:, None, None, None]
    torch.testing.assert_close(loss.double(), eps.square().flatten(1).mean(1), rtol=1e-4, atol=1e-5)


def test_annealed_langevin_dynamics_visit_every_rung_from_the_top() -> None:
    method = made("ncsn")
    recorder = recording(method)
    method.sample(Keys.range(0, 0, 2), torch.tensor([1, 2]))
    told = [float(t[0]) for _, t, _ in recorder.told]
    assert told == pytest.approx([1, 1, 0.75, 0.75, 0.5, 0.5, 0.25, 0.25, 0, 0, 0])  # and the last look
    assert method.sampling.sampler == AnnealedLangevin(2, 2e-5 * (0.02 / 0.01) ** 2)


def test_other_samplers_start_at_the_ladders_top() -> None:
    """Uniform pixels are no draw of x at sigma = 12."""
    method = made("ncsnv2", sample={"sampler": "ddim"})
    start = next(method.walk(Keys.range(0, 0, 500), None))
    assert float(start.std()) == pytest.approx(12, rel=4 * (0.5 / start.numel()) ** 0.5)


def test_ncsnv2_is_not_told_the_level_and_ncsn_is() -> None:
    for name, blind in (("ncsnv2", True), ("ncsn", False)):
        method = made(name)
        recorder = recording(method)
        method.loss(flat(20), Keys.range(5, 0, 20))
        assert bool((recorder.told[0][1] == 0).all()) == blind


def test_technique_1_is_the_largest_distance_of_two_images() -> None:
    images = torch.zeros(4, 1, 2, 2)
    images[1], images[2, 0, 0, 0], images[3, 0, 0, 1] = 1.0, -3.0, 4.0
    assert largest_distance(images) == pytest.approx(5)
    assert largest_distance(torch.rand(30, 3, 4, 4)) < 48**0.5


@pytest.mark.parametrize(("dims", "sigma_max"), [(64, 14.0), (3072, 50.0)])
def test_technique_2_overlaps_neighbours_by_half(dims: int, sigma_max: float) -> None:
    """Song & Ermon 2020, eq. 2, of the ladder that comes out: a rung more would overlap by more, a rung less by less."""
    levels, _ = improved_techniques(GeometricVE(0.01, sigma_max), dims, 5)

    def overlap(count: float) -> float:
        ratio = (sigma_max / 0.01) ** (1 / (count - 1))
        middle, side = math.sqrt(2 * dims) * (ratio - 1), 3 * ratio
        return 0.5 * (math.erf((middle + side) / 2**0.5) - math.erf((middle - side) / 2**0.5))

    assert overlap(levels - 0.51) <= 0.5 <= overlap(levels + 0.51)


def test_technique_4_gives_the_papers_step() -> None:
    """6.2e-6 for CIFAR-10's 232 levels of 5 steps each from 50 to 0.01; its ladder is taken as it is."""
    levels, step_lr = improved_techniques(GeometricVE(0.01, 50.0), 3072, 5, 232)
    assert levels == 232
    assert step_lr == pytest.approx(6.2e-6, rel=0.01)


def test_ncsnv2_walks_with_the_techniques_values_unless_told_others() -> None:
    method = made("ncsnv2", {"levels": None}, steps=22)
    levels, step_lr = improved_techniques(GeometricVE(0.02, 12.0), 64, 2)
    assert levels == 22
    assert len(method.sampling.grid) == levels + 1
    assert method.sampling.sampler == AnnealedLangevin(2, step_lr)
    assert method.objective.times.levels == levels
    assert made("ncsnv2", step_lr=1e-5).sampling.sampler == AnnealedLangevin(2, 1e-5)
