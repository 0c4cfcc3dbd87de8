"""DDPM as the platform meets it: losses, samples and bounds that are functions of weights, batch and keys."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from langevin.diffusion import grids, parameterizations, weightings
from langevin.diffusion.denoiser import Denoiser
from langevin.diffusion.objectives import Denoising
from langevin.diffusion.samplers import DDIM, Ancestral, Sampler
from langevin.diffusion.schedules import Tabulated, cosine_betas
from langevin.diffusion.times import Discrete, Stratified
from langevin.diffusion.variance import Lower
from langevin.methods.ddpm import DDPM, Bounding, Sampling
from langevin.networks.unet import UNet
from langevin.protocols import Batch, Bounded, Samples, Trainable
from langevin.randomness import Keys

SHAPE, LEVELS = (1, 8, 8), 17


class Recorder(nn.Module):
    """A network that writes down what it was told, and says that all is noise."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[tuple[Tensor, Tensor, Tensor | None]] = []

    def forward(self, x: Tensor, noise: Tensor, cond: Tensor | None) -> Tensor:
        self.told.append((x, noise, cond))
        return 0 * x


def ddpm(network: nn.Module, sampler: Sampler | None = None, scale: float = 1.0, dropped: float = 0.1) -> DDPM:
    schedule = Tabulated(cosine_betas(1000))
    return DDPM(
        Denoiser(network, schedule, parameterizations.Velocity()),
        Denoising(Discrete(1000, Stratified()), weightings.Simple()),
        SHAPE,
        dropped,
        Sampling(sampler or DDIM(), grids.strided(5, 1000), scale),
        Bounding(grids.uniform_log_snr(30, schedule, 0.02), Lower(), LEVELS, 6),
    )


def trained() -> UNet:
    """A small network with random weights everywhere: not trained, but no longer zero."""
    torch.manual_seed(0)
    network = UNet(SHAPE, 8, (1, 2), 1, (4,), 10)
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
    model = ddpm(trained())
    assert isinstance(model, Trainable)
    assert isinstance(model, Samples)
    assert isinstance(model, Bounded)


def test_losses_are_a_function_of_weights_batch_and_keys() -> None:
    """Halves of a batch have the same losses, sample by sample, whatever the global generator does."""
    model = ddpm(trained())
    whole = model.loss(batch(0, 32), Keys.range(5, 0, 32)).total
    torch.manual_seed(77)
    parts = [model.loss(batch(a, b), Keys.range(5, a, b)).total for a, b in ((0, 11), (11, 32))]
    torch.testing.assert_close(torch.cat(parts), whole, rtol=1e-5, atol=1e-6)
    assert whole.shape == (32,)
    other = model.loss(batch(0, 32), Keys.range(6, 0, 32)).total
    assert not torch.allclose(other, whole)


def test_gradient_reaches_every_parameter() -> None:
    model = ddpm(trained())
    model.loss(batch(0, 64), Keys.range(5, 0, 64)).total.mean().backward()
    still = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []


@pytest.mark.parametrize("dropped", [0.0, 0.1, 1.0])
def test_conditions_are_dropped_with_their_probability(dropped: float) -> None:
    network = Recorder()
    labels = torch.arange(20_000) % 10
    large = Batch(torch.zeros(20_000, *SHAPE), labels, torch.arange(20_000), tuple(map(str, range(20_000))))
    ddpm(network, dropped=dropped).loss(large, Keys.range(5, 0, 20_000))
    (_, _, cond), *rest = network.told
    assert rest == []
    assert cond is not None
    gone = cond == -1
    assert float(gone.float().mean()) == pytest.approx(dropped, abs=4 * (dropped * (1 - dropped) / 20_000) ** 0.5)
    assert torch.equal(cond[~gone], labels[~gone])
    by_class = torch.stack([gone[large.labels == label].float().mean() for label in range(10)])
    assert float((by_class - dropped).abs().max()) <= 4.5 * (dropped * (1 - dropped) / 2000) ** 0.5


