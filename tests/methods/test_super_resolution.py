"""One stage of a cascade: what its network is told, of what it is the loss, and that guidance never drops the image."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from langevin.diffusion import grids
from langevin.diffusion.denoiser import Denoiser
from langevin.diffusion.objectives import Denoising
from langevin.diffusion.parameterizations import Data
from langevin.diffusion.samplers import DDIM
from langevin.diffusion.schedules import CosineVP
from langevin.diffusion.times import Uniform
from langevin.diffusion.weightings import Simple
from langevin.methods.gaussian import GaussianDiffusion, Sampling
from langevin.methods.super_resolution import (
    Augmentation,
    BlurAugmentation,
    NoAugmentation,
    NoiseAugmentation,
    SuperResolution,
    blurred,
    reduced,
)
from langevin.networks.unet import UNet
from langevin.networks.upsampler import LowResolution, Upsampler, enlarged
from langevin.protocols import Batch, Bounded, Samples, Trainable
from langevin.randomness import Keys, Noise

LOWER, SIZE, DROPPED = 4, 8, 0.3
NOISY = NoiseAugmentation(CosineVP(), 0.6)
KEYS, LABELS = Keys.range(3, 0, 3), torch.tensor([1, 4, 9])


def stage(augmentation: Augmentation = NOISY, network: nn.Module | None = None, scale: float = 1.0) -> SuperResolution:
    """From 4 to 8 pixels, with random weights everywhere."""
    torch.manual_seed(0)
    network = network or Upsampler(UNet((1, SIZE, SIZE), 8, (1, 2), 1, (4,), 10, channels_in=2))
    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():
                parameter.copy_(0.1 * torch.randn(parameter.shape))
    denoiser = Denoiser(network, CosineVP(), Data())
    sampling, bounding = Sampling(DDIM(1.0), grids.uniform(5), scale), None
    shape = (1, SIZE, SIZE)
    inner = GaussianDiffusion(denoiser, Denoising(Uniform(), Simple()), shape, DROPPED, sampling, bounding)  # type: ignore[arg-type]
    return SuperResolution(inner, LOWER, SIZE, augmentation)


class Told(nn.Module):
    """Writes down what it is told, and says that the image is the small one, enlarged."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[Tensor, Tensor, LowResolution]] = []

    def forward(self, x: Tensor, noise: Tensor, cond: LowResolution) -> Tensor:
        self.seen.append((x, noise, cond))
        return enlarged(cond.image, x.shape[-2:])


def images(count: int, size: int = 16) -> Tensor:
    return torch.rand(count, 1, size, size, generator=torch.Generator().manual_seed(1)) * 2 - 1


def batch(start: int, stop: int) -> Batch:
    ordinals = torch.arange(start, stop)
    return Batch(images(1000)[start:stop], ordinals % 10, ordinals, tuple(map(str, ordinals.tolist())))


def test_it_trains_and_samples_and_has_no_bound() -> None:
    assert isinstance(stage(), Trainable)
    assert isinstance(stage(), Samples)
    assert not isinstance(stage(), Bounded)


def test_reduced_is_the_mean_of_blocks() -> None:
    full = images(2, 12)
    small = reduced(full, 4)
    torch.testing.assert_close(small[1, 0, 2, 3], full[1, 0, 6:9, 9:12].mean())
    torch.testing.assert_close(reduced(reduced(full, 6), 3), reduced(full, 3))
    torch.testing.assert_close(small.mean((2, 3)), full.mean((2, 3)))
    assert torch.equal(reduced(full, 12), full)
    with pytest.raises(ValueError, match="12 x 12 have no whole blocks at a height of 5"):
        reduced(full, 5)


