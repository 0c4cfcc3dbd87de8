"""Layers that preserve the magnitude of what passes through them (Karras et al. 2024, "config G").

Magnitude is the root mean square. Inputs of magnitude 1 give outputs of magnitude 1 in expectation, so no layer's
activations or weights grow over a training and the learning rate keeps its meaning. Images are (B, C, H, W), vectors (B, C).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, linear, scaled_dot_product_attention, silu

from langevin.networks.layers import head_size


def unit(x: Tensor, dims: int | tuple[int, ...], eps: float = 1e-4) -> Tensor:
    """x / (rms(x) + eps), the root mean square over dims, in float32 at least. Over channels (dims = 1): pixel norm."""
    precise = torch.promote_types(x.dtype, torch.float32)
    norm: Tensor = torch.linalg.vector_norm(x, dim=dims, keepdim=True, dtype=precise)
    return x / (norm * math.sqrt(norm.numel() / x.numel()) + eps).to(x.dtype)


def mp_silu(x: Tensor) -> Tensor:
    """SiLU over its root mean square at a normal input, 0.596. Karras et al. 2024, eq. 81."""
    return silu(x) / 0.596


def mp_sum(a: Tensor, b: Tensor, share: float = 0.5) -> Tensor:
    """((1 - share) a + share b) / sqrt((1 - share)^2 + share^2), of magnitude 1 for independent a and b. Eq. 88."""
    return ((1 - share) * a + share * b) / math.hypot(1 - share, share)  # not lerp: autocast mixes the two dtypes


def mp_cat(a: Tensor, b: Tensor, share: float = 0.5) -> Tensor:
    """Channels of a, then of b, scaled so that b brings ``share`` of the magnitude whatever the widths. Eq. 103."""
    widths = a.shape[1], b.shape[1]
    whole = math.sqrt(sum(widths)) / math.hypot(1 - share, share)
    return torch.cat([a * (whole * (1 - share) / widths[0] ** 0.5), b * (whole * share / widths[1] ** 0.5)], dim=1)


class MPWeight(nn.Module):
    """Weights (out, inputs) used as w / |w|, the norm over an output's inputs. Karras et al. 2024, eq. 47 and 66.

    The gradient is orthogonal to such a weight, so plain steps could only lengthen it and slow its learning down: a
    forward pass that will be learnt from first sets the stored weight to unit magnitude ("forced normalisation"). That
    is a function of the weight alone, so workers stay equal, copies and averages are plain tensors, and evaluation
    changes nothing.
    """

    def __init__(self, out: int, inputs: int) -> None:
        super().__init__()
        # two axes for convolutions too: torch.compile lays a 4-axis weight out anew and loses its change in place
        self.weight = nn.Parameter(torch.randn(out, inputs))

    @torch.no_grad()
    def normalise_(self) -> None:
        """Set the stored weight to unit magnitude; outputs stay."""
        self.weight.copy_(unit(self.weight, 1, eps=1e-12))

    def effective(self, gain: Tensor | float = 1.0) -> Tensor:
        """gain w / |w|: (out, inputs)."""
        if self.training and torch.is_grad_enabled():
            self.normalise_()
        # a copy: the backward of one pass must not find the stored weight touched by the next pass
        return unit(self.weight.clone(), 1, eps=1e-12) * (gain / math.sqrt(self.weight.shape[1]))


class MPLinear(MPWeight):
    """x (B, C_in) -> gain W x (B, C_out), no bias."""

    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__(channels, channels_in)

    def forward(self, x: Tensor, gain: Tensor | float = 1.0) -> Tensor:
        return linear(x, self.effective(gain).to(x.dtype))


class MPConv(MPWeight):
    """x (B, C_in, H, W) -> gain W * x (B, C_out, H, W), an odd kernel with zero padding, no bias."""

    def __init__(self, channels_in: int, channels: int, kernel: int) -> None:
        super().__init__(channels, channels_in * kernel**2)
        self.kernel = kernel

    def forward(self, x: Tensor, gain: Tensor | float = 1.0) -> Tensor:
        weight = self.effective(gain).to(x.dtype).reshape(-1, x.shape[1], self.kernel, self.kernel)
        return conv2d(x, weight, padding=self.kernel // 2)


class MPFourier(nn.Module):
    """noise (B,) -> sqrt(2) cos(2 pi (f noise + phase)) (B, channels), f ~ N(0, bandwidth^2). Karras et al. 2024, eq. 75.

    Quantiles of f's law stand in for draws, and a golden sequence for the phases: the same in every process.
    """

    def __init__(self, channels: int, bandwidth: float = 1.0) -> None:
        super().__init__()
        place = torch.arange(channels, dtype=torch.float64)
        frequencies = bandwidth * torch.special.ndtri((place + 0.5) / channels)
        phases = (place * ((math.sqrt(5) - 1) / 2)) % 1
        self.register_buffer("frequencies", (2 * math.pi * frequencies).float(), persistent=False)
        self.register_buffer("phases", (2 * math.pi * phases).float(), persistent=False)

    def forward(self, noise: Tensor) -> Tensor:
        angles = noise[:, None] * self.get_buffer("frequencies") + self.get_buffer("phases")
        return math.sqrt(2) * angles.cos()


class MPClassEmbedding(nn.Module):
    """labels (B,) int64 -> (B, width) of magnitude 1; zeros for "no class", which None and -1 stand for.

    An MP linear layer of the one-hot label, itself scaled to magnitude 1. Karras et al. 2024, figure 21.
    """

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.classes, self.linear = classes, MPLinear(classes, width)

    def forward(self, labels: Tensor | None, batch: int) -> Tensor:
        if labels is None:
            labels = torch.full((batch,), -1, device=self.linear.weight.device)
        hot = labels[:, None] == torch.arange(self.classes, device=labels.device)
        embedded: Tensor = self.linear(hot.to(self.linear.weight.dtype) * math.sqrt(self.classes))
        return embedded


class CosineAttention(nn.Module):
    """Self-attention over all pixels with q, k and v of unit magnitude, heads of at most 64 channels; joined by mp_sum.

    The logits are sqrt(d) cos(q, k), bounded whatever the weights. Karras et al. 2024, figure 21.
    """

    def __init__(self, channels: int, share: float = 0.3) -> None:
        super().__init__()
        self.heads = channels // head_size(channels, 64)
        self.qkv, self.out, self.share = MPConv(channels, 3 * channels, 1), MPConv(channels, channels, 1), share

    def forward(self, x: Tensor) -> Tensor:
        split = self.qkv(x).reshape(len(x), 3, self.heads, x.shape[1] // self.heads, -1)  # (B, 3, heads, d, HW)
        q, k, v = unit(split, 3).transpose(3, 4).unbind(1)
        mixed = scaled_dot_product_attention(q, k, v).transpose(2, 3).reshape(x.shape)
        return mp_sum(x, self.out(mixed), self.share)
