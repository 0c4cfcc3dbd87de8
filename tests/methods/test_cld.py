"""CLD as the platform meets it: a state with a velocity inside, images outside."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from langevin.diffusion import grids
from langevin.diffusion.processes import CriticallyDampedLangevin
from langevin.diffusion.samplers import EulerMaruyama, Sampler
from langevin.diffusion.samplers.sscs import SSCS
from langevin.diffusion.times import Stratified
from langevin.diffusion.velocity_score import VelocityScore, VelocityScoreModel
from langevin.methods.cld import CLD, Bounding, Sampling
from langevin.networks.unet import UNet
from langevin.protocols import Batch, Bounded, Samples, Trainable
from langevin.randomness import Keys, Noise

SHAPE, LEVELS, LAST = (1, 8, 8), 17, 1e-3


class Recorder(nn.Module):
    """A network that writes down what it was told, and adds nothing to the score of Gaussian data."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[tuple[Tensor, Tensor, Tensor | None]] = []

    def forward(self, x: Tensor, noise: Tensor, cond: Tensor | None) -> Tensor:
        self.told.append((x.detach(), noise, cond))
        return 0 * x[:, : x.shape[1] // 2]


def cld(
    network: nn.Module, sampler: Sampler | None = None, scale: float = 1.0, steps: int = 5, bound_steps: int = 5
) -> CLD:
    return CLD(
        VelocityScoreModel(network, CriticallyDampedLangevin()),
        VelocityScore(Stratified(LAST)),
        SHAPE,
        0.1,
        Sampling(sampler or SSCS(), grids.quadratic(steps, LAST), scale),
        Bounding(grids.quadratic(bound_steps, LAST).flip(0), LEVELS),
    )


def trained() -> UNet:
    """A small network with random weights everywhere: not trained, but no longer zero."""
    torch.manual_seed(0)
    network = UNet(SHAPE, 8, (1, 2), 1, (4,), 10, channels_in=2 * SHAPE[0], channels_out=SHAPE[0])
    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():
                parameter.copy_(0.1 * torch.randn(parameter.shape))
    return network


def batch(start: int, stop: int) -> Batch:
    ordinals = torch.arange(start, stop)
    images = torch.randint(0, LEVELS, (1000, *SHAPE), generator=torch.Generator().manual_seed(1))[start:stop]
    return Batch(images / 8 - 1, ordinals % 10, ordinals, tuple(map(str, range(start, stop))))


def test_it_is_all_that_the_platform_asks_for() -> None:
    model = cld(trained())
    assert isinstance(model, Trainable)
    assert isinstance(model, Samples)
    assert isinstance(model, Bounded)


def test_losses_are_a_function_of_weights_batch_and_keys() -> None:
    """Halves of a batch have the same losses, sample by sample, whatever the global generator does."""
    model = cld(trained())
    whole = model.loss(batch(0, 32), Keys.range(5, 0, 32))
    torch.manual_seed(77)
    parts = [model.loss(batch(a, b), Keys.range(5, a, b)) for a, b in ((0, 11), (11, 32))]
    torch.testing.assert_close(torch.cat([part.total for part in parts]), whole.total, rtol=1e-5, atol=1e-6)
    assert torch.equal(torch.cat([part.terms["time"] for part in parts]), whole.terms["time"])
    assert not torch.allclose(model.loss(batch(0, 32), Keys.range(6, 0, 32)).total, whole.total)


def test_gradient_reaches_every_parameter() -> None:
    model = cld(trained())
    model.loss(batch(0, 64), Keys.range(5, 0, 64)).total.mean().backward()
    still = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []


def test_the_network_meets_states_of_all_times_and_some_conditions() -> None:
    network, count = Recorder(), 5000
    labels = torch.arange(count) % 10
    large = Batch(torch.full((count, *SHAPE), 0.5), labels, torch.arange(count), tuple(map(str, range(count))))
    cld(network).loss(large, Keys.range(5, 0, count))
    ((x, time, cond),) = network.told
    assert x.shape == (count, 2, 8, 8)
    assert float(time.min()) == pytest.approx(LAST, abs=2 / count)
    assert float(time.max()) == pytest.approx(1.0, abs=2 / count)
    assert cond is not None
    gone = cond == -1
    assert float(gone.float().mean()) == pytest.approx(0.1, abs=4 * 0.3 / count**0.5)
    assert torch.equal(cond[~gone], labels[~gone])
    early = time < 0.02  # before the velocity moves the image
    assert float(x[early, 0].mean()) == pytest.approx(0.5, abs=0.03)
    assert float(x[early, 0].std()) < 0.2 < 0.8 < float(x[early, 1].std())


@pytest.mark.parametrize("sampler", [SSCS(), SSCS(calls=2), EulerMaruyama()], ids=str)
@pytest.mark.parametrize("scale", [0.0, 1.0, 2.0])
def test_a_sample_does_not_depend_on_its_batch(sampler: Sampler, scale: float) -> None:
    model = cld(trained(), sampler, scale)
    labels = torch.arange(12) % 10
    whole = model.sample(Keys.range(3, 100, 112), labels)
    assert (whole.shape, whole.dtype) == ((12, *SHAPE), torch.float32)
    assert -1 <= float(whole.min()) < float(whole.max()) <= 1
    some = [9, 2, 5]
    part = model.sample(Keys(3, torch.tensor([100 + i for i in some])), labels[some])
    assert torch.equal(part, whole[some])  # bit for bit
    assert float((whole[:6] - whole[6:]).abs().max()) > 0.1  # and samples differ


def test_the_walk_goes_from_noise_to_the_sample_in_images() -> None:
    model, none = cld(trained()), torch.zeros(300, dtype=torch.int64)
    with torch.no_grad():
        states = list(model.walk(Keys.range(3, 0, 300), none))
    assert [state.shape for state in states] == [(300, *SHAPE)] * 7
    assert torch.equal(states[-1].clamp(-1, 1), model.sample(Keys.range(3, 0, 300), none))
    assert float(states[0].mean()) == pytest.approx(0, abs=4 / 19_200**0.5)
    assert float(states[0].var()) == pytest.approx(1, abs=4 * (2 / 19_200) ** 0.5)


@pytest.mark.parametrize(("sampler", "steps"), [(SSCS(), 40), (SSCS(calls=2), 20), (EulerMaruyama(), 150)], ids=str)
def test_both_samplers_draw_the_gaussian_of_a_silent_network(sampler: Sampler, steps: int) -> None:
    model, keys = cld(Recorder(), sampler, steps=steps), Keys.range(4, 0, 100)
    with torch.no_grad():
        *_, x = model.walk(keys, None)
    assert float(x.mean()) == pytest.approx(0, abs=4 / 6400**0.5)
    assert float(x.var()) == pytest.approx(1, abs=4 * (2 / 6400) ** 0.5 + 0.03)


def test_steps_cost_as_many_calls_as_said() -> None:
    """And one more for what is expected of the last state; guidance asks twice."""
    for sampler, scale, calls in ((SSCS(), 1.0, 6), (SSCS(), 1.5, 12), (SSCS(calls=2), 0.0, 11)):
        network = Recorder()
        cld(network, sampler, scale).sample(Keys.range(0, 0, 2), torch.tensor([1, 2]))
        assert len(network.told) == calls


def test_classes_and_guidance_move_samples() -> None:
    network, keys = trained(), Keys.range(3, 0, 8)
    zeros, ones = torch.zeros(8, dtype=torch.int64), torch.ones(8, dtype=torch.int64)
    assert not torch.allclose(cld(network).sample(keys, zeros), cld(network).sample(keys, ones))
    assert not torch.allclose(cld(network, scale=2.0).sample(keys, ones), cld(network).sample(keys, ones))
    without = cld(network, scale=0.0)
    assert torch.equal(without.sample(keys, ones), without.sample(keys, zeros))
    assert torch.equal(without.sample(keys, ones), cld(network).sample(keys, None))


def test_the_bound_of_gaussian_data_is_their_density() -> None:
    """Whatever the velocity: log p(x, v) - log q(v | x) = log p(x) where q is what v is given x."""
    network = Recorder()
    model = cld(network, bound_steps=30)
    data = batch(3, 9)
    found = model.bound(data, Keys.range(2, 3, 9))
    cell = Noise(Keys.range(2, 3, 9)).within("dequantise/0").uniform("cell", data.images)
    spread = (data.images + (cell - 0.5) * 2 / (LEVELS - 1)).double()
    nats = (0.5 * spread**2 + 0.5 * math.log(2 * math.pi) - math.log(2 / (LEVELS - 1))).flatten(1).sum(1)
    torch.testing.assert_close(found.total, nats, rtol=0, atol=0.1)
    assert not found.total.requires_grad
    assert all(cond is not None and cond.tolist() == [3, 4, 5, 6, 7, 8] for _, _, cond in network.told)


def test_a_bound_is_that_of_each_image_alone() -> None:
    model = cld(trained())
    whole = model.bound(batch(0, 8), Keys.range(2, 0, 8))
    part = model.bound(batch(5, 8), Keys.range(2, 5, 8))
    assert whole.total.shape == (8,)
    assert bool(torch.isfinite(whole.total).all())
    torch.testing.assert_close(part.total, whole.total[5:], rtol=1e-4, atol=1e-3)