def test_the_target_is_noised_and_the_target_reduced_is_told() -> None:
    """Images of 16 pixels: x_t is of their means at 8, the condition of those at 4, and the loss is inner's."""
    network = Told()
    method, data, keys = stage(NoAugmentation(), network), batch(0, 6), Keys.range(5, 0, 6)
    losses = method.loss(data, keys)
    ((x, t, told),) = network.seen
    target = reduced(data.images, SIZE)
    level = CosineVP()(Uniform()(Noise(keys)))
    torch.testing.assert_close(t, level.t.float())
    torch.testing.assert_close(x, level.diffuse(target, Noise(keys).normal("forward", target)))
    torch.testing.assert_close(told.image, reduced(data.images, LOWER))
    assert not told.level.any()
    error = (target - enlarged(told.image, (SIZE, SIZE))).square().mean((1, 2, 3))
    torch.testing.assert_close(losses.total, (level.log_snr.exp() * error).float(), rtol=1e-4, atol=1e-5)


def test_a_stage_of_residuals_learns_and_draws_what_the_enlarged_image_leaves_open() -> None:
    """Its objective is inner's of the difference; a network that knows of none, at any noise, draws the enlarged image."""
    method, data, keys = around_the_enlarged(), batch(0, 6), Keys.range(5, 0, 6)
    target, low = reduced(data.images, SIZE), reduced(data.images, LOWER)
    difference = target - enlarged(low, (SIZE, SIZE))
    noise = Noise(keys)
    expected = method.inner.objective(method.inner.denoiser, difference, LowResolution(low, torch.zeros(6)), noise)
    torch.testing.assert_close(method.loss(data, keys).total, expected.total)
    assert float(expected.total.min()) > 0
    torch.testing.assert_close(method.sample_from(keys, low, data.labels), enlarged(low, (SIZE, SIZE)))
    first = next(iter(method.walk_from(keys, low, data.labels)))
    at = CosineVP()(torch.ones(1, dtype=torch.float64)).against(first)
    prior = noise.normal("prior", first)
    torch.testing.assert_close(first, at.alpha * enlarged(low, (SIZE, SIZE)) + prior, rtol=1e-4, atol=1e-4)


def around_the_enlarged() -> SuperResolution:
    class NoDifference(nn.Module):
        def forward(self, x: Tensor, noise: Tensor, cond: LowResolution) -> Tensor:
            return torch.zeros_like(x)

    return SuperResolution(stage(network=NoDifference()).inner, LOWER, SIZE, NoAugmentation(), centre=enlarged)


