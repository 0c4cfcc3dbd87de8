"""Costs are those of real networks: counted by hand, and measured where there is something to measure."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from langevin.networks.cost import GPUS, Cost, cost, cost_as_is
from langevin.networks.dit import DiT
from langevin.networks.layers import Attention
from langevin.networks.unet import UNet
from langevin.networks.upsampler import LowResolution, Upsampler


def unet(classes: int = 10) -> UNet:
    torch.manual_seed(0)
    return UNet((3, 16, 16), 16, (1, 2), 1, (8,), classes)


def inputs(count: int) -> tuple[Tensor, Tensor, Tensor]:
    return torch.randn(count, 3, 16, 16), torch.rand(count), torch.arange(count) % 10


def test_a_linear_layer_and_a_convolution_by_hand() -> None:
    """2 operations a product: in x out; kernel x kernel x in x out x pixels out. Both keep their input alone."""
    assert cost(nn.Linear(30, 20), torch.randn(4, 30)) == Cost(30 * 20 + 20, 2 * 30 * 20, 30 * 4)
    conv = nn.Conv2d(3, 8, 3, stride=2, padding=1)
    assert cost(conv, torch.randn(4, 3, 16, 16)) == Cost(3 * 8 * 9 + 8, 2 * 9 * 3 * 8 * 8 * 8, 3 * 16 * 16 * 4)


def test_attention_by_hand() -> None:
    """Projections of N tokens to 3 C and from C, and two products of N x N x C. No N x N matrix is kept."""
    channels, side = 16, 8
    tokens = side * side
    network = Attention(channels, 8)
    found = cost(network, torch.randn(2, channels, side, side))
    assert found.forward == 2 * tokens * channels * (3 * channels + channels) + 2 * 2 * tokens * tokens * channels
    heads, floats = 2, found.activations / 4
    assert floats < heads * tokens * tokens  # which a kept matrix of shares would be alone
    # x, its norm, q k v, what was mixed (by heads, and by pixels), a logarithm a query and head, 8 groups' moments
    assert floats <= tokens * channels * (1 + 1 + 3 + 2) + heads * tokens + 2 * 8


@pytest.mark.parametrize("classes", [0, 10])
def test_the_meta_device_counts_what_the_real_one_does(classes: int) -> None:
    network = unet(classes)
    found = cost(network, *inputs(4))
    assert found == cost_as_is(network, *inputs(4)) == cost(network, *inputs(2))
    assert found.parameters == sum(p.numel() for p in network.parameters())
    assert found.training == 3 * found.forward
    assert all(p.device.type == "cpu" and p.grad is None for p in network.parameters())  # and touches nothing


def test_frozen_weights_cost_no_training() -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    network[0].requires_grad_(False)
    found = cost(network, torch.randn(3, 4))
    assert (found.parameters, found.forward) == (10, 2 * (16 + 8))


def test_conditions_may_be_tuples() -> None:
    network = Upsampler(UNet((3, 16, 16), 16, (1, 2), 1, (8,), 10, channels_in=6))
    x, noise, labels = inputs(2)
    told = LowResolution(torch.randn(2, 3, 8, 8), torch.zeros(2), labels)
    found, plain = cost(network, x, noise, told), cost(unet(), x, noise, labels)
    assert found == cost_as_is(network, x, noise, told)
    assert found.forward - plain.forward == 2 * 9 * 3 * 16 * 256 + 2 * (64 * 64 + 64 * 64)  # the stem's and the level's


def test_activations_are_what_a_forward_pass_leaves_allocated() -> None:
    """The allocator's own account of the same pass: all that was taken and not given back, less the output."""
    network, given = unet(), inputs(16)
    network(*given)  # what is made once is made now
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        out = network(*given)
    left = sum(event.self_cpu_memory_usage for event in profiled.events()) - out.numel() * 4
    estimate = 16 * cost(network, *given).activations
    inputs_bytes = sum(part.numel() * part.element_size() for part in given)  # saved, and there before
    assert estimate - inputs_bytes == pytest.approx(left, rel=0.2)


def test_the_largest_transformer_is_priced_without_its_memory() -> None:
    """Peebles & Xie 2022, table 4: DiT-XL/2 at 32 x 32 x 4 has 675 M parameters and 118.64 G multiply-adds."""
    with torch.device("meta"):
        network = DiT((4, 32, 32), 2, 1152, 28, 16, 1000, channels_out=8)
        found = cost(network, torch.empty(1, 4, 32, 32), torch.empty(1), torch.empty(1, dtype=torch.int64))
    assert found.parameters == pytest.approx(675e6, rel=0.01)
    assert found.forward / 2 == pytest.approx(118.64e9, rel=0.01)


def test_dense_peaks_keep_their_order() -> None:
    for gpu in GPUS.values():
        rates = [gpu.peaks[name] for name in ("fp16", "bf16", "tf32", "fp32") if name in gpu.peaks]
        assert rates == sorted(rates, reverse=True)
        assert gpu.memory % 10**9 == 0
