"""The diffusion transformer: the paper's sizes, what it starts as, and what it depends on."""

from __future__ import annotations

import math
from typing import Any, TypeVar

import pytest
import torch
from torch import Tensor, nn

from langevin.networks.blocks import InBlocks
from langevin.networks.dit import SIZES, DiT, DiTBlock, sincos
from langevin.networks.text import Text, TextEncoder

Kind = TypeVar("Kind", bound=nn.Module)
SHAPE = (3, 8, 4)
NOISE, LABELS = torch.tensor([0.1, 0.4, 0.7, 1.0]), torch.tensor([0, 3, 9, -1])
CAPTIONS = torch.tensor([[97, 98, 0], [97, 0, 0], [0, 0, 0], [120, 121, 122]])


def awake(module: Kind) -> Kind:
    """The module with random numbers where it starts with zeros."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            if not parameter.any():
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    return module


def dit(**changes: Any) -> DiT:
    torch.manual_seed(0)
    return DiT(SHAPE, **{"patch": 2, "width": 16, "depth": 2, "heads": 2, "classes": 10} | changes)


def reader() -> DiT:
    torch.manual_seed(0)
    return dit(classes=0, text=TextEncoder(8, 1, 2, 3))


def images(count: int) -> Tensor:
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize(("name", "millions"), [("S", 33), ("B", 130), ("L", 458), ("XL", 675)])
def test_the_papers_sizes(name: str, millions: int) -> None:
    """Table 1 and section 4, to 1 %: latents of 32 x 32, 1000 classes, a learned variance."""
    with torch.device("meta"):
        network = DiT((4, 32, 32), 2, **SIZES[name]._asdict(), classes=1000, channels_out=8)
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(millions, rel=0.01)


@pytest.mark.parametrize("network", [dit(), dit(classes=0), dit(channels_in=5, channels_out=6), reader()])
def test_gradient_reaches_every_parameter(network: DiT) -> None:
    awake(network)
    x = torch.randn(4, network.channels_in, *SHAPE[1:], generator=torch.Generator().manual_seed(2))
    out = network(x, NOISE, CAPTIONS if network.text is not None else LABELS)
    assert out.shape == (4, network.channels_out, *SHAPE[1:])
    out.square().sum().backward()
    still = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []


def test_it_starts_as_zero_and_its_blocks_as_the_identity() -> None:
    network = reader()
    assert not network(images(4), NOISE, CAPTIONS).any()
    tokens, text = torch.randn(2, 5, 16), Text(torch.randn(2, 3, 8), torch.ones(2, 3).bool(), torch.randn(2, 8))
    for block in network.blocks:
        assert torch.equal(block(tokens, torch.randn(2, 16), text), tokens)


def test_a_texts_encoder_keeps_its_weights() -> None:
    torch.manual_seed(5)
    encoder = TextEncoder(8, 1, 2, 3)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    dit(classes=0, text=encoder)
    assert all(torch.equal(before[name], value) for name, value in encoder.state_dict().items())


def test_a_block_written_out() -> None:
    """x + gate attention(norm(x) (1 + scale) + shift), and the same with the perceptron. Figure 3."""
    torch.manual_seed(0)
    block = awake(DiTBlock(8, 2))
    x, embedding = torch.randn(2, 5, 8), torch.randn(2, 8)
    shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = block.modulation(embedding).reshape(2, 6, 1, 8).unbind(1)

    def standardised(h: Tensor) -> Tensor:
        return (h - h.mean(2, keepdim=True)) / (h.var(2, correction=0, keepdim=True) + 1e-6).sqrt()

    h = standardised(x) * (1 + scale_1) + shift_1
    middle = x + gate_1 * block.attend(h, h)
    expected = middle + gate_2 * block.mlp(standardised(middle) * (1 + scale_2) + shift_2)
    torch.testing.assert_close(block(x, embedding, None), expected, rtol=1e-4, atol=1e-5)


def test_positions_are_sines_of_the_column_and_of_the_row() -> None:
    found = sincos(3, 5, 8).reshape(3, 5, 8)
    for row, column in ((0, 0), (2, 1), (1, 4)):
        waves = [f(place * 10000 ** (-k / 2)) for place in (column, row) for f in (math.sin, math.cos) for k in (0, 1)]
        torch.testing.assert_close(found[row, column], torch.tensor(waves))


def test_a_patchs_pixels_come_out_where_they_went_in() -> None:
    """With no blocks, and layers that copy: the image itself, each patch normalised by itself."""
    network = dit(depth=0, width=12, heads=1, classes=0)
    nn.init.zeros_(network.get_buffer("positions"))
    with torch.no_grad():
        network.patches.weight.copy_(torch.eye(12).reshape(12, 3, 2, 2))
        # tokens carry (channel, row, column), the head gives (row, column, channel)
        network.head.weight.copy_(torch.eye(12).reshape(3, 2, 2, 12).permute(1, 2, 0, 3).reshape(12, 12))
        found = network(images(2), NOISE[:2])
    patches = images(2).unfold(2, 2, 2).unfold(3, 2, 2)  # (B, C, rows, columns, 2, 2)
    mean = patches.mean((1, 4, 5), keepdim=True)
    deviation = (patches.var((1, 4, 5), correction=0, keepdim=True) + 1e-6).sqrt()
    torch.testing.assert_close(
        found.unfold(2, 2, 2).unfold(3, 2, 2), (patches - mean) / deviation, rtol=1e-4, atol=1e-5
    )


def test_every_pixel_sees_every_other() -> None:
    network, x = awake(dit()), images(1).requires_grad_()
    (slope,) = torch.autograd.grad(network(x, NOISE[:1], None)[0, 0, 7, 3], x)
    assert bool(slope.all())


def test_noise_and_class_matter() -> None:
    network = awake(dit())
    base = network(images(4), NOISE, LABELS)
    assert not torch.allclose(base, network(images(4), NOISE - 0.01, LABELS), atol=1e-5)
    changed = network(images(4), NOISE, torch.tensor([1, 3, 9, -1]))
    assert not torch.allclose(base[0], changed[0], atol=1e-5)
    assert torch.equal(base[1:], changed[1:])
    assert torch.equal(network(images(4), NOISE, None), network(images(4), NOISE, torch.full((4,), -1)))


@pytest.mark.parametrize("silenced", ["text_projection", "read"])
def test_text_matters_by_its_tokens_and_by_its_pooled_vector(silenced: str) -> None:
    network = awake(reader())
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if silenced in name:
                parameter.zero_()
    base = network(images(4), NOISE, CAPTIONS)
    changed = network(images(4), NOISE, torch.cat([torch.tensor([[97, 99, 0]]), CAPTIONS[1:]]))
    assert not torch.allclose(base[0], changed[0], atol=1e-5)
    assert torch.equal(base[1:], changed[1:])
    none = network(images(4), NOISE, torch.full((4, 2), -1))
    assert torch.equal(network(images(4), NOISE, None), none)


def test_bits_do_not_depend_on_the_batch_in_blocks() -> None:
    network, x = InBlocks(awake(reader()).eval()), torch.randn(40, *SHAPE)
    noise, given = torch.rand(40), CAPTIONS.repeat(10, 1)
    with torch.no_grad():
        whole = network(x, noise, given)
        for part in (torch.tensor([7]), torch.arange(39, 3, -2)):
            assert torch.equal(network(x[part], noise[part], given[part]), whole[part])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patch": 3}, "patches of 3 pixels do not divide an image of 8 x 4"),
        ({"heads": 3}, "3 heads do not divide a width of 16"),
        ({"width": 18}, "channels in fours, found 18"),
        ({"text": TextEncoder(8, 1, 2, 3)}, "a text or one of its 10 classes"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dit(**changes)
