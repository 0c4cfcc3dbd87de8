"""The magnitude-preserving UNet of EDM2 and the head that learns its uncertainty (Karras et al. 2024, "config G", figure 21)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from langevin.networks.magnitude import (
    CosineAttention,
    MPClassEmbedding,
    MPConv,
    MPFourier,
    MPLinear,
    mp_cat,
    mp_silu,
    mp_sum,
    unit,
)


class MPResidual(nn.Module):
    """The branch beside the main path: conv, scaled by 1 + gain (linear of the embedding), conv; no norm, no bias."""

    def __init__(self, channels_in: int, channels: int, width: int) -> None:
        super().__init__()
        self.conv_in, self.conv_out = MPConv(channels_in, channels, 3), MPConv(channels, channels, 3)
        self.modulation, self.gain = MPLinear(width, channels), nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        scale = 1 + self.modulation(embedding, self.gain)[:, :, None, None]
        out: Tensor = self.conv_out(mp_silu(self.conv_in(mp_silu(x)) * scale))
        return out


class EncoderBlock(nn.Module):
    """Resample, widen, normalise every pixel; then the branch and the attention join what was normalised."""

    def __init__(
        self, channels_in: int, channels: int, width: int, attend: bool, resample: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.resample = resample or nn.Identity()
        self.skip = MPConv(channels_in, channels, 1) if channels_in != channels else nn.Identity()
        self.residual = MPResidual(channels, channels, width)
        self.attend = CosineAttention(channels) if attend else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        x = unit(self.skip(self.resample(x)), 1)
        out: Tensor = self.attend(mp_sum(x, self.residual(x, embedding), 0.3))
        return out


class DecoderBlock(nn.Module):
    """Resample; the branch sees all channels, skip connections too, and the main path is narrowed beside it."""

    def __init__(
        self, channels_in: int, channels: int, width: int, attend: bool, resample: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.resample = resample or nn.Identity()
        self.skip = MPConv(channels_in, channels, 1) if channels_in != channels else nn.Identity()
        self.residual = MPResidual(channels_in, channels, width)
        self.attend = CosineAttention(channels) if attend else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        x = self.resample(x)
        out: Tensor = self.attend(mp_sum(self.skip(x), self.residual(x, embedding), 0.3))
        return out


class MPUNet(nn.Module):
    """network(x, noise, cond): x (B, C, H, W), noise (B,), cond (B,) int64 labels, -1 or None for "no class".

    x should have magnitude 1 and noise a range of a few units: EDM's c_in x and c_noise = ln(sigma) / 4. The parameters
    are those of UNet. Training wants a high rate that decays (Adam, 0.01, inverse square root) and no weight decay: the
    weights' lengths mean nothing and the gains are few. ValueError where the image cannot be halved.
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
        levels = len(multipliers)
        if any(side % 2 ** (levels - 1) for side in image_shape[1:]):
            raise ValueError(f"an image of {image_shape[1]} x {image_shape[2]} cannot be halved {levels - 1} times")
        widths = [multiplier * channels for multiplier in multipliers]
        attends = [size >> level in attention for level in range(levels)]
        width = max(widths)
        self.fourier, self.noise_embedding = MPFourier(channels), MPLinear(channels, width)
        self.class_embedding = MPClassEmbedding(classes, width) if classes else None
        self.stem = MPConv(colours + 1, widths[0], 3)  # one more channel of ones stands for the biases

        self.encoder = nn.ModuleList()
        skips, current = [widths[0]], widths[0]
        for level in range(levels):
            if level:
                self.encoder.append(EncoderBlock(current, current, width, False, nn.AvgPool2d(2)))
                skips.append(current)
            for _ in range(blocks):
                self.encoder.append(EncoderBlock(current, widths[level], width, attends[level]))
                current = widths[level]
                skips.append(current)

        self.middle = nn.ModuleList(DecoderBlock(current, current, width, attend) for attend in (attends[-1], False))
        self.decoder, self.rises = nn.ModuleList(), nn.ModuleList()  # from the lowest resolution up, a rise in between
        for level in reversed(range(levels)):
            stage = nn.ModuleList()
            for _ in range(blocks + 1):
                stage.append(DecoderBlock(current + skips.pop(), widths[level], width, attends[level]))
                current = widths[level]
            self.decoder.append(stage)
            if level:
                self.rises.append(DecoderBlock(current, current, width, False, nn.Upsample(scale_factor=2)))
        self.head, self.gain = MPConv(current, colours, 3), nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor, noise: Tensor, cond: Tensor | None = None) -> Tensor:
        embedding = self.noise_embedding(self.fourier(noise))
        if self.class_embedding is not None:
            embedding = mp_sum(embedding, self.class_embedding(cond, len(x)))
        embedding = mp_silu(embedding)
        h = self.stem(torch.cat([x, torch.ones_like(x[:, :1])], dim=1))
        states = [h]
        for block in self.encoder:
            h = block(h, embedding)
            states.append(h)
        for block in self.middle:
            h = block(h, embedding)
        for level, stage in enumerate(self.decoder):
            if level:
                h = self.rises[level - 1](h, embedding)
            for block in stage.children():
                h = block(mp_cat(h, states.pop()), embedding)
        out: Tensor = self.head(h, self.gain)
        return out


class Uncertainty(nn.Module):
    """u(noise) (B,) -> (B,): the log-variance of the denoising error at a noise level, an MP linear layer of MP Fourier features.

    Training minimises error / e^u + u, so e^u becomes the mean weighted error and every level's gradient counts the same.
    Karras et al. 2024, eq. 21; thrown away after training.
    """

    def __init__(self, channels: int = 128) -> None:
        super().__init__()
        self.fourier, self.linear = MPFourier(channels), MPLinear(channels, 1)

    def forward(self, noise: Tensor) -> Tensor:
        logvar: Tensor = self.linear(self.fourier(noise))
        return logvar[:, 0]
