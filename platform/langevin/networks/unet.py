"""The convolutional UNet of diffusion models (Ho et al. 2020, appendix B; Dhariwal & Nichol 2021, section 3)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, scaled_dot_product_attention, silu

from langevin.networks.embeddings import ClassEmbedding, NoiseEmbedding


def zeroed(module: nn.Module) -> nn.Module:
    """The module with zero weights: a residual branch that starts as nothing."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


def normalise(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(math.gcd(8, channels), channels)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions; the embedding scales and shifts the second's input. Dhariwal & Nichol 2021, eq. 3 (AdaGN)."""

    def __init__(self, channels_in: int, channels: int, width: int) -> None:
        super().__init__()
        self.norm_in, self.norm_out = normalise(channels_in), normalise(channels)
        self.conv_in = nn.Conv2d(channels_in, channels, 3, padding=1)
        self.modulation = nn.Linear(width, 2 * channels)
        self.conv_out = zeroed(nn.Conv2d(channels, channels, 3, padding=1))
        self.skip = nn.Conv2d(channels_in, channels, 1) if channels_in != channels else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        scale, shift = self.modulation(embedding)[:, :, None, None].chunk(2, dim=1)
        h = self.conv_in(silu(self.norm_in(x)))
        h = silu(torch.addcmul(shift, self.norm_out(h), 1 + scale))
        out: Tensor = self.skip(x) + self.conv_out(h)
        return out


class Attention(nn.Module):
    """Self-attention over all pixels, heads of at most 64 channels. Dhariwal & Nichol 2021, section 3."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.heads = next(n for n in range(1, channels + 1) if channels % n == 0 and channels // n <= 64)
        self.norm, self.qkv = normalise(channels), nn.Conv2d(channels, 3 * channels, 1)
        self.out = zeroed(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        tokens = self.qkv(self.norm(x)).flatten(2).transpose(1, 2)  # (B, HW, 3C)
        q, k, v = tokens.reshape(batch, height * width, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, height, width, channels)
        out: Tensor = x + self.out(mixed.permute(0, 3, 1, 2))
        return out


class UNet(nn.Module):
    """network(x, noise, cond): x (B, C, H, W), noise (B,), cond (B,) int64 labels, -1 or None for "no class".

    channels: at full resolution; multipliers: of it at each resolution, halved in between (H and W must divide);
    blocks: residual blocks a resolution; attention: the resolutions (pixels a side, at image_size) that attend;
    classes: 0 for an unconditional model.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        channels: int = 64,
        multipliers: Sequence[int] = (1, 2),
        blocks: int = 2,
        attention: Sequence[int] = (),
        classes: int = 0,
    ) -> None:
        super().__init__()
        colours, size, _ = image_shape
        width = 4 * channels
        self.noise_embedding = NoiseEmbedding(width)
        self.class_embedding = ClassEmbedding(classes, width) if classes else None
        self.stem = nn.Conv2d(colours, channels, 3, padding=1)

        def block(channels_in: int, channels_out: int, side: int) -> nn.ModuleList:
            attend = Attention(channels_out) if side in attention else nn.Identity()
            return nn.ModuleList([ResidualBlock(channels_in, channels_out, width), attend])

        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        skips, current = [channels], channels
        sides = [size >> level for level in range(len(multipliers))]
        for level, (multiplier, side) in enumerate(zip(multipliers, sides, strict=True)):
            for _ in range(blocks):
                self.down.append(block(current, multiplier * channels, side))
                current = multiplier * channels
                skips.append(current)
            if level + 1 < len(multipliers):
                self.down.append(nn.Conv2d(current, current, 3, stride=2, padding=1))
                skips.append(current)
        self.middle = block(current, current, sides[-1])
        for level, (multiplier, side) in reversed(list(enumerate(zip(multipliers, sides, strict=True)))):
            for _ in range(blocks + 1):
                self.up.append(block(current + skips.pop(), multiplier * channels, side))
                current = multiplier * channels
            if level:
                self.up.append(nn.Conv2d(current, current, 3, padding=1))
        self.norm, self.head = normalise(current), zeroed(nn.Conv2d(current, colours, 3, padding=1))

    def forward(self, x: Tensor, noise: Tensor, cond: Tensor | None = None) -> Tensor:
        embedding = self.noise_embedding(noise)
        if self.class_embedding is not None:
            embedding = embedding + self.class_embedding(cond, len(x))
        embedding = silu(embedding)
        h = self.stem(x)
        states = [h]
        for layer in self.down:
            h = layer(h) if isinstance(layer, nn.Conv2d) else self._through(layer, h, embedding)
            states.append(h)
        h = self._through(self.middle, h, embedding)
        for layer in self.up:
            if isinstance(layer, nn.Conv2d):
                h = layer(interpolate(h, scale_factor=2.0, mode="nearest"))
            else:
                h = self._through(layer, torch.cat([h, states.pop()], dim=1), embedding)
        out: Tensor = self.head(silu(self.norm(h)))
        return out

    @staticmethod
    def _through(block: nn.Module, h: Tensor, embedding: Tensor) -> Tensor:
        residual, attend = block.children()
        out: Tensor = attend(residual(h, embedding))
        return out
