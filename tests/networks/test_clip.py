"""The noise-aware CLIP: its loss written out, what it learns, and where its gradient leads."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from langevin.diffusion.guidance import Similarity, gradient
from langevin.networks.classifier import NoisyClassifier
from langevin.networks.clip import NoisyCLIP, clip_loss
from langevin.networks.text import TextEncoder

TEXTS = torch.tensor([[97, 98, 0], [97, 0, 0], [0, 0, 0], [120, 121, 122]])
NOISE = torch.tensor([0.1, 0.4, 0.7, 1.0])


def clip() -> NoisyCLIP:
    torch.manual_seed(0)
    return NoisyCLIP(NoisyClassifier((1, 8, 8), 16, (1, 2), 1, (4,), 12), TextEncoder(16, 1, 2, 3), 12)


def images(count: int) -> Tensor:
    return torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(2))


def test_embeddings_are_of_unit_length_and_no_text_is_zero() -> None:
    network = clip()
    assert torch.allclose(network.image_embedding(images(4), NOISE).norm(dim=1), torch.ones(4))
    torch.testing.assert_close(network.text_embedding(TEXTS).norm(dim=1), torch.tensor([1.0, 1.0, 0.0, 1.0]))
    assert not network.text_embedding(None).any()


def test_the_loss_is_the_cross_entropy_both_ways() -> None:
    """Radford et al. 2021, figure 3."""
    image, text = (normalize(torch.randn(5, 7), dim=1) for _ in range(2))
    logits, pairs = 3.0 * image @ text.T, torch.arange(5)
    both = [cross_entropy(values, pairs, reduction="none") for values in (logits, logits.T)]
    torch.testing.assert_close(clip_loss(image, text, 3.0), sum(both) / 2)


def test_pairs_without_a_text_are_none() -> None:
    image = normalize(torch.randn(5, 7), dim=1).requires_grad_()
    text, there = normalize(torch.randn(5, 7), dim=1), torch.tensor([0, 2, 3])
    text[[1, 4]] = 0
    found = clip_loss(image, text, 3.0)
    torch.testing.assert_close(found[there], clip_loss(image[there], text[there], 3.0))
    assert not found[[1, 4]].any()
    found.sum().backward()
    assert image.grad is not None
    assert bool(torch.isfinite(image.grad).all())
    assert not image.grad[[1, 4]].any()


def test_the_scale_starts_at_the_papers_and_is_bounded() -> None:
    network = clip()
    assert float(network.scale) == pytest.approx(1 / 0.07)
    with torch.no_grad():
        network.log_scale.fill_(9.0)
    assert float(network.scale) == pytest.approx(100)


def test_scale_times_cosine_is_the_log_ratio_of_densities() -> None:
    """Two images and two texts that go together 4 times in 5: the best scale x (cosine - cosine) is log 4 per side."""
    image = torch.eye(2)[torch.arange(100) % 2]
    text = torch.where((torch.arange(100) // 2 % 5 == 0)[:, None], image.flip(1), image)
    log_scale = torch.zeros((), requires_grad=True)
    optimiser = torch.optim.Adam([log_scale], lr=0.05)
    for _ in range(150):
        optimiser.zero_grad()
        clip_loss(image, text, log_scale.exp()).mean().backward()
        optimiser.step()
    assert float(log_scale.exp()) == pytest.approx(math.log(4), rel=0.01)


def test_gradient_reaches_every_parameter() -> None:
    network = clip()
    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():
                parameter.copy_(0.1 * torch.randn(parameter.shape))
    network(images(4), NOISE, TEXTS).sum().backward()
    still = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []


def test_it_learns_which_text_belongs_to_which_noisy_image_and_then_guides_to_it() -> None:
    network, texts = clip(), torch.tensor([[97, 0, 0], [98, 0, 0], [99, 97, 0], [97, 97, 97]])
    clean, optimiser = images(4), torch.optim.AdamW(network.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(3)
    for _ in range(60):
        t = torch.rand(16, generator=generator) * 0.5
        kind = torch.arange(16) % 4
        noisy = clean[kind] * (1 - t[:, None, None, None]) + t[:, None, None, None] * torch.randn(
            16, 1, 8, 8, generator=generator
        )
        optimiser.zero_grad()
        network(noisy, t, texts[kind]).mean().backward()
        optimiser.step()
    cosines = network.image_embedding(clean, torch.full((4,), 0.1)) @ network.text_embedding(texts).T
    assert cosines.argmax(dim=1).tolist() == [0, 1, 2, 3]
    potential, t = Similarity(network.image_embedding, network.text_embedding), torch.tensor(0.1, dtype=torch.float64)
    x, wanted = clean, texts.roll(1, dims=0)
    before = potential(x, t.expand(4), wanted)
    for _ in range(5):
        slope = gradient(potential, x, t, wanted)
        x = x + 0.5 * normalize(slope.flatten(1), dim=1).reshape(x.shape)
    assert bool((potential(x, t.expand(4), wanted) > before + 0.1).all())


def test_no_text_leads_nowhere() -> None:
    network = clip()
    potential, t = Similarity(network.image_embedding, network.text_embedding), torch.tensor(0.3, dtype=torch.float64)
    for none in (None, torch.full((4, 3), -1)):
        assert not gradient(potential, images(4), t, none).any()
    slope = gradient(potential, images(4), t, TEXTS)
    assert slope.flatten(1).any(dim=1).tolist() == [True, True, False, True]
