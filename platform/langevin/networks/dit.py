"""The diffusion transformer (Peebles & Xie 2022, "Scalable diffusion models with transformers")."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, silu

from langevin.networks.embeddings import ClassEmbedding, NoiseEmbedding
from langevin.networks.layers import Perceptron, TokenAttention, zeroed
from langevin.networks.text import Text, one_condition


class Size(NamedTuple):
    depth: int
    width: int
    heads: int


# Table 1: DiT(shape, patch, **SIZES["XL"]._asdict())
SIZES: Mapping[str, Size] = {
    "S": Size(12, 384, 6),
    "B": Size(12, 768, 12),
    "L": Size(24, 1024, 16),
    "XL": Size(28, 1152, 16),
}


def sincos(height: int, width: int, channels: int) -> Tensor:
    """Positions of a grid as (height x width, channels): half for the column, half for the row, each sines and cosines.

    Of place x 10000^(-k / n), k = 0 .. n - 1, n = channels / 4, as in their code (He et al. 2021).
    """
    if channels % 4:
        raise ValueError(f"positions in two dimensions need channels in fours, found {channels}")
    frequencies = 10000 ** (-torch.arange(channels // 4, dtype=torch.float64) / (channels // 4))
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    angles = [places.flatten()[:, None] * frequencies for places in (columns, rows)]
    return torch.cat([wave(angle) for angle in angles for wave in (torch.sin, torch.cos)], dim=1).float()


def normed(tokens: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Layer norm without weights of its own, times 1 + scale, plus shift. tokens: (B, N, width), the others (B, 1, width)."""
    return torch.addcmul(shift, layer_norm(tokens, tokens.shape[-1:], eps=1e-6), 1 + scale)


class DiTBlock(nn.Module):
    """Attention and a perceptron, each scaled, shifted and gated by the embedding (adaLN-Zero). Section 3.2.

    tokens: (B, N, width), embedding: (B, width). Between the two every token reads the text, width ``read``, if there is
    one (as Chen et al. 2023, PixArt-alpha, section 2.3). It starts as the identity: gates and the reading are zero.
    """

    def __init__(self, width: int, heads: int, read: int = 0) -> None:
        super().__init__()
        self.attend, self.mlp = TokenAttention(width, heads), Perceptron(width)
        self.read = TokenAttention(width, heads, read) if read else None
        self.modulation = nn.Linear(width, 6 * width)

    def forward(self, tokens: Tensor, embedding: Tensor, text: Text | None) -> Tensor:
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = self.modulation(embedding)[:, None].chunk(6, dim=2)
        h = normed(tokens, scale_1, shift_1)
        tokens = tokens + gate_1 * self.attend(h, h)
        if self.read is not None and text is not None:
            h = layer_norm(tokens, tokens.shape[-1:], eps=1e-6)
            tokens = tokens + self.read(h, text.tokens, text.mask)
        out: Tensor = tokens + gate_2 * self.mlp(normed(tokens, scale_2, shift_2))
        return out


class DiT(nn.Module):
    """network(x, noise, cond): x (B, C, H, W), noise (B,), cond (B,) int64 labels, -1 or None for "no class", or with an
    encoder of texts (B, L) int64 captions, rows without positive values or None for "no text".

    patch: the side of a token in pixels, which divides H and W; classes: 0 for none; text: an encoder (networks/text.py);
    channels_in, channels_out: the image's, unless said (twice as many out for a learned variance). ValueError for a patch
    or heads that do not divide, and for classes and a text.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        patch: int,
        width: int,
        depth: int,
        heads: int,
        classes: int = 0,
        text: nn.Module | None = None,
        channels_in: int | None = None,
        channels_out: int | None = None,
    ) -> None:
        super().__init__()
        colours, height, across = image_shape
        if height % patch or across % patch:
            raise ValueError(f"patches of {patch} pixels do not divide an image of {height} x {across}")
        self.image_shape, self.patch, self.classes = image_shape, patch, classes
        self.channels_in, self.channels_out = channels_in or colours, channels_out or colours
        read = one_condition(classes, text)
        self.patches = nn.Conv2d(self.channels_in, width, patch, stride=patch)
        self.register_buffer("positions", sincos(height // patch, across // patch, width), persistent=False)
        self.noise_embedding = NoiseEmbedding(width, waves=256, shift=0)
        self.class_embedding = ClassEmbedding(classes, width) if classes else None
        self.text_projection = nn.Linear(read, width) if read else None
        self.blocks = nn.ModuleList(DiTBlock(width, heads, read) for _ in range(depth))
        self.modulation = nn.Linear(width, 2 * width)
        self.head = nn.Linear(width, patch**2 * self.channels_out)
        self._initialise()
        self.text = text  # after the rest: its weights are its own

    @torch.no_grad()
    def _initialise(self) -> None:
        """As in their code: Xavier's uniform, 0.02 for embeddings, zero for what modulates, reads and comes out."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                nn.init.xavier_uniform_(module.weight.flatten(1))  # a view: a convolution of patches is a linear layer
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
        for linear in (layer for layer in self.noise_embedding.mlp if isinstance(layer, nn.Linear)):
            nn.init.normal_(linear.weight, std=0.02)
        if self.class_embedding is not None:
            nn.init.normal_(self.class_embedding.table.weight, std=0.02)
        for module in self.modules():
            if isinstance(module, DiTBlock):
                zeroed(module.modulation)
                if module.read is not None:
                    zeroed(module.read.out)
        zeroed(self.modulation)
        zeroed(self.head)

    def forward(self, x: Tensor, noise: Tensor, cond: Tensor | None = None) -> Tensor:
        embedding, text = self.noise_embedding(noise), None
        if self.class_embedding is not None:
            embedding = embedding + self.class_embedding(cond, len(x))
        if self.text is not None and self.text_projection is not None:
            text = self.text(cond, len(x))
            embedding = embedding + self.text_projection(text.pooled)
        embedding = silu(embedding)
        h = self.patches(x)
        tokens = h.flatten(2).transpose(1, 2) + self.get_buffer("positions")
        for block in self.blocks:
            tokens = block(tokens, embedding, text)
        shift, scale = self.modulation(embedding)[:, None].chunk(2, dim=2)
        return self._image(self.head(normed(tokens, scale, shift)), *h.shape[2:])

    def _image(self, tokens: Tensor, rows: int, columns: int) -> Tensor:
        """Tokens (B, rows x columns, patch^2 C), each a patch's pixels with their channels, as an image (B, C, H, W)."""
        patches = tokens.reshape(len(tokens), rows, columns, self.patch, self.patch, self.channels_out)
        return patches.permute(0, 5, 1, 3, 2, 4).reshape(
            len(tokens), self.channels_out, rows * self.patch, columns * self.patch
        )
