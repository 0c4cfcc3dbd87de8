"""Networks that say what absorbed tokens may have been: a UNet over grey levels, a transformer over the bytes of a text.

network(x, hidden, noise, cond) -> logits. x: (B, *shape) int64, what is known of the tokens; hidden: (B, *shape) bool, true
where a token is absorbed; noise: (B,), how much is known, 0 .. 1; cond: as the UNet's and the DiT's.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from langevin.networks.dit import DiTBlock
from langevin.networks.embeddings import ClassEmbedding, NoiseEmbedding
from langevin.networks.layers import zeroed


class TokenUNet(nn.Module):
    """A network of images over grey levels: (B, C, H, W) int64 -> (B, C, H, W, classes) logits.

    unet: network(x, noise, cond) from 2 C channels, the levels scaled to [-1, 1] and the mask of what is absorbed, to
    C x classes (``token_channels``); levels: how many values x has; classes: how many a logit is given for, ``levels``
    unless said (fewer where values are generated digit by digit).
    """

    def __init__(self, unet: nn.Module, levels: int, classes: int | None = None) -> None:
        super().__init__()
        self.unet, self.levels, self.classes = unet, levels, classes or levels

    def forward(self, x: Tensor, hidden: Tensor, noise: Tensor, cond: Tensor | None = None) -> Tensor:
        scaled = x.to(noise) * (2 / (self.levels - 1)) - 1
        out: Tensor = self.unet(torch.cat([scaled, hidden.to(noise)], dim=1), noise, cond)
        return out.reshape(len(x), x.shape[1], self.classes, *x.shape[2:]).movedim(2, -1)


def token_channels(colours: int, classes: int) -> tuple[int, int]:
    """The channels in and out that a network of images needs within a ``TokenUNet``."""
    return 2 * colours, colours * classes


class TokenTransformer(nn.Module):
    """A transformer over sequences in which every token sees every other: (B, L) int64 -> (B, L, classes) logits.

    levels: how many values x has, 256 for bytes; length: L; classes: how many a logit is given for, ``levels`` unless said;
    conditions: the classes that cond tells apart, 0 for none. Its blocks are the DiT's (pre-norm, scaled and gated by what
    is told of noise and class, zero at the start), its positions learned. heads divide width.
    """

    def __init__(
        self,
        length: int,
        width: int,
        depth: int,
        heads: int,
        levels: int = 256,
        conditions: int = 0,
        classes: int | None = None,
    ) -> None:
        super().__init__()
        self.tokens = nn.Embedding(levels, width)
        self.hidden = nn.Embedding(2, width)
        self.positions = nn.Parameter(0.02 * torch.randn(length, width))
        self.noise_embedding = NoiseEmbedding(width)
        self.class_embedding = ClassEmbedding(conditions, width) if conditions else None
        self.blocks = nn.ModuleList(DiTBlock(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = zeroed(nn.Linear(width, classes or levels))
        for block in self.blocks:
            zeroed(block.modulation)  # type: ignore[arg-type]

    def forward(self, x: Tensor, hidden: Tensor, noise: Tensor, cond: Tensor | None = None) -> Tensor:
        embedding = self.noise_embedding(noise)
        if self.class_embedding is not None:
            embedding = embedding + self.class_embedding(cond, len(x))
        embedding = silu(embedding)
        tokens = self.tokens(x) + self.hidden(hidden.long()) + self.positions
        for block in self.blocks:
            tokens = block(tokens, embedding, None)
        logits: Tensor = self.head(self.norm(tokens))
        return logits
