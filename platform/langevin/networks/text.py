"""Texts as vectors, and networks that read them: a transformer over words, and attention from pixels to its tokens."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, pad

from langevin.networks.layers import Attention, Norm, Perceptron, ResidualBlock, Stage, TokenAttention, zeroed


class Text(NamedTuple):
    """What a network reads. tokens: (B, M, width); mask: (B, M) bool, true where there is a token, in every row
    somewhere; pooled: (B, width), the whole text in one vector.

    An encoder of texts is a module with a ``width``: encoder(captions, batch) -> Text of ``batch`` rows, captions: (B, L)
    int64 or None. A row without positive values, and None, is "no text".
    """

    tokens: Tensor
    mask: Tensor
    pooled: Tensor


class TextBlock(nn.Module):
    """Attention among a text's tokens, then a perceptron of each; both see a layer norm of their input (pre-norm)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm_attend, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attend, self.mlp = TokenAttention(width, heads), Perceptron(width)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        normed = self.norm_attend(tokens)
        tokens = tokens + self.attend(normed, normed, mask)
        out: Tensor = tokens + self.mlp(self.norm_mlp(tokens))
        return out


class TextEncoder(nn.Module):
    """A transformer over words of UTF-8. captions: (B, L) int64, bytes 1 .. 255 and padding <= 0 -> Text of M tokens.

    A token is a word, or each ``merge`` bytes of a longer one (see ``spelt``): a word is the same token wherever it stands
    and whatever stands beside it, so what is learnt of it holds in texts that were never read. Before the words stands a
    token that begins the text, or says that there is none; its last state is the pooled vector: M = 1 + length / 2, rounded
    up, the most words that ``length`` bytes can hold. A text is cut after ``length`` bytes, and padded to them always: how
    far it came padded does not show. Learned positions; heads divide width. ValueError for a merge below 2.
    """

    def __init__(self, width: int, layers: int, heads: int, length: int, merge: int = 8) -> None:
        super().__init__()
        if merge < 2:
            raise ValueError(f"words are spelt by 2 bytes a token or more, found {merge}")
        self.width, self.length, self.merge = width, length, merge
        self.bytes = nn.Embedding(256, width)  # the first is of no byte
        # "no text" and "here begins one", in one for a gradient to both
        self.first = nn.Parameter(torch.randn(2, width))
        self.words = nn.Linear(merge * width, width)
        self.positions = nn.Parameter(0.02 * torch.randn(-(-length // 2), width))
        self.layers = nn.ModuleList(TextBlock(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, captions: Tensor | None, batch: int) -> Text:
        if captions is None:
            captions = torch.zeros(batch, self.length, dtype=torch.int64, device=self.first.device)
        captions = pad(captions[:, : self.length], (0, max(self.length - captions.shape[1], 0)))
        cells = spelt(captions, self.merge)
        letters = self.bytes(cells) * (cells > 0)[..., None]
        words = gelu(self.words(letters.flatten(2))) + self.positions
        told = (captions > 0).any(dim=1)
        mask = torch.cat([torch.ones_like(told)[:, None], (cells > 0).any(dim=2)], dim=1)
        tokens = torch.cat([self.first[told.long()][:, None], words], dim=1)
        for layer in self.layers:
            tokens = layer(tokens, mask)
        tokens = self.norm(tokens)
        return Text(tokens * mask[:, :, None], mask, tokens[:, 0])


def spelt(captions: Tensor, merge: int) -> Tensor:
    """(B, L) int64 bytes as (B, L / 2 rounded up, merge): every word begins a row, a longer one than ``merge`` fills several.

    What stands between words (bytes up to 32, the space) is left out; 0 stands where there is no byte. merge: 2 or more,
    so that there are rows enough.
    """
    rows, length = captions.shape
    inside = captions > ord(" ")
    places = torch.arange(length, device=captions.device).expand(rows, length)
    before = torch.where(inside, -1, places).cummax(dim=1).values  # where the last byte outside of words was
    within = places - before - 1
    row = (inside & (within % merge == 0)).cumsum(dim=1) - 1
    most = -(-length // 2)
    # one place more than there are, for the bytes that are left out
    place = torch.where(inside, row * merge + within % merge, most * merge)
    cells = captions.new_zeros(rows, most * merge + 1).scatter(1, place, captions)
    return cells[:, :-1].reshape(rows, most, merge)


class TextAttention(nn.Module):
    """Attention among all pixels, then from each of them to a text's tokens. Rombach et al. 2022, section 3.3.

    x: (B, C, H, W) and a Text of ``width``. head_channels, norm: as Attention's. The text's branch starts as nothing.
    """

    def __init__(self, channels: int, width: int, head_channels: int | None, norm: Norm | None) -> None:
        super().__init__()
        self.pixels = Attention(channels, head_channels, norm)
        self.norm = norm(channels) if norm else nn.Identity()
        self.read = TokenAttention(channels, self.pixels.heads, width)
        zeroed(self.read.out)

    def forward(self, x: Tensor, text: Text) -> Tensor:
        x = self.pixels(x)
        pixels = self.norm(x).flatten(2).transpose(1, 2)
        read = self.read(pixels, text.tokens, text.mask)
        out: Tensor = x + read.transpose(1, 2).reshape(x.shape)
        return out


class TextStage(Stage):
    """A residual block and attention that reads."""

    def __init__(self, residual: ResidualBlock, attend: TextAttention) -> None:
        super().__init__(residual, attend)

    def forward(self, x: Tensor, embedding: Tensor, text: Text | None = None) -> Tensor:
        out: Tensor = self.attend(self.residual(x, embedding), text)
        return out


def one_condition(classes: int, text: nn.Module | None) -> int:
    """The width of the text's encoder, 0 for none. ValueError where a network would be told classes and a text."""
    if text is None:
        return 0
    if classes:
        raise ValueError(f"a network is told a text or one of its {classes} classes, not both")
    return int(text.width)  # type: ignore[arg-type]
