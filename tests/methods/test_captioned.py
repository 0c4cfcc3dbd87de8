"""Captions in the place of classes, and CLIP guidance to them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from langevin.diffusion import grids
from langevin.diffusion.denoiser import Denoiser
from langevin.diffusion.guidance import GradientGuided, Similarity, gradient
from langevin.diffusion.parameterizations import Velocity
from langevin.diffusion.samplers import DDIM, Ancestral, GuidedAncestral, Sampler
from langevin.diffusion.schedules import Tabulated, cosine_betas
from langevin.diffusion.variance import Lower
from langevin.methods.bounding import Chain
from langevin.methods.captioned import Captioned, captioned
from langevin.methods.clip_guided import CLIPGuidedDiffusion, clip_guided, similarity
from langevin.methods.ddpm import ddpm
from langevin.methods.gaussian import GaussianDiffusion, Sampling, dropping
from langevin.networks.classifier import NoisyClassifier
from langevin.networks.clip import NoisyCLIP
from langevin.networks.dit import DiT
from langevin.networks.text import TextEncoder
from langevin.networks.unet import UNet
from langevin.protocols import Adapts, Batch, Bounded, Samples, Trainable
from langevin.randomness import Keys, Noise

from .examples import SHAPE, Recorder, batch, made

KEYS, BETAS, LENGTH = Keys.range(3, 0, 3), cosine_betas(30), 4
TEXTS = torch.tensor([[97, 98, 0, 0], [97, 0, 0, 0], [120, 121, 122, 120]])
NONE = torch.full((3, LENGTH), -1)
T, S = (torch.tensor(t, dtype=torch.float64) for t in (0.6, 0.4))


def awake(module: Any) -> Any:
    with torch.no_grad():
        for parameter in module.parameters():
            if not parameter.any():
                parameter.copy_(0.1 * torch.randn(parameter.shape))
    return module


def unet(reads: bool = True) -> UNet:
    return UNet(SHAPE, 8, (1, 2), 1, (4,), text=TextEncoder(8, 1, 2, LENGTH) if reads else None)


def sampled(sampler: Sampler, scale: float) -> tuple[Sampling, Chain]:
    grid = grids.uniform(5)
    return Sampling(sampler, grid, scale, clamped=lambda model: model), Chain(grid, Lower(), 17, 3)


def reading(scale: float = 1.0, network: nn.Module | None = None, dropped: float = 0.1) -> Captioned:
    torch.manual_seed(0)
    drawn = sampled(DDIM(), scale)
    return awake(Captioned(ddpm(network or unet(), BETAS, SHAPE, *drawn, parameterization=Velocity(), dropped=dropped)))


def guided(scale: float = 1.0, sampler: Sampler = DDIM(), reads: bool = False) -> CLIPGuidedDiffusion:  # noqa: B008
    torch.manual_seed(0)
    clip = NoisyCLIP(NoisyClassifier(SHAPE, 8, (1, 2), 1, (4,), 6), TextEncoder(8, 1, 2, LENGTH), 6)
    drawn = sampled(sampler, scale)
    dropped = 0.1 if reads else 1.0
    return awake(clip_guided(unet(reads), clip, BETAS, SHAPE, *drawn, parameterization=Velocity(), dropped=dropped))


def told(count: int = 3, captions: Tensor = TEXTS) -> Batch:
    plain = batch(0, count)
    return Batch(plain.images, plain.labels, plain.ordinals, plain.keys, captions.repeat(count // 3, 1))


METHODS = {
    "unet": reading,
    "dit": lambda: reading(network=DiT(SHAPE, 2, 16, 1, 2, text=TextEncoder(8, 1, 2, LENGTH))),
    "clip": guided,
    "clip reads": lambda: guided(reads=True),
}
every = pytest.mark.parametrize("name", METHODS)


def test_whole_captions_are_dropped_as_classes_are() -> None:
    """The same samples, and each caption entirely."""
    noise, labels = Noise(Keys.range(1, 0, 2000)), torch.arange(2000) % 10
    captions = 1 + torch.arange(8000).reshape(2000, 4) % 200
    gone = dropping(labels, 0.3, noise) == -1
    found = dropping(captions, 0.3, noise)
    assert torch.equal(found, captions.masked_fill(gone[:, None], -1))
    assert float(gone.float().mean()) == pytest.approx(0.3, abs=0.04)


def test_the_network_is_told_captions_and_no_class() -> None:
    method = reading(dropped=0.0)
    recorder = method.inner.denoiser.network = Recorder()
    method.loss(told(), KEYS)
    method.bound(told(), KEYS)
    method.sample(KEYS, TEXTS)
    assert len(recorder.told) > 5
    assert all(torch.equal(cond[:3], TEXTS) for _, _, cond in recorder.told)


@every
def test_it_is_all_that_the_platform_asks_for(name: str) -> None:
    method = METHODS[name]()
    assert isinstance(method, Trainable)
    assert isinstance(method, Samples)
    assert isinstance(method, Bounded)
    method.loss(told(6), Keys.range(5, 0, 6)).total.mean().backward()
    bound = method.bound(told(), KEYS)
    assert bool(torch.isfinite(bound.total).all())
    for parameter in method.parameters():
        assert parameter.grad is not None
        assert bool(torch.isfinite(parameter.grad).all())


@every
def test_a_sample_does_not_depend_on_its_batch(name: str) -> None:
    method = METHODS[name]()
    whole = method.sample(KEYS, TEXTS)
    part = method.sample(Keys(3, torch.tensor([2, 0])), TEXTS[[2, 0]])
    assert torch.equal(part, whole[[2, 0]])
    assert torch.equal(list(method.walk(KEYS, TEXTS))[-1].detach().clamp(-1, 1), whole)


@every
def test_texts_matter_and_none_is_no_text(name: str) -> None:
    method = METHODS[name]()

    def drawn(captions: Tensor | None) -> Tensor:
        with torch.no_grad():
            return list(method.walk(KEYS, captions))[-1]  # not clamped

    base, other = drawn(TEXTS), drawn(torch.cat([torch.tensor([[99, 98, 0, 0]]), TEXTS[1:]]))
    assert not torch.allclose(base[0], other[0], rtol=0, atol=1e-3)
    assert torch.equal(base[1:], other[1:])
    assert torch.equal(drawn(None), drawn(NONE))


def test_guidance_without_a_classifier_goes_from_no_text_over_the_text_and_further() -> None:
    without, plain, further = (reading(scale) for scale in (0.0, 1.0, 3.0))
    torch.testing.assert_close(without.sample(KEYS, TEXTS), plain.sample(KEYS, None))
    assert not torch.allclose(plain.sample(KEYS, TEXTS), further.sample(KEYS, TEXTS), atol=1e-4)


def test_it_adapts_where_the_inner_method_does() -> None:
    adapting, plain = made("improved_ddpm"), made("ddpm")
    assert isinstance(captioned(adapting), Adapts)
    assert not isinstance(captioned(plain), Adapts)
    seen = []
    adapting.adapt = lambda *values: seen.append(values)
    captioned(adapting).adapt(torch.arange(2), {})  # type: ignore[attr-defined]
    assert len(seen) == 1


def test_the_loss_is_the_sum_of_two_that_share_nothing() -> None:
    method, data = guided(), told(6)
    losses = method.loss(data, Keys.range(5, 0, 6))
    torch.testing.assert_close(losses.total, losses.terms["denoising"] + losses.terms["clip"])
    changed = method.loss(told(6, TEXTS.flip(0)), Keys.range(5, 0, 6))
    assert torch.equal(changed.terms["denoising"], losses.terms["denoising"])  # it reads nothing
    assert not torch.allclose(changed.terms["clip"], losses.terms["clip"])
    assert {id(p) for p in method.denoiser.parameters()}.isdisjoint({id(p) for p in method.parts["clip"].parameters()})


def test_ancestral_steps_and_others_are_moved_by_scale_times_the_gradient_of_the_cosine() -> None:
    """Nichol et al. 2021, section 2.4, with the potential scale x cosine of their code."""
    ancestral, other = guided(2.0, Ancestral()), guided(2.0)
    clip = other.parts["clip"]
    assert isinstance(clip, NoisyCLIP)
    expected = 2.0 * float(clip.scale.detach())
    model, sampler = ancestral.drawn_by()
    assert isinstance(model, Denoiser)
    assert isinstance(sampler, GuidedAncestral)
    assert sampler.scale == pytest.approx(expected)
    model, sampler = other.drawn_by()
    assert (type(model), sampler) == (GradientGuided, DDIM())
    x, level = Noise(KEYS).normal("x", torch.empty(3, *SHAPE)), Tabulated(BETAS)(T)
    slope = gradient(Similarity(clip.image_embedding, clip.text_embedding), x, T, TEXTS)
    with torch.no_grad():
        eps = other.denoiser(x, T).eps(x, level) - level.sigma.float() * expected * slope
        torch.testing.assert_close(model(x, T, TEXTS).eps(x, level), eps, rtol=1e-4, atol=1e-4)
    assert float(slope.abs().max()) > 1e-4
    torch.testing.assert_close(similarity(clip)(x, T.expand(3), TEXTS), clip_cosine(clip, x), rtol=1e-4, atol=1e-5)


def clip_cosine(clip: NoisyCLIP, x: Tensor) -> Tensor:
    return (clip.image_embedding(x, T.float().expand(3)) * clip.text_embedding(TEXTS)).sum(1)


@pytest.mark.parametrize("sampler", [Ancestral(), DDIM()], ids=["ancestral", "ddim"])
def test_scale_0_and_no_text_are_the_unguided_model(sampler: Sampler) -> None:
    off, on = guided(0.0, sampler), guided(30.0, sampler)
    expected = off.sample(KEYS, None)
    torch.testing.assert_close(off.sample(KEYS, TEXTS), expected)
    torch.testing.assert_close(on.sample(KEYS, NONE), expected)
    assert not torch.allclose(on.sample(KEYS, TEXTS), expected, atol=1e-3)


def test_methods_that_are_told_classes_still_are() -> None:
    assert isinstance(made("ddpm"), GaussianDiffusion)
    assert torch.equal(dropping(torch.arange(3), 0.0, Noise(KEYS)), torch.arange(3))
