"""Blocks of one size: a sample's bits are its own, whoever shares its batch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from langevin.networks.blocks import SIZE, InBlocks
from langevin.networks.unet import UNet


class Watched(nn.Module):
    """Writes down the sizes of the batches it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def forward(self, x: Tensor, noise: Tensor, cond: Tensor | None) -> Tensor:
        self.sizes.append(len(x))
        shift = 0 if cond is None else cond[:, None]
        return x * noise[:, None] + shift


@pytest.mark.parametrize("count", [1, SIZE - 1, SIZE, SIZE + 1, 3 * SIZE])
@pytest.mark.parametrize("conditional", [True, False])
def test_the_network_sees_one_size_and_the_caller_the_answer(count: int, conditional: bool) -> None:
    network = Watched()
    x, noise = torch.randn(count, 3), torch.rand(count)
    cond = torch.arange(count) if conditional else None
    found = InBlocks(network)(x, noise, cond)
    assert set(network.sizes) == {SIZE}
    assert len(network.sizes) == -(-count // SIZE)
    assert torch.equal(found, Watched()(x, noise, cond))


def test_bits_do_not_depend_on_the_batch() -> None:
    """The real UNet: any part of a batch, in any order, has the bits that the whole has."""
    torch.manual_seed(0)
    network = UNet((1, 8, 8), 16, (1, 2), 1, (4,), 10)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    blocked = InBlocks(network).eval()
    x, noise, cond = torch.randn(100, 1, 8, 8), torch.rand(100), torch.arange(100) % 10
    with torch.no_grad():
        whole = blocked(x, noise, cond)
        for part in (torch.tensor([7]), torch.arange(99, 30, -2), torch.arange(50), torch.tensor([3, 98, 41])):
            assert torch.equal(blocked(x[part], noise[part], cond[part]), whole[part])


def test_gradients_run_through_blocks() -> None:
    x = torch.randn(SIZE + 5, 3, requires_grad=True)
    noise = torch.rand(SIZE + 5)
    (slope,) = torch.autograd.grad(InBlocks(Watched())(x, noise, None).sum(), x)
    torch.testing.assert_close(slope, noise[:, None].expand(-1, 3))
