"""The UNet: what it starts as, what it depends on, and that all of it learns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import pytest
import torch
from torch import Tensor, nn

from langevin.networks.embeddings import ClassEmbedding, NoiseEmbedding
from langevin.networks.layers import AdditiveBlock, Attention, CornerDownsample, Downsample, ResidualBlock
from langevin.networks.unet import Anatomy, UNet

Kind = TypeVar("Kind", bound=nn.Module)


def awake(module: Kind) -> Kind:
    """The module with random numbers where it starts with zeros, so that every branch does something."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            if not parameter.any():
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    return module


def unet(
    shape: tuple[int, int, int] = (1, 8, 8),
    channels: int = 8,
    multipliers: Sequence[int] = (1, 2),
    blocks: int = 1,
    attention: Sequence[int] = (4,),
    classes: int = 10,
) -> UNet:
    torch.manual_seed(0)
    return UNet(shape, channels, multipliers, blocks, attention, classes)


def images(count: int, shape: tuple[int, int, int] = (1, 8, 8)) -> Tensor:
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(2))


NOISE, LABELS = torch.tensor([0.1, 0.4, 0.7, 1.0]), torch.tensor([0, 3, 9, -1])


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((1, 8, 8), {}),
        ((3, 16, 16), {"multipliers": (1, 2, 3), "blocks": 2, "attention": (4, 8)}),
        ((1, 8, 8), {"multipliers": (1,), "attention": ()}),
        ((1, 8, 8), {"channels": 12, "attention": (8,), "classes": 0}),
        ((2, 4, 4), {"channels": 5, "multipliers": (1, 1, 2), "attention": (1, 2)}),
        ((1, 8, 8), {"channels": 192, "multipliers": (1,), "attention": (8,)}),
    ],
)
def test_gradient_reaches_every_parameter(shape: tuple[int, int, int], options: dict[str, Any]) -> None:
    network = awake(unet(shape, **options))
    labels = None if options.get("classes") == 0 else LABELS
    network(images(4, shape), NOISE, labels).square().sum().backward()
    still = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []


def test_it_starts_as_zero() -> None:
    """The last convolution and every residual branch: an untrained network says nothing."""
    assert not unet()(images(4), NOISE, LABELS).any()
    block = ResidualBlock(8, 8, 16)
    x = torch.randn(2, 8, 4, 4)
    assert torch.equal(block(x, torch.randn(2, 16)), x)
    assert torch.equal(Attention(8)(x), x)


def test_a_sample_does_not_depend_on_its_neighbours() -> None:
    network = awake(unet())
    whole = network(images(4), NOISE, LABELS)
    for index in range(4):
        alone = network(images(4)[index : index + 1], NOISE[index : index + 1], LABELS[index : index + 1])
        torch.testing.assert_close(alone, whole[index : index + 1], rtol=1e-4, atol=1e-5)


def test_noise_and_class_matter() -> None:
    network = awake(unet())
    base = network(images(4), NOISE, LABELS)
    assert not torch.allclose(base, network(images(4), NOISE - 0.001, LABELS), atol=1e-6)
    changed = network(images(4), NOISE, torch.tensor([1, 3, 9, -1]))
    assert not torch.allclose(base[0], changed[0], atol=1e-5)
    assert torch.equal(base[1:], changed[1:])


def test_none_is_the_class_minus_1() -> None:
    network = awake(unet())
    assert torch.equal(network(images(4), NOISE, None), network(images(4), NOISE, torch.full((4,), -1)))


def test_every_pixel_sees_every_other_through_attention() -> None:
    """Attention at 8 x 8 without any downsampling: a change in one corner moves the other."""

    def reach(attention: Sequence[int]) -> bool:
        network = awake(unet(multipliers=(1,), attention=attention))
        x = images(1)
        moved = x.clone()
        moved[0, 0, 0, 0] += 10
        network(x, NOISE[:1], None)
        far = [network(v, NOISE[:1], None)[0, 0, 7, 7].item() for v in (x, moved)]
        return abs(far[0] - far[1]) > 1e-6

    assert reach((8,))


