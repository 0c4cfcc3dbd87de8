"""Layers of magnitude 1: what goes in with it comes out with it, and weights have a direction only."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, linear

from langevin.networks.magnitude import (
    CosineAttention,
    MPClassEmbedding,
    MPConv,
    MPFourier,
    MPLinear,
    mp_cat,
    mp_silu,
    mp_sum,
    unit,
)

LAYERS = {"linear": (lambda: MPLinear(24, 40), (512, 24)), "conv": (lambda: MPConv(8, 16, 3), (64, 8, 8, 8))}


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def magnitude(x: Tensor) -> float:
    return float(x.detach().square().mean().sqrt())


def test_unit_divides_by_the_root_mean_square() -> None:
    x = 7 * normal(3, 16, 4, 4)
    torch.testing.assert_close(unit(x, 1).square().mean(1), torch.ones(3, 4, 4), rtol=1e-3, atol=0)
    torch.testing.assert_close(unit(x, (1, 2, 3)).square().mean((1, 2, 3)), torch.ones(3), rtol=1e-3, atol=0)
    torch.testing.assert_close(unit(x, 1), x / x.square().mean(1, keepdim=True).sqrt(), rtol=1e-3, atol=0)
    assert not unit(torch.zeros(1, 4), 1).any()


def test_silu_keeps_the_magnitude_of_a_normal() -> None:
    """By quadrature: E[(silu(z) / 0.596)^2] = 1."""
    z = torch.linspace(-10, 10, 20_001, dtype=torch.float64)
    density = torch.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    assert float(torch.trapezoid(mp_silu(z) ** 2 * density, z)) == pytest.approx(1, abs=3e-3)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 1.0])
def test_sums_keep_magnitude_and_take_their_shares(share: float) -> None:
    a, b = normal(200_000), normal(200_000, seed=1)
    both = mp_sum(a, b, share)
    assert magnitude(both) == pytest.approx(1, abs=0.01)
    assert float((both * b).mean()) * math.hypot(1 - share, share) == pytest.approx(share, abs=0.01)
    assert float((both * a).mean()) * math.hypot(1 - share, share) == pytest.approx(1 - share, abs=0.01)


@pytest.mark.parametrize("share", [0.3, 0.5])
def test_concatenation_keeps_magnitude_and_shares_it_by_share_not_by_width(share: float) -> None:
    a, b = normal(100, 6, 32, 32), normal(100, 18, 32, 32, seed=1)
    both = mp_cat(a, b, share)
    assert magnitude(both) == pytest.approx(1, abs=0.01)
    first, second = both.split([6, 18], dim=1)
    torch.testing.assert_close(first / first[0, 0, 0, 0], a / a[0, 0, 0, 0])  # a comes first, whole
    ratio = float(second.square().sum() / first.square().sum())
    assert ratio == pytest.approx((share / (1 - share)) ** 2, rel=0.02)


@pytest.mark.parametrize("name", LAYERS)
def test_layers_keep_magnitude(name: str) -> None:
    torch.manual_seed(0)
    make, shape = LAYERS[name]
    layer = make()
    expected = 1.0 if name == "linear" else math.sqrt((22 / 24) ** 2)  # zero padding takes 2 of 24 taps a side
    assert magnitude(layer(normal(*shape))) == pytest.approx(expected, rel=0.05)
    assert magnitude(layer(normal(*shape), 3.0)) == pytest.approx(3 * expected, rel=0.05)


def test_layers_are_linear_maps_by_unit_rows() -> None:
    dense, conv = MPLinear(5, 3), MPConv(2, 4, 3)
    x, image = normal(6, 5), normal(2, 2, 6, 6)
    torch.testing.assert_close(dense(x), linear(x, dense.weight / dense.weight.norm(dim=1, keepdim=True)))
    kernel = conv.weight / conv.weight.norm(dim=1, keepdim=True)
    torch.testing.assert_close(conv(image), conv2d(image, kernel.reshape(4, 2, 3, 3), padding=1))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", LAYERS)
def test_the_length_of_a_weight_means_nothing(name: str, training: bool) -> None:
    make, shape = LAYERS[name]
    layer = make().train(training)
    x = normal(*shape)
    before = layer(x)
    with torch.no_grad():
        layer.weight.mul_(torch.linspace(0.01, 100, len(layer.weight))[:, None])
    torch.testing.assert_close(layer(x), before, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_are_orthogonal_to_weights(name: str) -> None:
    make, shape = LAYERS[name]
    layer = make()
    (layer(normal(*shape)) * normal(*layer(normal(*shape)).shape, seed=1)).sum().backward()
    gradient, weight = layer.weight.grad, layer.weight.detach()
    assert bool((gradient.norm(dim=1) > 0).all())
    along = (gradient * weight).sum(1) / (gradient.norm(dim=1) * weight.norm(dim=1))
    assert float(along.abs().max()) < 1e-5


def test_only_a_pass_that_is_learnt_from_sets_the_stored_weight() -> None:
    layer, x = MPLinear(8, 4), normal(2, 8)
    with torch.no_grad():
        layer.weight.mul_(5)
    stored = layer.weight.detach().clone()
    layer.eval()(x)
    with torch.no_grad():
        layer.train()(x)
    assert torch.equal(layer.weight, stored)
    layer(x)
    torch.testing.assert_close(layer.weight.square().mean(1), torch.ones(4))
    copied = copy.deepcopy(layer)
    layer.normalise_()
    torch.testing.assert_close(layer.weight, copied.weight)  # a second time changes nothing


def test_two_passes_before_one_backward_add_up() -> None:
    layer, a, b = MPLinear(8, 4), normal(3, 8), normal(3, 8, seed=1)
    (layer(a).square().sum() + layer(b).square().sum()).backward()
    both, layer.weight.grad = layer.weight.grad, None
    layer(torch.cat([a, b])).square().sum().backward()
    torch.testing.assert_close(layer.weight.grad, both)


def test_training_keeps_the_magnitude_of_weights() -> None:
    """Plain weight normalisation lets them grow at every step; the forced one does not."""
    layer = MPLinear(16, 16)
    optimiser = torch.optim.Adam(layer.parameters(), lr=0.1)
    for step in range(50):
        optimiser.zero_grad()
        (layer(normal(8, 16, seed=step)) - normal(8, 16, seed=step + 100)).square().mean().backward()
        optimiser.step()
    grown = magnitude(layer.weight)
    assert 1 < grown < 1.1  # of the last step only
    layer(normal(1, 16))
    assert magnitude(layer.weight) == pytest.approx(1, abs=1e-5)


def test_fourier_features_have_magnitude_1_at_every_noise_and_tell_them_apart() -> None:
    noise = torch.linspace(-1.6, 1.1, 200)
    features = MPFourier(64)(noise)
    torch.testing.assert_close(features.square().mean(1), torch.ones(200), rtol=0, atol=0.25)
    assert magnitude(features) == pytest.approx(1, abs=0.02)
    apart = torch.cdist(features, features) + 100 * torch.eye(200)
    assert float(apart.min()) > 0.25
    assert MPFourier(64).state_dict() == {}  # constants are no weights
    assert torch.equal(MPFourier(64)(noise), features)


def test_fourier_frequencies_are_normal() -> None:
    """The correlation of two noises' features is the law's characteristic function, exp(-(2 pi b d)^2 / 2)."""
    fourier = MPFourier(4096, bandwidth=0.5)
    distance = torch.linspace(0, 1, 11)
    base, features = fourier(torch.tensor([0.3])), fourier(0.3 + distance)
    expected = torch.exp(-((math.pi * distance) ** 2) / 2)
    torch.testing.assert_close((base * features).mean(1), expected, rtol=0, atol=0.01)
    assert abs(float(fourier.get_buffer("frequencies").mean())) < 1e-5


def test_classes_are_columns_of_magnitude_1_and_no_class_is_zero() -> None:
    torch.manual_seed(0)
    embedding = MPClassEmbedding(10, 256)
    labels = torch.tensor([4, -1, 0])
    found = embedding(labels, 3)
    directions = embedding.linear.weight / embedding.linear.weight.square().mean(1, keepdim=True).sqrt()
    torch.testing.assert_close(found[0], directions[:, 4])
    torch.testing.assert_close(found[2], directions[:, 0])
    assert not found[1].any()
    assert torch.equal(embedding(None, 3), torch.zeros(3, 256))
    assert magnitude(embedding(torch.arange(10), 10)) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("channels", [8, 128])
def test_attention_is_softmax_of_cosines(channels: int) -> None:
    """Written out: logits sqrt(d) cos(q, k), values of unit magnitude, heads side by side."""
    attention = CosineAttention(channels)
    x = normal(2, channels, 3, 3)
    heads, d = attention.heads, channels // attention.heads
    assert d <= 64
    q, k, v = (part.reshape(2, heads, d, 9) for part in attention.qkv(x).chunk(3, dim=1))
    cosine = torch.einsum("bhdi,bhdj->bhij", nn.functional.normalize(q, dim=2), nn.functional.normalize(k, dim=2))
    values = math.sqrt(d) * nn.functional.normalize(v, dim=2)
    mixed = torch.einsum("bhij,bhdj->bhdi", torch.softmax(math.sqrt(d) * cosine, dim=-1), values)
    expected = mp_sum(x, attention.out(mixed.reshape(2, channels, 3, 3)), 0.3)
    torch.testing.assert_close(attention(x), expected, rtol=1e-3, atol=1e-3)
