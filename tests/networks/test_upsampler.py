"""The network of a stage: it sees the smaller image where it belongs, knows its level, and goes through blocks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from langevin.networks.blocks import SIZE, InBlocks
from langevin.networks.unet import UNet
from langevin.networks.upsampler import BothLevels, LowResolution, Upsampler, enlarged

NOISE, LEVEL, LABELS = torch.tensor([0.1, 0.4, 0.7]), torch.tensor([0.0, 0.2, 0.3]), torch.tensor([0, 3, -1])


def upsampler(colours: int = 1) -> Upsampler:
    """With random numbers where it would start with zeros."""
    torch.manual_seed(0)
    network = Upsampler(UNet((colours, 8, 8), 8, (1, 2), 1, (4,), 10, channels_in=2 * colours))
    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():
                parameter.copy_(0.1 * torch.randn(parameter.shape))
    return network


def drawn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def test_gradient_reaches_every_parameter() -> None:
    network = upsampler(3)
    network(drawn(3, 3, 8, 8), NOISE, LowResolution(drawn(3, 3, 4, 4), LEVEL, LABELS)).square().sum().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_the_unet_reads_x_and_the_enlarged_image_beside_it() -> None:
    network, read = upsampler(3), []
    network.unet.stem.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0]))
    x, low = drawn(3, 3, 8, 8), drawn(3, 3, 2, 2)
    network(x, NOISE, LowResolution(low, LEVEL, LABELS))
    assert torch.equal(read[0][:, :3], x)
    assert torch.equal(read[0][:, 3:], enlarged(low, (8, 8)))


def test_enlarging_keeps_linear_ramps_in_place() -> None:
    """Block means of a ramp lie on it at the blocks' centres: enlarged, they are the ramp again, but for the edges."""
    ramp = (torch.arange(16.0)[:, None] + 3 * torch.arange(16.0)).expand(1, 1, 16, 16)
    low = nn.functional.avg_pool2d(ramp, 4)
    torch.testing.assert_close(enlarged(low, (16, 16))[..., 2:-2, 2:-2], ramp[..., 2:-2, 2:-2])


def test_image_level_and_label_matter_to_their_own_sample_only() -> None:
    network, x, low = upsampler(), drawn(3, 1, 8, 8), drawn(3, 1, 4, 4)
    told = LowResolution(low, LEVEL, LABELS)
    base = network(x, NOISE, told)
    other = torch.tensor([1.0, 0.0, 0.0])
    changes = [
        told._replace(image=low + other[:, None, None, None]),
        told._replace(level=LEVEL + 0.01 * other),
        told._replace(cond=LABELS + other.long()),
    ]
    for change in changes:
        changed = network(x, NOISE, change)
        assert not torch.allclose(changed[0], base[0], rtol=0, atol=1e-4)
        torch.testing.assert_close(changed[1:], base[1:], rtol=0, atol=1e-6)
    no_class = network(x, NOISE, told._replace(cond=torch.full((3,), -1)))
    torch.testing.assert_close(network(x, NOISE, told._replace(cond=None)), no_class)


def test_the_levels_embedding_is_added_to_the_noises() -> None:
    both = upsampler().unet.noise_embedding
    assert isinstance(both, BothLevels)
    expected = both.noise(NOISE) + both.augmentation(LEVEL)
    assert torch.equal(both(torch.stack([NOISE, LEVEL], dim=1)), expected)


def test_a_unet_without_room_for_the_image_is_refused() -> None:
    with pytest.raises(ValueError, match="makes 6 channels, the UNet reads 3"):
        Upsampler(UNet((3, 8, 8), 8, (1, 2), 1))


class Watched(nn.Module):
    """Writes down the conditions that it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[Any] = []

    def forward(self, x: Tensor, noise: Tensor, cond: Any) -> Tensor:
        self.told.append(cond)
        (image, level, label), (pair, nothing) = cond
        assert nothing is None
        return x * noise[:, None] + image.flatten(1).sum(1, keepdim=True) + level[:, None] * label[:, None] + pair


@pytest.mark.parametrize("count", [1, SIZE, SIZE + 1])
def test_nested_conditions_go_through_blocks(count: int) -> None:
    network = Watched()
    told = LowResolution(drawn(count, 1, 2, 2), torch.rand(count), torch.arange(count))
    inputs = drawn(count, 3), torch.rand(count), (told, (drawn(count, 1), None))
    found = InBlocks(network)(*inputs)
    assert all(type(low) is LowResolution and type(rest) is tuple for low, rest in network.told)
    assert {len(part) for low, _ in network.told for part in low} == {SIZE}
    assert len(network.told) == -(-count // SIZE)
    assert torch.equal(found, Watched()(*inputs))


@torch.no_grad()
def test_bits_do_not_depend_on_the_batch() -> None:
    blocked = InBlocks(upsampler())
    x, low, noise, level = drawn(40, 1, 8, 8), drawn(40, 1, 4, 4), torch.rand(40), torch.rand(40)
    labels = torch.arange(40) % 10
    whole = blocked(x, noise, LowResolution(low, level, labels))
    for part in (torch.tensor([7]), torch.arange(39, 3, -3)):
        found = blocked(x[part], noise[part], LowResolution(low[part], level[part], labels[part]))
        assert torch.equal(found, whole[part])