def test_images_meet_times_of_the_whole_chain() -> None:
    """x_t = alpha x_0 + sigma eps at the nodes, as the schedule has them; unlabelled images have no condition."""
    network = Recorder()
    flat = Batch(torch.ones(2000, *SHAPE), None, torch.arange(2000), tuple(map(str, range(2000))))
    model = ddpm(network)
    model.loss(flat, Keys.range(5, 0, 2000))
    x, t, cond = network.told[0]
    assert cond is None
    nodes = (t.double() * 1000).round()
    torch.testing.assert_close(t.double(), nodes / 1000, rtol=0, atol=1e-7)
    assert (len(nodes.unique()), nodes.min(), nodes.max()) == (1000, 1, 1000)
    level = model.denoiser.schedule(nodes / 1000)
    eps = (x.double() - level.alpha[:, None, None, None]) / level.sigma[:, None, None, None]
    assert float(eps.mean()) == pytest.approx(0, abs=4 / 128_000**0.5)
    assert float(eps.var()) == pytest.approx(1, abs=4 * (2 / 128_000) ** 0.5)


@pytest.mark.parametrize("sampler", [DDIM(0.0), DDIM(1.0), Ancestral()], ids=str)
@pytest.mark.parametrize("scale", [0.0, 1.0, 2.0])
def test_a_sample_does_not_depend_on_its_batch(sampler: Sampler, scale: float) -> None:
    model = ddpm(trained(), sampler, scale)
    labels = torch.arange(12) % 10
    whole = model.sample(Keys.range(3, 100, 112), labels)
    assert (whole.shape, whole.dtype) == ((12, *SHAPE), torch.float32)
    assert -1 <= float(whole.min()) < float(whole.max()) <= 1
    some = [9, 2, 5]
    part = model.sample(Keys(3, torch.tensor([100 + i for i in some])), labels[some])
    torch.testing.assert_close(part, whole[some], rtol=1e-4, atol=1e-5)
    assert float((whole[:6] - whole[6:]).abs().max()) > 0.1  # and samples differ


def test_the_walk_ends_at_the_sample_and_starts_at_noise() -> None:
    model = ddpm(trained(), Ancestral())
    with torch.no_grad():
        states = list(model.walk(Keys.range(3, 0, 500), torch.zeros(500, dtype=torch.int64)))
    assert len(states) == 6
    assert torch.equal(states[-1], model.sample(Keys.range(3, 0, 500), torch.zeros(500, dtype=torch.int64)))
    assert float(states[0].mean()) == pytest.approx(0, abs=4 / 32_000**0.5)
    assert float(states[0].var()) == pytest.approx(1, abs=4 * (2 / 32_000) ** 0.5)


def test_classes_and_guidance_move_samples() -> None:
    network, keys = trained(), Keys.range(3, 0, 8)
    zeros, ones = torch.zeros(8, dtype=torch.int64), torch.ones(8, dtype=torch.int64)
    assert not torch.allclose(ddpm(network).sample(keys, zeros), ddpm(network).sample(keys, ones))
    assert not torch.allclose(ddpm(network, scale=2.0).sample(keys, ones), ddpm(network).sample(keys, ones))
    without = ddpm(network, scale=0.0)
    assert torch.equal(without.sample(keys, ones), without.sample(keys, zeros))
    assert torch.equal(without.sample(keys, ones), ddpm(network).sample(keys, None))


def test_conditional_samples_cost_one_call_a_step_and_guided_ones_two() -> None:
    for scale, calls in ((1.0, 5), (0.0, 5), (1.5, 10)):
        network = Recorder()
        ddpm(network, scale=scale).sample(Keys.range(0, 0, 2), torch.tensor([1, 2]))
        assert len(network.told) == calls


def test_a_bound_is_three_finite_parts_of_each_image_alone() -> None:
    model = ddpm(trained())
    whole = model.bound(batch(0, 8), Keys.range(2, 0, 8))
    part = model.bound(batch(5, 8), Keys.range(2, 5, 8))
    for name in ("prior", "diffusion", "reconstruction"):
        values = getattr(whole, name)
        assert values.shape == (8,)
        assert bool((torch.isfinite(values) & (values >= 0)).all())
        torch.testing.assert_close(getattr(part, name), values[5:], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(whole.total, whole.prior + whole.diffusion + whole.reconstruction)
    assert not whole.total.requires_grad


def test_the_bound_asks_about_its_own_class_in_a_few_calls() -> None:
    network = Recorder()
    ddpm(network).bound(batch(3, 7), Keys.range(2, 3, 7))
    assert len(network.told) == 6 + 1
    assert all(cond is not None and cond.tolist() == [3, 4, 5, 6] for _, _, cond in network.told)
