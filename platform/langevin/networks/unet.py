"""The convolutional UNet of diffusion models (Ho et al. 2020, appendix B; Dhariwal & Nichol 2021, section 3)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from langevin.networks.embeddings import ClassEmbedding, NoiseEmbedding
from langevin.networks.layers import (
    AdditiveBlock,
    Attention,
    CornerDownsample,
    Downsample,
    Norm,
    ResidualBlock,
    Stage,
    Upsample,
    head_size,
    zeroed,
)
from langevin.networks.text import TextAttention, TextStage, one_condition


@dataclass(frozen=True)
class Middle:
    """The lowest resolution's two residual blocks: whether there is attention between them, and its norm."""

    attends: bool
    norm: Norm | None


@dataclass(frozen=True)
class Anatomy:
    """The parts of a UNet. These are the defaults for training; others are for weights that were trained with others.

    norm: its groups must divide all channels, or as many of them are taken as do; head_channels: at most, the same in
    every attention, None for one head; middle: None to attend where the lowest resolution does; width: of the embedding,
    None for 4 x the stem's channels; steps, shift: as NoiseEmbedding's.
    """

    block: type[ResidualBlock | AdditiveBlock] = ResidualBlock
    downsample: type[Downsample | CornerDownsample] = Downsample
    norm: Norm = Norm()  # noqa: RUF009 - frozen
    head_channels: int | None = 64
    middle: Middle | None = None
    width: int | None = None
    steps: float = 1000.0
    shift: int = 1


STANDARD = Anatomy()


class UNet(nn.Module):
    """network(x, noise, cond): x (B, C, H, W), noise (B,), cond (B,) int64 labels, -1 or None for "no class", or with an
    encoder of texts (B, L) int64 captions, rows without positive values or None for "no text".

    channels: times the first multiplier at full resolution; multipliers: of it at each resolution, halved in between (H
    and W must divide); blocks: residual blocks a resolution; attention: the resolutions (pixels of the height, at
    image_shape) that attend; classes: 0 for an unconditional model; channels_in, channels_out: the image's, unless said;
    text: an encoder (networks/text.py), whose pooled vector goes to every block, and its tokens to where pixels attend
    (Nichol et al. 2021, section 2.1, with the cross-attention of Rombach et al. 2022). ValueError for classes and a text.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        channels: int = 64,
        multipliers: Sequence[int] = (1, 2),
        blocks: int = 2,
        attention: Sequence[int] = (),
        classes: int = 0,
        channels_in: int | None = None,
        channels_out: int | None = None,
        anatomy: Anatomy = STANDARD,
        text: nn.Module | None = None,
    ) -> None:
        super().__init__()
        colours, size, _ = image_shape
        sides = [size >> level for level in range(len(multipliers))]
        widths = [multiplier * channels for multiplier in multipliers]
        attending = [width for width, side in zip(widths, sides, strict=True) if side in attention]
        # one group count and one head size for the whole network: no norm and no head is cut otherwise than the others
        norm = replace(anatomy.norm, groups=math.gcd(anatomy.norm.groups, *widths))
        middle = anatomy.middle or Middle(sides[-1] in attention, norm)
        heads = anatomy.head_channels
        if heads is not None:
            heads = head_size(math.gcd(*attending, widths[-1] if middle.attends else 0) or heads, heads)

        self.image_shape, self.widths, self.sides, self.blocks = image_shape, widths, sides, blocks
        self.attention, self.classes = tuple(side for side in sides if side in attention), classes
        self.channels_in, self.channels_out = channels_in or colours, channels_out or colours
        self.anatomy = replace(anatomy, norm=norm, middle=middle, head_channels=heads)  # as it came out

        width = anatomy.width or 4 * widths[0]
        self.noise_embedding = NoiseEmbedding(width, widths[0], anatomy.steps, anatomy.shift)
        self.class_embedding = ClassEmbedding(classes, width) if classes else None
        read = one_condition(classes, text)
        self.text, self.text_projection = text, nn.Linear(read, width) if read else None

        def stage(channels_in: int, channels: int, attends: bool, attention_norm: Norm | None = norm) -> Stage:
            if attends and read:
                reads = TextAttention(channels, read, heads, attention_norm)
                return TextStage(anatomy.block(channels_in, channels, width, norm), reads)
            attend = Attention(channels, heads, attention_norm) if attends else nn.Identity()
            return Stage(anatomy.block(channels_in, channels, width, norm), attend)

        self.stem = nn.Conv2d(self.channels_in, widths[0], 3, padding=1)
        self.down = nn.ModuleList()
        skips = [current := widths[0]]
        for level, (channels, side) in enumerate(zip(widths, sides, strict=True)):
            for _ in range(blocks):
                self.down.append(stage(current, channels, side in attention))
                skips.append(current := channels)
            if level + 1 < len(widths):
                self.down.append(anatomy.downsample(current))
                skips.append(current)
        self.middle = nn.ModuleList(
            [stage(current, current, middle.attends, middle.norm), stage(current, current, False)]
        )
        self.up = nn.ModuleList()
        for level, (channels, side) in reversed(list(enumerate(zip(widths, sides, strict=True)))):
            for _ in range(blocks + 1):
                self.up.append(stage(current + skips.pop(), channels, side in attention))
                current = channels
            if level:
                self.up.append(Upsample(current))
        self.norm = norm(current)
        self.head = zeroed(nn.Conv2d(current, self.channels_out, 3, padding=1))

    def forward(self, x: Tensor, noise: Tensor, cond: Tensor | None = None) -> Tensor:
        embedding, text = self.noise_embedding(noise), None
        if self.class_embedding is not None:
            embedding = embedding + self.class_embedding(cond, len(x))
        if self.text is not None and self.text_projection is not None:
            text = self.text(cond, len(x))
            embedding = embedding + self.text_projection(text.pooled)
        embedding = silu(embedding)

        def through(layer: nn.Module, h: Tensor) -> Tensor:
            out: Tensor = layer(h, embedding, text) if isinstance(layer, TextStage) else layer(h, embedding)
            return out

        h = self.stem(x)
        states = [h]
        for layer in self.down:
            h = through(layer, h)
            states.append(h)
        for layer in self.middle:
            h = through(layer, h)
        for layer in self.up:
            if not isinstance(layer, Upsample):
                h = torch.cat([h, states.pop()], dim=1)
            h = through(layer, h)
        out: Tensor = self.head(silu(self.norm(h)))
        return out
