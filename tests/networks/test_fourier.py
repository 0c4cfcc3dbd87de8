"""Fourier features: one grey level becomes a difference that a network can see."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from langevin.networks.fourier import FourierFeatures, fourier_features
from langevin.networks.unet import UNet


class Echo(nn.Module):
    """The network that answers with what it was given."""

    def forward(self, x: Tensor, noise: Tensor, cond: Tensor | None = None) -> Tensor:
        return torch.cat([x, noise.reshape(-1, 1, 1, 1).expand(-1, 1, *x.shape[2:])], dim=1)


def test_they_are_the_sines_and_cosines_of_powers_of_two_and_x_passes_unchanged() -> None:
    x = torch.rand(2, 3, 4, 4, dtype=torch.float64) * 2 - 1
    found = FourierFeatures(Echo(), exponents=(3, 5))(x, torch.ones(2, dtype=torch.float64))
    assert torch.equal(found[:, :3], x)
    for place, n in enumerate((3, 5)):
        wave = torch.exp(1j * math.pi * 2**n * x)
        torch.testing.assert_close(found[:, 3 + 6 * place : 6 + 6 * place], wave.imag)
        torch.testing.assert_close(found[:, 6 + 6 * place : 9 + 6 * place], wave.real)
    assert torch.equal(found[:, -1], torch.ones(2, 4, 4, dtype=torch.float64))


@pytest.mark.parametrize(("levels", "exponents"), [(17, (3, 4)), (256, (7, 8))])
def test_one_grey_level_apart_is_far_apart(levels: int, exponents: tuple[int, ...]) -> None:
    grey = torch.linspace(-1, 1, levels, dtype=torch.float64).reshape(-1, 1, 1, 1)
    features = fourier_features(grey, exponents).flatten(1)
    assert float(grey.diff(dim=0).abs().max()) < 0.13
    assert float(features.diff(dim=0).norm(dim=1).min()) > 1.9  # the lowest exponent turns neighbours by pi


def test_a_network_sees_them() -> None:
    """The same network and weights with the waves cut away answers otherwise."""
    torch.manual_seed(0)
    inner = UNet((5, 8, 8), channels=8, blocks=1)
    for parameter in inner.parameters():
        nn.init.normal_(parameter, std=0.1)
    network, x, noise = FourierFeatures(inner, (3, 4)), torch.rand(2, 1, 8, 8), torch.tensor([0.2, 0.8])
    nudged = x + 2 / 16
    blind = torch.cat([x, torch.zeros(2, 4, 8, 8)], dim=1), torch.cat([nudged, torch.zeros(2, 4, 8, 8)], dim=1)
    seen = (network(x, noise, None) - network(nudged, noise, None)).detach().norm()
    unseen = (inner(blind[0], noise, None) - inner(blind[1], noise, None)).detach().norm()
    assert float(seen) > 2 * float(unseen)
