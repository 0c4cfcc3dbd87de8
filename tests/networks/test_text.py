"""Texts as vectors, and a UNet that reads them."""

from __future__ import annotations

from typing import TypeVar

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from langevin.networks.blocks import InBlocks
from langevin.networks.layers import Attention, Norm, TokenAttention
from langevin.networks.text import Text, TextAttention, TextEncoder, spelt
from langevin.networks.unet import UNet

Kind = TypeVar("Kind", bound=nn.Module)
LENGTH = 12
TEXTS = ("a cat", "zwölf Boot", "", "a cap")


def captions(*texts: str, length: int = LENGTH) -> Tensor:
    rows = [list(text.encode()) for text in texts]
    return torch.tensor([row[:length] + [0] * (length - len(row)) for row in rows])


def awake(module: Kind) -> Kind:
    """The module with random numbers where it starts with zeros."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            if not parameter.any():
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    return module


def encoder(length: int = LENGTH) -> TextEncoder:
    torch.manual_seed(0)
    return awake(TextEncoder(16, 2, 4, length))


def unet(attention: tuple[int, ...] = (4,)) -> UNet:
    return UNet((1, 8, 8), 8, (1, 2), 1, attention, text=encoder())


def images(count: int) -> Tensor:
    return torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(2))


NOISE = torch.tensor([0.1, 0.4, 0.7, 1.0])


def test_how_far_a_text_is_padded_does_not_show() -> None:
    """By zeros or by -1, on to the length or beyond it: the same bits."""
    read, given = encoder(), captions(*TEXTS)
    expected = read(given, 4)
    for other in (given[:, :11], pad(given, (0, 5)), given.masked_fill(given == 0, -1)):
        for found, wanted in zip(read(other, 4), expected, strict=True):
            assert torch.equal(found, wanted)


def test_padding_is_masked_and_empty() -> None:
    text = encoder()(captions("ab", ""), 2)
    assert text.mask.sum(dim=1).tolist() == [2, 1]  # what begins it, and its word
    assert text.tokens.shape == (2, LENGTH // 2 + 1, 16)
    assert torch.equal(text.tokens.any(dim=2), text.mask)
    assert torch.equal(text.pooled, text.tokens[:, 0])


def test_a_text_does_not_depend_on_its_batch() -> None:
    read, given = encoder(), captions(*TEXTS)
    whole = read(given, 4)
    for index in range(4):
        alone = read(given[index : index + 1], 1)
        torch.testing.assert_close(alone.tokens[0], whole.tokens[index])
        torch.testing.assert_close(alone.pooled[0], whole.pooled[index])


def test_none_and_dropped_rows_are_no_text() -> None:
    read = encoder()
    expected = read(captions("", "", ""), 3)
    for found in (read(None, 3), read(torch.full((3, 5), -1), 3), read(torch.zeros(3, 0, dtype=torch.int64), 3)):
        for one, wanted in zip(found, expected, strict=True):
            assert torch.equal(one, wanted)
    assert not torch.allclose(expected.pooled[0], read(captions("a"), 1).pooled[0], atol=1e-3)


def test_every_byte_and_its_place_matter_up_to_the_length() -> None:
    read = encoder()
    pooled = read(captions("abc", "acb", "abd", "ab"), 4).pooled
    assert float(torch.pdist(pooled.detach()).min()) > 1e-3
    long, longer = captions("x" * LENGTH), captions("x" * LENGTH + "y", length=LENGTH + 1)
    assert torch.equal(read(long, 1).pooled, read(longer, 1).pooled)


def words_of(text: str, merge: int) -> list[str]:
    """By the standard library: words, the long ones in pieces."""
    return [word[at : at + merge] for word in text.split() for at in range(0, len(word), merge)]


@pytest.mark.parametrize("merge", [2, 3, 8])
@pytest.mark.parametrize("text", ["a small red circle on grey", " two  spaces ", "a b c d e f g", "x" * 27, "", "a\tb"])
def test_every_word_begins_a_token(text: str, merge: int) -> None:
    given = captions(text, "a", length=27)
    rows = ["".join(chr(byte) for byte in row if byte) for row in spelt(given, merge)[0].tolist()]
    found = words_of(text, merge)
    assert rows == found + [""] * (14 - len(found))
    assert torch.equal(spelt(given.masked_fill(given == 0, -1), merge), spelt(given, merge))


def test_a_word_is_the_same_token_wherever_it_stands() -> None:
    """But for its position, which is learnt: nothing of its neighbours, nothing of how far in the text its bytes are."""
    read = TextEncoder(16, 0, 4, 24)
    with torch.no_grad():
        read.positions.zero_()
    text = read(captions("red square", "a yellow square", length=24), 2)
    assert torch.equal(text.tokens[0, 2], text.tokens[1, 3])


def test_a_byte_a_token_is_refused() -> None:
    with pytest.raises(ValueError, match="2 bytes a token or more, found 1"):
        TextEncoder(16, 1, 4, 24, merge=1)


def test_token_attention_written_out() -> None:
    attend = TokenAttention(8, 2, context=6)
    x, context = torch.randn(3, 5, 8), torch.randn(3, 4, 6)
    mask = torch.tensor([[1, 1, 1, 1], [1, 0, 1, 0], [0, 1, 0, 0]]).bool()
    q, (k, v) = attend.query(x), attend.key_value(context).chunk(2, dim=2)
    mixed = []
    for head in (slice(0, 4), slice(4, 8)):
        logits = q[..., head] @ k[..., head].transpose(1, 2) / 2
        mixed.append(logits.masked_fill(~mask[:, None], -torch.inf).softmax(dim=2) @ v[..., head])
    torch.testing.assert_close(attend(x, context, mask), attend.out(torch.cat(mixed, dim=2)), rtol=1e-4, atol=1e-5)


def test_heads_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match="3 heads do not divide a width of 8"):
        TokenAttention(8, 3)


def test_reading_starts_as_nothing_and_then_looks_at_tokens_that_are_there() -> None:
    torch.manual_seed(0)
    attend = TextAttention(8, 16, 4, Norm(4))
    awake(attend.pixels)
    x, text = torch.randn(2, 8, 3, 3), encoder()(captions("ab", ""), 2)
    assert torch.equal(attend(x, text), attend.pixels(x))
    awake(attend)
    there = attend(x, text)
    assert not torch.allclose(there, attend.pixels(x), atol=1e-3)
    hidden = Text(text.tokens + 5 * ~text.mask[:, :, None], text.mask, text.pooled)
    assert torch.equal(attend(x, hidden), there)


def test_gradient_reaches_every_parameter_of_a_unet_that_reads() -> None:
    network = awake(unet())
    network(images(4), NOISE, captions(*TEXTS)).square().sum().backward()
    still = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []


@pytest.mark.parametrize("attention", [(4,), ()])
def test_a_unet_knows_what_its_own_text_says(attention: tuple[int, ...]) -> None:
    """With attention and, by the pooled vector, without."""
    network, given = awake(unet(attention)), captions(*TEXTS)
    base = network(images(4), NOISE, given)
    other = network(images(4), NOISE, torch.cat([captions("a dog"), given[1:]]))
    assert not torch.allclose(base[0], other[0], atol=1e-4)
    assert torch.equal(base[1:], other[1:])
    assert torch.equal(network(images(4), NOISE, None), network(images(4), NOISE, torch.full((4, 3), -1)))


def test_tokens_reach_the_image_where_it_attends() -> None:
    """Not through the pooled vector, which is silenced."""
    network = awake(unet())
    nn.init.zeros_(network.text_projection.weight)  # type: ignore[union-attr]
    base, other = (network(images(1), NOISE[:1], captions(text)) for text in ("a cat", "a cap"))
    assert not torch.allclose(base, other, atol=1e-5)


def test_a_reading_unet_starts_from_the_one_that_does_not() -> None:
    """The same network but for what reads: with the text silenced, shared weights give the same image."""
    reads, plain = awake(unet()), UNet((1, 8, 8), 8, (1, 2), 1, (4,))
    with torch.no_grad():
        for module in (reads.text_projection, *(m.read.out for m in reads.modules() if isinstance(m, TextAttention))):
            for parameter in module.parameters():  # type: ignore[union-attr]
                parameter.zero_()
    weights = {
        name.replace(".pixels.", "."): value
        for name, value in reads.state_dict().items()
        if ".attend.norm." not in name
    }
    plain.load_state_dict({name: weights[name] for name in plain.state_dict()})
    assert torch.equal(reads(images(4), NOISE, captions(*TEXTS)), plain(images(4), NOISE))


def test_without_a_text_it_is_the_unet_that_it_was() -> None:
    network = UNet((1, 8, 8), 8, (1, 2), 1, (4,), 10)
    assert [name for name in network.state_dict() if "text" in name or "read" in name or "pixels" in name] == []
    assert {type(stage.attend) for stage in (network.middle[0], network.down[2])} == {Attention}


def test_a_text_and_classes_are_refused() -> None:
    with pytest.raises(ValueError, match="a text or one of its 10 classes"):
        UNet((1, 8, 8), 8, (1,), 1, (), 10, text=encoder())


def test_bits_do_not_depend_on_the_batch_in_blocks() -> None:
    network, x = InBlocks(awake(unet()).eval()), torch.randn(40, 1, 8, 8)
    noise, given = torch.rand(40), captions(*TEXTS).repeat(10, 1)
    with torch.no_grad():
        whole = network(x, noise, given)
        for part in (torch.tensor([7]), torch.arange(39, 3, -2)):
            assert torch.equal(network(x[part], noise[part], given[part]), whole[part])
