"""The learned increasing function: exact ends, increasing whatever its parameters, with right derivatives."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.func import jvp

from langevin.networks.monotone import MonotoneNetwork

DTYPES = [torch.float32, torch.float64]


def wild(width: int = 64, seed: int = 0) -> MonotoneNetwork:
    """A network far from where it starts."""
    network = MonotoneNetwork(width)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(3 * torch.randn(parameter.shape, generator=generator))
    return network


def slope(network: MonotoneNetwork, t: Tensor) -> Tensor:
    return jvp(network, (t,), (torch.ones_like(t),))[1]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (1,), (7,), (3, 5)])
@pytest.mark.parametrize("network", [MonotoneNetwork(), MonotoneNetwork(1), wild(), wild(5, 1), wild(1, 2)])
def test_the_ends_are_exact(network: MonotoneNetwork, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    for end in (torch.zeros, torch.ones):
        t = end(shape, dtype=dtype)
        assert torch.equal(network(t), t)
        assert network(t).dtype == dtype


@pytest.mark.parametrize("seed", range(5))
def test_it_is_strictly_increasing(seed: int) -> None:
    network, t = wild(seed=seed), torch.linspace(0, 1, 2001, dtype=torch.float64)
    assert bool((network(t).diff() > 0).all())
    assert bool((slope(network, t) > 0).all())
    assert float((network(t) - t).detach().abs().max()) > 0.001  # and it is no line


def test_it_starts_as_the_identity() -> None:
    t = torch.linspace(0, 1, 101, dtype=torch.float64)
    network = MonotoneNetwork()
    torch.testing.assert_close(network(t), t, rtol=0, atol=1e-4)
    torch.testing.assert_close(slope(network, t), torch.ones_like(t), rtol=0, atol=5e-3)


def test_it_is_vdms_network_between_its_ends() -> None:
    """(m(t) - m(0)) / (m(1) - m(0)), m = l1 + l3 sigmoid(l2 l1) with positive weights, written out."""
    network, t = wild(), torch.linspace(0, 1, 50, dtype=torch.float64)
    a, b, c = (torch.log1p(p.double().exp()) for p in (network.scale_1, network.scale_2, network.scale_3))

    def m(u: Tensor) -> Tensor:
        line = a * u + network.shift_1
        return line + torch.sigmoid(b * line[:, None] + network.shift_2) @ c / len(c)

    start, end = m(torch.zeros(1, dtype=torch.float64)), m(torch.ones(1, dtype=torch.float64))
    torch.testing.assert_close(network(t), (m(t) - start) / (end - start), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("network", [MonotoneNetwork(), wild()])
def test_the_derivative_is_that_of_finite_differences(network: MonotoneNetwork) -> None:
    t, h = torch.linspace(0.01, 0.99, 99, dtype=torch.float64), 1e-5
    expected = (network(t + h) - network(t - h)) / (2 * h)
    torch.testing.assert_close(slope(network, t), expected, rtol=1e-6, atol=1e-8)
    u = t.clone().requires_grad_()
    torch.testing.assert_close(torch.autograd.grad(network(u).sum(), u)[0], expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("of", ["value", "slope"])
def test_gradient_reaches_every_parameter(of: str) -> None:
    network, t = MonotoneNetwork(64), torch.tensor([0.1, 0.3, 0.35], dtype=torch.float64)
    (network(t) if of == "value" else slope(network, t)).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.all()), name


def test_the_slopes_gradient_is_that_of_finite_differences() -> None:
    """What VDM needs: d/d parameter of d/dt."""
    network, t = wild(8).double(), torch.tensor([0.2, 0.7], dtype=torch.float64)
    slope(network, t).square().sum().backward()
    parameter, h = network.shift_2, 1e-6
    for index in range(8):
        values = []
        for move in (h, -h):
            with torch.no_grad():
                parameter[index] += move
                values.append(float(slope(network, t).square().sum()))
                parameter[index] -= move
        assert float(parameter.grad[index]) == pytest.approx((values[0] - values[1]) / (2 * h), rel=1e-5, abs=1e-7)


def test_it_learns_another_schedule() -> None:
    """AdamW brings it from a line to t - sin(2 pi t) / 10, whose slope runs from 0.4 to 1.6."""
    network, t = MonotoneNetwork(), torch.linspace(0, 1, 65)
    target = t - torch.sin(2 * math.pi * t) / 10
    optimiser = torch.optim.AdamW(network.parameters(), lr=0.02, weight_decay=0.0)
    for _ in range(300):
        optimiser.zero_grad()
        (network(t) - target).square().mean().backward()
        optimiser.step()
    assert float((network(t) - target).detach().abs().max()) < 0.01


def test_a_width_below_1_is_refused() -> None:
    with pytest.raises(ValueError, match="width must be at least 1, found 0"):
        MonotoneNetwork(0)