def test_skips_carry_details_past_the_bottleneck() -> None:
    """With the middle silenced the output still knows the input, pixel by pixel."""
    network = awake(unet())
    network.middle[-1].register_forward_hook(lambda module, given, out: 0 * out)
    x = images(1).requires_grad_()
    network(x, NOISE[:1], None).square().sum().backward()
    assert x.grad is not None
    assert bool(x.grad.all())


def test_attention_is_softmax_of_scaled_products() -> None:
    """Written out for one head: x + W_o (softmax(q k / sqrt d) v)."""
    attention = awake(Attention(8))
    x = torch.randn(2, 8, 3, 3, generator=torch.Generator().manual_seed(3))
    q, k, v = attention.qkv(attention.norm(x)).flatten(2).chunk(3, dim=1)
    share = torch.softmax(q.transpose(1, 2) @ k / 8**0.5, dim=-1)
    expected = x + attention.out((v @ share.transpose(1, 2)).reshape(2, 8, 3, 3))
    torch.testing.assert_close(attention(x), expected, rtol=1e-4, atol=1e-5)


def test_heads_attend_apart() -> None:
    """Two heads are two attentions of half the channels each."""
    attention = awake(Attention(8, head_channels=4))
    x = torch.randn(2, 8, 3, 3, generator=torch.Generator().manual_seed(3))
    q, k, v = (part.unflatten(1, (2, 4)) for part in attention.qkv(attention.norm(x)).flatten(2).chunk(3, dim=1))
    mixed = [
        v[:, head] @ torch.softmax(q[:, head].transpose(1, 2) @ k[:, head] / 2, dim=-1).transpose(1, 2)
        for head in (0, 1)
    ]
    expected = x + attention.out(torch.cat(mixed, dim=1).reshape(2, 8, 3, 3))
    torch.testing.assert_close(attention(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("channels", "most", "heads"), [(32, 64, 1), (64, 64, 1), (128, 64, 2), (96, 64, 2), (96, None, 1)]
)
def test_heads_have_at_most_so_many_channels(channels: int, most: int | None, heads: int) -> None:
    assert Attention(channels, most).heads == heads


def test_one_head_size_and_one_group_count_for_the_whole_network() -> None:
    network = UNet((1, 8, 8), 12, (1, 2, 8), 1, (8, 2))  # 12 and 96 channels attend
    attentions = [module for module in network.modules() if isinstance(module, Attention)]
    assert {module.out.in_channels for module in attentions} == {12, 96}
    assert {module.out.in_channels // module.heads for module in attentions} == {12}
    assert {module.num_groups for module in network.modules() if isinstance(module, nn.GroupNorm)} == {4}


def test_the_embedding_scales_and_shifts() -> None:
    """AdaGN: norm(h) (1 + scale) + shift, then SiLU and the second convolution. Dhariwal & Nichol 2021, eq. 3."""
    block = awake(ResidualBlock(8, 12, 16))
    x, embedding = torch.randn(2, 8, 4, 4), torch.randn(2, 16)
    scale, shift = block.modulation(embedding)[:, :, None, None].chunk(2, dim=1)
    h = block.norm_out(block.conv_in(nn.functional.silu(block.norm_in(x)))) * (1 + scale) + shift
    expected = block.skip(x) + block.conv_out(nn.functional.silu(h))
    torch.testing.assert_close(block(x, embedding), expected, rtol=1e-5, atol=1e-5)


def test_the_embedding_is_added_before_the_norm() -> None:
    """Ho et al. 2020's block: norm(h + shift), then SiLU and the second convolution."""
    block = awake(AdditiveBlock(8, 12, 16))
    x, embedding = torch.randn(2, 8, 4, 4), torch.randn(2, 16)
    h = block.norm_out(
        block.conv_in(nn.functional.silu(block.norm_in(x))) + block.modulation(embedding)[:, :, None, None]
    )
    expected = block.skip(x) + block.conv_out(nn.functional.silu(h))
    torch.testing.assert_close(block(x, embedding), expected, rtol=1e-5, atol=1e-5)


def test_half_the_resolution_reads_around_the_pixel_or_to_its_right() -> None:
    """Output (1, 1) sees rows and columns 1 to 3 with zeros all around, 2 to 4 with zeros in the last corner only."""
    for kind, seen in ((Downsample, [1, 2, 3]), (CornerDownsample, [2, 3, 4])):
        x = torch.zeros(1, 1, 6, 6, requires_grad=True)
        awake(kind(1))(x, torch.empty(0))[0, 0, 1, 1].backward()
        assert x.grad is not None
        assert x.grad[0, 0].nonzero().unique().tolist() == seen
        assert awake(kind(1))(x, torch.empty(0)).shape == (1, 1, 3, 3)


def test_the_middle_is_two_blocks_round_attention() -> None:
    for attention, kinds in (((4,), [Attention, nn.Identity]), ((8,), [nn.Identity, nn.Identity])):
        network = unet(attention=attention)
        assert [type(stage.attend) for stage in network.middle] == kinds


@pytest.mark.parametrize("anatomy", [Anatomy(AdditiveBlock, CornerDownsample), Anatomy(width=20, steps=50, shift=0)])
def test_other_channels_and_parts(anatomy: Anatomy) -> None:
    """More channels in (features, a velocity) and out (a second head) than the image has, all of which matter."""
    torch.manual_seed(0)
    network = awake(UNet((3, 8, 8), 8, (1, 2), 1, (4,), channels_in=5, channels_out=6, anatomy=anatomy))
    x = images(2, (5, 8, 8)).requires_grad_()
    out = network(x, NOISE[:2], None)
    assert out.shape == (2, 6, 8, 8)
    out.square().sum().backward()
    assert x.grad is not None
    assert bool(x.grad.flatten(2).any(-1).all())
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_noise_is_told_in_the_sinusoids_of_a_thousand_steps() -> None:
    """Ho et al. 2020's code, in float64: sin and cos of t x 10000^(-k / (n - 1)), t = 1 .. 1000; ours is told t / 1000."""
    t, n = torch.arange(1, 1001), 16
    embedding = NoiseEmbedding(2 * n, 2 * n)
    embedding.mlp = nn.Sequential(nn.Identity())
    angles = t.double()[:, None] * 10000.0 ** (-torch.arange(n).double() / (n - 1))
    expected = torch.cat([angles.sin(), angles.cos()], dim=1)
    torch.testing.assert_close(embedding(t / 1000).double(), expected, rtol=0, atol=2e-4)
    assert not embedding.state_dict()  # a constant is no weight


def test_noise_embeddings_tell_neighbouring_levels_of_a_thousand_apart() -> None:
    embedding = NoiseEmbedding(32, 32)
    embedding.mlp = nn.Sequential(nn.Identity())
    waves = embedding((torch.arange(1001).double() / 1000).float())
    apart = torch.cdist(waves, waves) + 10 * torch.eye(1001)
    assert float(apart.min()) > 0.5


@pytest.mark.parametrize("noise", [-1.6, 1.1, 0.0])
def test_noise_may_be_any_number(noise: float) -> None:
    """ln(sigma) / 4, say. Neighbours 1e-3 apart stay apart."""
    embedding = NoiseEmbedding(32)
    found = embedding(torch.tensor([noise, noise + 1e-3])).detach()
    assert torch.isfinite(found).all()
    assert float((found[0] - found[1]).abs().max()) > 1e-3


def test_classes_have_vectors_of_their_own() -> None:
    embedding = ClassEmbedding(10, 4)
    labels = torch.tensor([3, -1, 0, 9])
    found = embedding(labels, 4)
    assert len(torch.cat([found, embedding(torch.arange(10), 10)]).unique(dim=0)) == 11
    assert torch.equal(found[1], embedding(None, 1)[0])
