"""Latent diffusion: a method on latents, whose images are those of a codec that stands still."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from langevin.codecs.vae import KLCodec, Laplace
from langevin.diffusion import grids
from langevin.diffusion.denoiser import Denoiser
from langevin.diffusion.objectives import Denoising
from langevin.diffusion.parameterizations import Data
from langevin.diffusion.samplers import DDIM
from langevin.diffusion.schedules import CosineVP, linear_betas
from langevin.diffusion.times import Uniform
from langevin.diffusion.weightings import Simple
from langevin.methods.ddpm import ddpm
from langevin.methods.gaussian import GaussianDiffusion, Sampling
from langevin.methods.improved_ddpm import improved_ddpm
from langevin.methods.latent import Density, Latent
from langevin.networks.autoencoder import Decoder, Encoder
from langevin.networks.unet import UNet
from langevin.protocols import Batch, Bounded, Samples, Trainable
from langevin.randomness import Keys, Noise

from .examples import CLASSES, LEVELS, SHAPE, batch

KEYS, LABELS = Keys.range(5, 0, 4), torch.arange(4)
LATENTS = (2, 4, 4)
SAMPLING = Sampling(DDIM(), grids.strided(5, 100), clamped=lambda model: model)


def codec() -> KLCodec:
    torch.manual_seed(0)
    encoder, decoder = Encoder(SHAPE, 2, 16, (1, 2)), Decoder(SHAPE, 2, 16, (1, 2))
    made = KLCodec(encoder, decoder, encoder.latent_shape, Laplace(LEVELS))
    made.scale /= made.encode(batch(0, 64).images, Noise(Keys.range(9, 0, 64))).std().detach()
    return made


def made(scale: float = 1.0) -> Latent:
    coder = codec()
    network = UNet(LATENTS, 8, (1, 2), 1, (), CLASSES)
    inner = ddpm(network, linear_betas(100), LATENTS, SAMPLING, Density(6, 1e-3))
    with torch.no_grad():
        for parameter in inner.parameters():
            if not parameter.any():
                parameter.copy_(0.1 * torch.randn(parameter.shape))
    return Latent(coder, inner)


def latents(method: Latent, count: int) -> Batch:
    """The data set that is written once: images as scaled latents."""
    images = batch(0, count)
    z = method.codec.encode(images.images, Noise(Keys.range(9, 0, count)))
    return Batch(z, images.labels, images.ordinals, images.keys)


def test_it_is_what_the_platform_asks_for() -> None:
    assert all(isinstance(made(), protocol) for protocol in (Trainable, Samples, Bounded))


def test_only_the_inner_method_learns_and_one_state_holds_both() -> None:
    method = made()
    method.loss(latents(method, 16), Keys.range(5, 0, 16)).total.mean().backward()
    for name, parameter in method.named_parameters():
        learns = name.startswith("inner.")
        assert parameter.requires_grad == learns
        assert (parameter.grad is not None and bool(parameter.grad.any())) == learns
    assert {"codec.scale", "codec.decoder.head.weight"} < method.state_dict().keys()
    other = made()
    with torch.no_grad():
        for values in other.state_dict().values():
            values.zero_()
    other.load_state_dict(method.state_dict())
    assert torch.equal(other.sample(KEYS, LABELS), method.sample(KEYS, LABELS))


def test_the_loss_is_the_inner_methods_on_latents() -> None:
    method = made()
    data, keys = latents(method, 16), Keys.range(5, 0, 16)
    assert float(data.images.std()) == pytest.approx(1, abs=0.2)
    assert torch.equal(method.loss(data, keys).total, method.inner.loss(data, keys).total)


def test_a_sample_does_not_depend_on_its_batch() -> None:
    method = made()
    whole = method.sample(KEYS, LABELS)
    assert whole.shape == (4, *SHAPE)
    part = method.sample(Keys(5, torch.tensor([3, 1])), LABELS[[3, 1]])
    assert torch.equal(part, whole[[3, 1]])
    assert float((whole[:2] - whole[2:]).abs().max()) > 0.01


def test_the_walk_is_the_inner_one_decoded_and_ends_at_the_sample() -> None:
    method = made()
    with torch.no_grad():
        states, inner = list(method.walk(KEYS, LABELS)), list(method.inner.walk(KEYS, LABELS))
        assert len(states) == len(inner) == 6
        for state, z in zip(states, inner, strict=True):
            torch.testing.assert_close(state, method.codec.decode(z), rtol=1e-4, atol=1e-5)
    assert torch.equal(states[-1].clamp(-1, 1), method.sample(KEYS, LABELS))


class Towards(nn.Module):
    """D of data N(3, 1/4), which lie far outside of [-1, 1]. It is told t on ``schedule``."""

    def __init__(self, schedule: CosineVP) -> None:
        super().__init__()
        self.schedule = schedule

    def forward(self, x: Tensor, t: Tensor, cond: Any) -> Tensor:
        at = self.schedule(t.double()).against(x)
        return 3 + 0.25 * at.alpha / (0.25 * at.alpha**2 + at.sigma**2) * (x - 3 * at.alpha)


class Tenth(nn.Module):
    def forward(self, z: Tensor, cond: Any) -> Tensor:
        return z / 10


def test_latents_are_kept_in_no_range() -> None:
    """Latents about 3, images a tenth of them: their mean and deviation come out."""
    schedule, count, shape = CosineVP(), 500, (1, 4, 4)
    denoiser = Denoiser(Towards(schedule), schedule, Data())
    sampling = Sampling(DDIM(), grids.uniform(40), clamped=lambda model: model)
    inner = GaussianDiffusion(denoiser, Denoising(Uniform(), Simple()), shape, 0.0, sampling, Density(4, 0.01))
    method = Latent(KLCodec(nn.Identity(), Tenth(), shape, Laplace(LEVELS)), inner)
    images = method.sample(Keys.range(1, 0, count), None)
    assert float(images.mean()) == pytest.approx(0.3, abs=0.003)
    assert float(images.std()) == pytest.approx(0.05, rel=0.1)


def test_the_bound_is_finite_and_of_each_image_alone() -> None:
    method = made()
    whole = method.bound(batch(0, 4), KEYS)
    part = method.bound(batch(1, 3), Keys.range(5, 1, 3))
    for name in ("prior", "diffusion", "reconstruction"):
        values = getattr(whole, name)
        assert values.shape == (4,)
        assert not values.requires_grad
        assert bool(torch.isfinite(values).all())
        torch.testing.assert_close(getattr(part, name), values[1:3], rtol=1e-3, atol=1e-2)
    assert torch.equal(method.bound(batch(0, 4), KEYS).total, whole.total)
    assert not torch.allclose(method.bound(batch(0, 4), Keys.range(6, 0, 4)).total, whole.total, rtol=1e-4)


def test_the_inner_method_is_told_what_its_losses_were() -> None:
    network = UNet(LATENTS, 8, (1, 2), 1, (), CLASSES, channels_out=2 * LATENTS[0])
    inner = improved_ddpm(
        network, linear_betas(100), LATENTS, LEVELS, SAMPLING, Density(4, 1e-3), hybrid=False, loss_aware=True
    )
    method, keys = Latent(codec(), inner), Keys.range(5, 0, 16)
    before = copy.deepcopy(dict(inner.named_buffers()))
    method.adapt(torch.arange(16), method.loss(latents(method, 16), keys).terms)
    assert any(not torch.equal(before[name], buffer) for name, buffer in inner.named_buffers())
    plain = made()
    plain.adapt(torch.arange(16), plain.loss(latents(plain, 16), keys).terms)  # nothing to tell
