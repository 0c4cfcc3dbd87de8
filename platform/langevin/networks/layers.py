"""What networks are built of: norms, residual blocks, attention of pixels and of tokens, half and double resolution."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad, scaled_dot_product_attention, silu


def zeroed(module: nn.Module) -> nn.Module:
    """The module with zero weights: a residual branch that starts as nothing."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


@dataclass(frozen=True)
class Norm:
    """Group normalisation: in ``groups`` groups, or as many of them as divide the channels."""

    groups: int = 8
    eps: float = 1e-5

    def __call__(self, channels: int) -> nn.GroupNorm:
        return nn.GroupNorm(math.gcd(self.groups, channels), channels, self.eps)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions; the embedding scales and shifts the second's input. Dhariwal & Nichol 2021, eq. 3 (AdaGN).

    x: (B, channels_in, H, W), embedding: (B, width) -> (B, channels, H, W).
    """

    MODULATIONS = 2  # of each channel

    def __init__(self, channels_in: int, channels: int, width: int, norm: Norm = Norm()) -> None:
        super().__init__()
        self.norm_in, self.norm_out = norm(channels_in), norm(channels)
        self.conv_in = nn.Conv2d(channels_in, channels, 3, padding=1)
        self.modulation = nn.Linear(width, self.MODULATIONS * channels)
        self.conv_out = zeroed(nn.Conv2d(channels, channels, 3, padding=1))
        self.skip = nn.Conv2d(channels_in, channels, 1) if channels_in != channels else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.modulated(self.conv_in(silu(self.norm_in(x))), self.modulation(embedding)[:, :, None, None])
        out: Tensor = self.skip(x) + self.conv_out(silu(h))
        return out

    def modulated(self, h: Tensor, modulation: Tensor) -> Tensor:
        """norm(h) (1 + scale) + shift. h: (B, C, H, W), modulation: (B, 2 C, 1, 1)."""
        scale, shift = modulation.chunk(2, dim=1)
        return torch.addcmul(shift, self.norm_out(h), 1 + scale)


class AdditiveBlock(ResidualBlock):
    """The residual block of Ho et al. 2020: the embedding is added before the second norm."""

    MODULATIONS = 1

    def modulated(self, h: Tensor, modulation: Tensor) -> Tensor:
        """norm(h + shift). h: (B, C, H, W), modulation: (B, C, 1, 1)."""
        out: Tensor = self.norm_out(h + modulation)
        return out


class Attention(nn.Module):
    """Self-attention over all pixels. Dhariwal & Nichol 2021, section 3.

    head_channels: at most so many a head, in equal heads; None: one head. norm: None for none.
    """

    def __init__(self, channels: int, head_channels: int | None = 64, norm: Norm | None = Norm()) -> None:
        super().__init__()
        self.heads = channels // head_size(channels, head_channels)
        self.norm = norm(channels) if norm else nn.Identity()
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = zeroed(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        tokens = self.qkv(self.norm(x)).flatten(2).transpose(1, 2)  # (B, HW, 3C)
        q, k, v = tokens.reshape(batch, height * width, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, height, width, channels)
        out: Tensor = x + self.out(mixed.permute(0, 3, 1, 2))
        return out


class TokenAttention(nn.Module):
    """Tokens attend to a context. x: (B, N, width), context: (B, M, context) -> (B, N, width). Vaswani et al. 2017, 3.2.

    context: its width, None for the tokens' own; mask: (B, M) bool, true where there is something to attend to. heads
    divide width.
    """

    def __init__(self, width: int, heads: int, context: int | None = None) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"{heads} heads do not divide a width of {width}")
        self.heads = heads
        self.query, self.key_value = nn.Linear(width, width), nn.Linear(context or width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, context: Tensor, mask: Tensor | None = None) -> Tensor:
        q = self.query(x).unflatten(2, (self.heads, -1)).transpose(1, 2)
        k, v = self.key_value(context).unflatten(2, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = scaled_dot_product_attention(q, k, v, None if mask is None else mask[:, None, None])
        out: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return out


class Perceptron(nn.Sequential):
    """Two layers, four times as wide in between, with GELU in its form of tanh."""

    def __init__(self, width: int) -> None:
        super().__init__(nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width))


def head_size(channels: int, most: int | None) -> int:
    """The largest divisor of ``channels`` that is at most ``most``; all of them where that is None."""
    return channels if most is None else next(n for n in range(min(most, channels), 0, -1) if channels % n == 0)


class Stage(nn.Module):
    """A residual block and what follows it, attention or nothing."""

    def __init__(self, residual: ResidualBlock, attend: nn.Module) -> None:
        super().__init__()
        self.residual, self.attend = residual, attend

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        out: Tensor = self.attend(self.residual(x, embedding))
        return out


class Downsample(nn.Module):
    """Half the resolution: a 3x3 convolution of stride 2, zeros around the image."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        return out


class CornerDownsample(nn.Module):
    """The same with zeros at the right and at the bottom only, as in Ho et al.'s code (TensorFlow pads so)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        out: Tensor = self.conv(pad(x, (0, 1, 0, 1)))
        return out


class Upsample(nn.Module):
    """Double the resolution: every pixel four times, then a 3x3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        out: Tensor = self.conv(interpolate(x, scale_factor=2.0, mode="nearest"))
        return out