def test_losses_are_a_function_of_weights_batch_and_keys() -> None:
    method = stage()
    whole = method.loss(batch(0, 9), Keys.range(5, 0, 9)).total
    torch.manual_seed(77)
    parts = [method.loss(batch(a, b), Keys.range(5, a, b)).total for a, b in ((0, 4), (4, 9))]
    torch.testing.assert_close(torch.cat(parts), whole, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(method.loss(batch(0, 9), Keys.range(6, 0, 9)).total, whole, rtol=1e-2)


def test_gradient_reaches_every_parameter() -> None:
    method = stage()
    method.loss(batch(0, 32), Keys.range(5, 0, 32)).total.mean().backward()
    assert [name for name, p in method.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_labels_are_dropped_and_images_are_not() -> None:
    network, count = Told(), 1000
    stage(NoAugmentation(), network).loss(batch(0, count), Keys.range(5, 0, count))
    ((_, _, told),) = network.seen
    assert told.cond is not None
    gone = told.cond == -1
    assert float(gone.float().mean()) == pytest.approx(DROPPED, abs=4 * (DROPPED * (1 - DROPPED) / count) ** 0.5)
    assert bool(told.image.flatten(1).any(1).all())


def test_noise_is_added_at_uniform_levels_that_are_told() -> None:
    """z_s = alpha z + sigma e with s ~ U[0, largest], e standard normal and not the noise of x."""
    count, network = 2000, Told()
    data = Batch(images(count, SIZE), None, torch.arange(count), ("",) * count)
    stage(NOISY, network).loss(data, Keys.range(5, 0, count))
    ((x, t, told),) = network.seen
    assert told.cond is None
    assert float(told.level.mean()) == pytest.approx(0.3, abs=4 * 0.6 / (12 * count) ** 0.5)
    assert 0 <= float(told.level.min()) < 0.01 < 0.59 < float(told.level.max()) <= 0.6
    assert abs(float(torch.corrcoef(torch.stack([told.level, t]))[0, 1])) < 4 / count**0.5
    added = residual(told.image, reduced(data.images, LOWER), told.level)
    assert float(added.var()) == pytest.approx(1, abs=4 * (2 / added.numel()) ** 0.5)
    of_x = residual(x, data.images, t)[:, :, :LOWER, :LOWER]
    assert abs(float(torch.corrcoef(torch.stack([added.flatten(), of_x.flatten()]))[0, 1])) < 4 / added.numel() ** 0.5


def residual(x: Tensor, clean: Tensor, t: Tensor) -> Tensor:
    at = CosineVP()(t.double()).against(clean)
    return (x - at.alpha * clean) / at.sigma


def test_in_sampling_clean_images_are_carried_to_the_level() -> None:
    low, level = images(500, LOWER), torch.full((500,), 0.45)
    told = NOISY.sampled(low, level, Noise(Keys.range(1, 0, 500)))
    assert torch.equal(told.level, level)
    assert float(residual(told.image, low, level).var()) == pytest.approx(1, abs=4 * (2 / low.numel()) ** 0.5)
    for wrong in (0.7, -0.1):
        with pytest.raises(ValueError, match=r"levels in \[0, 0.6\], found"):
            stage().sample_from(KEYS, images(3, LOWER), LABELS, wrong)
    with pytest.raises(ValueError, match="NoAugmentation knows the level 0 only"):
        stage(NoAugmentation()).sample_from(KEYS, images(3, LOWER), LABELS, 0.2)


def test_blur_is_a_gaussian_of_each_images_own_width() -> None:
    """Against SciPy's, edges included."""
    sharp, sigma = images(2, 12), torch.tensor([0.4, 1.0])
    found = blurred(sharp, sigma, 3)
    for index in range(2):
        expected = gaussian_filter(sharp[index, 0].numpy(), float(sigma[index]), mode="nearest", radius=3)
        torch.testing.assert_close(found[index, 0], torch.from_numpy(expected))
    flat = torch.full((2, 1, 4, 4), 0.7)
    torch.testing.assert_close(blurred(flat, sigma, 3), flat)


def test_half_of_the_training_images_are_blurred_and_none_in_sampling() -> None:
    low, noise = images(1000, LOWER), Noise(Keys.range(1, 0, 1000))
    told = BlurAugmentation().trained(low, noise)
    sharp = (told.image == low).flatten(1).all(1)
    assert float(sharp.float().mean()) == pytest.approx(0.5, abs=4 * 0.5 / 1000**0.5)
    softest, hardest = (blurred(low, torch.full((1000,), sigma), 2) for sigma in (0.4, 0.6))
    strength = ((told.image - low).flatten(1).norm(dim=1), (softest - low).flatten(1).norm(dim=1))
    assert bool((strength[0] >= 0.999 * strength[1])[~sharp].all())
    assert bool((strength[0] <= 1.001 * (hardest - low).flatten(1).norm(dim=1)).all())
    assert not told.level.any()
    assert torch.equal(BlurAugmentation().sampled(low, torch.zeros(1000), noise).image, low)


def test_what_the_network_knows_of_the_small_image_is_in_the_sample() -> None:
    """A network that answers with the small image, enlarged: exactly that is sampled; at a level, its noisy version."""
    method, low = stage(NOISY, Told()), 0.9 * images(3, LOWER)
    plain = stage(NoAugmentation(), Told()).sample_from(KEYS, low, LABELS)
    torch.testing.assert_close(plain, enlarged(low, (SIZE, SIZE)))
    told = NOISY.sampled(low, torch.full((3,), 0.3), Noise(KEYS).within("augmentation"))
    expected = enlarged(told.image, (SIZE, SIZE)).clamp(-1, 1)
    torch.testing.assert_close(method.sample_from(KEYS, low, LABELS, 0.3), expected)
    assert float((expected - plain).abs().max()) > 0.1


@pytest.mark.parametrize(("scale", "conds"), [(0.0, [False]), (1.0, [True]), (2.0, [False, True])])
def test_guidance_drops_the_label_and_keeps_the_image(scale: float, conds: list[bool]) -> None:
    network, low = Told(), images(3, LOWER)
    stage(NoAugmentation(), network, scale).sample_from(KEYS, low, LABELS)
    assert [told.cond is not None for _, _, told in network.seen[: len(conds)]] == conds
    for _, _, told in network.seen:
        assert torch.equal(told.image[:3], low)
        assert told.cond is None or torch.equal(told.cond[:3], LABELS)


def test_guidance_goes_from_no_class_over_the_class_and_further() -> None:
    low = images(3, LOWER)
    without, plain, further = (stage(scale=scale).sample_from(KEYS, low, LABELS, 0.2) for scale in (0.0, 1.0, 2.5))
    torch.testing.assert_close(without, stage().sample_from(KEYS, low, None, 0.2))
    assert not torch.allclose(plain, without, atol=1e-4)
    assert not torch.allclose(plain, further, atol=1e-4)
    assert not torch.allclose(stage(scale=0.0).sample_from(KEYS, -low, LABELS, 0.2), without, atol=1e-3)


def test_a_sample_does_not_depend_on_its_batch() -> None:
    method, low, labels = stage(scale=1.5), images(4, LOWER), torch.arange(4)
    whole = method.sample_from(Keys.range(3, 100, 104), low, labels, 0.3)
    assert (whole.shape, whole.dtype) == ((4, 1, SIZE, SIZE), torch.float32)
    some = [3, 1]
    part = method.sample_from(Keys(3, torch.tensor([103, 101])), low[some], labels[some], 0.3)
    assert torch.equal(part, whole[some])


def test_levels_may_be_each_samples_own() -> None:
    method, low = stage(), images(3, LOWER)
    mixed = method.sample(KEYS, LowResolution(low, torch.tensor([0.0, 0.3, 0.6]), LABELS))
    for index, level in enumerate((0.0, 0.3, 0.6)):
        assert torch.equal(mixed[index], method.sample_from(KEYS, low, LABELS, level)[index])


@torch.no_grad()
def test_the_walk_ends_at_the_sample() -> None:
    method, low = stage(), images(3, LOWER)
    states = list(method.walk_from(KEYS, low, LABELS, 0.1))
    assert torch.equal(states[-1].clamp(-1, 1), method.sample_from(KEYS, low, LABELS, 0.1))
    assert len(states) == 5 + 1 + 1  # the grid's times, and what D makes of the last noise
    assert torch.equal(states[0], Noise(KEYS).normal("prior", states[0]))


@pytest.mark.parametrize(("lower", "size"), [(4, 16), (3, 8), (8, 8), (0, 8)])
def test_sizes_that_do_not_fit_are_refused(lower: int, size: int) -> None:
    with pytest.raises(ValueError, match=f"from {lower} to {size} cannot be made of a model of 8 pixels"):
        SuperResolution(stage().inner, lower, size, NoAugmentation())


def test_images_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match="from 4 pixels was given images of"):
        stage().sample_from(KEYS, images(3, SIZE), LABELS)


@pytest.mark.parametrize("made", [lambda: NoiseAugmentation(CosineVP(), 1.0), lambda: BlurAugmentation(0.0, 0.5)])
def test_augmentations_without_sense_are_refused(made: Any) -> None:
    with pytest.raises(ValueError, match="found"):
        made()
