"""A cascade is its parts, one after the other, each with noise of its own."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch

from langevin.diffusion import grids
from langevin.diffusion.denoiser import Denoiser
from langevin.diffusion.objectives import Denoising
from langevin.diffusion.parameterizations import Velocity
from langevin.diffusion.samplers import DDIM
from langevin.diffusion.schedules import CosineVP
from langevin.diffusion.times import Uniform
from langevin.diffusion.weightings import Simple
from langevin.methods.cascade import Cascade, of_stage
from langevin.methods.gaussian import GaussianDiffusion, Sampling
from langevin.methods.super_resolution import NoiseAugmentation, SuperResolution
from langevin.networks.unet import UNet
from langevin.networks.upsampler import Upsampler
from langevin.protocols import Bounded, Samples, Trainable
from langevin.randomness import Keys, Noise

KEYS, LABELS, LEVELS = Keys.range(3, 0, 3), torch.tensor([1, 4, 9]), (0.1, 0.3)


def diffusion(size: int, smaller: bool) -> GaussianDiffusion:
    unet = UNet((1, size, size), 8, (1, 2), 1, (), 10, channels_in=1 + smaller)
    network = Upsampler(unet) if smaller else unet
    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():
                parameter.copy_(0.1 * torch.randn(parameter.shape))
    denoiser, objective = Denoiser(network, CosineVP(), Velocity()), Denoising(Uniform(), Simple())
    sampling = Sampling(DDIM(1.0), grids.uniform(4), 1.5)
    return GaussianDiffusion(denoiser, objective, (1, size, size), 0.1, sampling, None)  # type: ignore[arg-type]


def cascade() -> Cascade:
    """4 -> 8 -> 16 pixels."""
    torch.manual_seed(0)
    augmentation = NoiseAugmentation(CosineVP(), 0.5)
    stages = [SuperResolution(diffusion(size, True), size // 2, size, augmentation) for size in (8, 16)]
    return Cascade(diffusion(4, False), stages, LEVELS)


def test_it_samples_and_neither_trains_nor_is_bounded() -> None:
    assert isinstance(cascade(), Samples)
    assert not isinstance(cascade(), Trainable)
    assert not isinstance(cascade(), Bounded)


def test_it_is_its_parts_one_after_the_other() -> None:
    method = cascade()
    base = method.base.sample(KEYS, LABELS)
    middle = method.stage[0].sample_from(of_stage(KEYS, 0), base, LABELS, 0.1)
    last = method.stage[1].sample_from(of_stage(KEYS, 1), middle, LABELS, 0.3)
    found = method.sample(KEYS, LABELS)
    assert torch.equal(found, last)
    assert found.shape == (3, *method.image_shape) == (3, 1, 16, 16)
    assert not torch.allclose(method.stage[1].sample_from(of_stage(KEYS, 1), middle, LABELS, 0.0), last, atol=1e-3)


def test_a_sample_does_not_depend_on_its_batch() -> None:
    method, labels = cascade(), torch.arange(4)
    whole = method.sample(Keys.range(3, 100, 104), labels)
    some = [3, 1]
    assert torch.equal(method.sample(Keys(3, torch.tensor([103, 101])), labels[some]), whole[some])
    assert float((whole[:2] - whole[2:]).abs().max()) > 0.1


def test_no_stage_meets_anothers_noise() -> None:
    """Where seeds were shared, a stage's first pixels would begin as the base's."""
    keys, like = Keys.range(3, 0, 500), torch.empty(500, 16)
    drawn = [Noise(one).normal("prior", like) for one in (keys, of_stage(keys, 0), of_stage(keys, 1))]
    for a, b in itertools.combinations(drawn, 2):
        assert abs(float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1])) < 4 / a.numel() ** 0.5
    assert of_stage(keys, 0).seed != of_stage(Keys.range(4, 0, 1), 0).seed
    assert torch.equal(of_stage(keys, 0).ordinals, keys.ordinals)


@torch.no_grad()
def test_the_walk_shows_every_part_at_one_size_and_ends_at_the_sample() -> None:
    method = cascade()
    states = list(method.walk(KEYS, LABELS))
    assert {state.shape for state in states} == {(3, 1, 16, 16)}
    each = len(states) // 3
    base = list(method.base.walk(KEYS, LABELS))
    assert len(base) == each
    assert torch.equal(states[each - 1][..., ::4, ::4], base[-1])
    assert torch.equal(states[0][..., 3, 3], states[0][..., 0, 0])
    assert torch.equal(states[each][..., 1, 1], states[each][..., 0, 0])
    assert not torch.equal(states[-1][..., 1, 1], states[-1][..., 0, 0])
    assert torch.equal(states[-1].clamp(-1, 1), method.sample(KEYS, LABELS))


def test_its_weights_are_those_of_separate_jobs() -> None:
    method = cascade()
    parts = {"base.": method.base, "stage.0.": method.stage[0], "stage.1.": method.stage[1]}
    expected = {prefix + name: value for prefix, part in parts.items() for name, value in part.state_dict().items()}
    found = method.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    twin = copy.deepcopy(method)
    sample = twin.sample(KEYS, LABELS)
    with torch.no_grad():
        for value in method.state_dict().values():
            value.zero_()
    assert torch.equal(twin.sample(KEYS, LABELS), sample)  # a copy shares nothing


def test_parts_that_do_not_fit_are_refused() -> None:
    method = cascade()
    first, second = (stage for _, stage, _ in method._stages())
    with pytest.raises(ValueError, match="stage 0 enlarges images of 8 pixels and is given 4"):
        Cascade(method.base, [second, first], LEVELS)
    with pytest.raises(ValueError, match="2 stages with 1 augmentation levels"):
        Cascade(method.base, [first, second], [0.1])
    with pytest.raises(ValueError, match="0 stages"):
        Cascade(method.base, [], [])
