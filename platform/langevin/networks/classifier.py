"""A classifier of noisy images, whose gradient guides a sampler (Dhariwal & Nichol 2021, section 4)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention, silu

from langevin.networks.embeddings import NoiseEmbedding
from langevin.networks.layers import Attention, Downsample, Norm, ResidualBlock, Stage, head_size


class AttentionPool(nn.Module):
    """h (B, C, H, W), places pixels -> (B, out): one query, the mean pixel's, attends to the mean and to every pixel.

    Learned positions; heads of at most 64 channels. Radford et al. 2021 (CLIP), section 2.4. Keys have no bias: it would
    move every logit alike.
    """

    def __init__(self, channels: int, places: int, out: int) -> None:
        super().__init__()
        self.heads = channels // head_size(channels, 64)
        self.positions = nn.Parameter(torch.randn(1 + places, channels) / channels**0.5)
        self.query, self.key = nn.Linear(channels, channels), nn.Linear(channels, channels, bias=False)
        self.value, self.out = nn.Linear(channels, channels), nn.Linear(channels, out)

    def forward(self, h: Tensor) -> Tensor:
        tokens = h.flatten(2).transpose(1, 2)
        tokens = torch.cat([tokens.mean(dim=1, keepdim=True), tokens], dim=1) + self.positions  # (B, 1 + HW, C)
        q, k, v = (
            layer(of).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for layer, of in ((self.query, tokens[:, :1]), (self.key, tokens), (self.value, tokens))
        )
        pooled: Tensor = self.out(scaled_dot_product_attention(q, k, v).flatten(1))
        return pooled


class NoisyClassifier(nn.Module):
    """classifier(x, noise) -> logits (B, classes): x (B, C, H, W), noise (B,), the number that UNet is told.

    The downsampling half of UNet and an attention pool; channels, multipliers, blocks and attention are UNet's.
    ValueError for fewer than two classes.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        channels: int,
        multipliers: Sequence[int],
        blocks: int,
        attention: Sequence[int],
        classes: int,
    ) -> None:
        super().__init__()
        if classes < 2:
            raise ValueError(f"a classifier needs at least 2 classes, found {classes}")
        colours, height, width = image_shape
        widths, embedding = [multiplier * channels for multiplier in multipliers], 4 * channels
        norm = Norm()
        self.noise_embedding = NoiseEmbedding(embedding)
        self.stem = nn.Conv2d(colours, widths[0], 3, padding=1)
        self.down, current = nn.ModuleList(), widths[0]
        for level, out in enumerate(widths):
            if level:
                self.down.append(Downsample(current))
                height, width = (height + 1) // 2, (width + 1) // 2
            for _ in range(blocks):
                attend = Attention(out, norm=norm) if height in attention else nn.Identity()
                self.down.append(Stage(ResidualBlock(current, out, embedding, norm), attend))
                current = out
        self.norm, self.pool = norm(current), AttentionPool(current, height * width, classes)

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        embedding = silu(self.noise_embedding(noise))
        h = self.stem(x)
        for layer in self.down:
            h = layer(h, embedding)
        logits: Tensor = self.pool(silu(self.norm(h)))
        return logits
