"""The convolutional encoder and decoder of an autoencoder (Rombach et al. 2022, appendix E.1; Esser et al. 2021)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle, silu

from langevin.networks.embeddings import ClassEmbedding
from langevin.networks.layers import Attention, Downsample, Norm, Upsample


class PlainBlock(nn.Module):
    """Two 3x3 convolutions with a skip; an embedding, where the network has one, is added in between.

    x: (B, channels_in, H, W), embedding: (B, width) or None -> (B, channels, H, W). width: 0 for none.
    """

    def __init__(self, channels_in: int, channels: int, width: int, norm: Norm) -> None:
        super().__init__()
        self.norm_in, self.norm_out = norm(channels_in), norm(channels)
        self.conv_in = nn.Conv2d(channels_in, channels, 3, padding=1)
        self.shift = nn.Linear(width, channels) if width else None
        self.conv_out = nn.Conv2d(channels, channels, 3, padding=1)
        self.skip = nn.Conv2d(channels_in, channels, 1) if channels_in != channels else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor | None) -> Tensor:
        h = self.conv_in(silu(self.norm_in(x)))
        if self.shift is not None:
            h = h + self.shift(embedding)[:, :, None, None]
        out: Tensor = self.skip(x) + self.conv_out(silu(self.norm_out(h)))
        return out


class Middle(nn.Module):
    """The lowest resolution: two blocks, with attention over all of it in between or without."""

    def __init__(self, channels: int, width: int, norm: Norm, attends: bool) -> None:
        super().__init__()
        self.first, self.last = (PlainBlock(channels, channels, width, norm) for _ in range(2))
        self.attend = Attention(channels, norm=norm) if attends else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor | None) -> Tensor:
        out: Tensor = self.last(self.attend(self.first(x, embedding)), embedding)
        return out


class Encoder(nn.Module):
    """encoder(x, cond) -> (B, 2 latent_channels, H / f, W / f): means and log-variances. x: (B, C, H, W), cond: as UNet's.

    patch: the side of the squares of pixels whose values are channels to the first convolution, which makes the costly
    resolutions cheap; channels: times the multiplier at each of k + 1 resolutions, f = 2^k patch; blocks: a resolution;
    attends: in the middle; classes: 0 for none. ValueError where f does not divide H and W.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        latent_channels: int = 4,
        channels: int = 64,
        multipliers: Sequence[int] = (1, 2, 4),
        blocks: int = 1,
        attends: bool = False,
        classes: int = 0,
        patch: int = 1,
    ) -> None:
        super().__init__()
        self.latent_shape, self.patch = latent_shape(image_shape, latent_channels, multipliers, patch), patch
        norm, width, current = Norm(), 4 * channels if classes else 0, multipliers[0] * channels
        self.class_embedding = ClassEmbedding(classes, width) if classes else None
        self.stem = nn.Conv2d(image_shape[0] * patch**2, current, 3, padding=1)
        self.down = nn.ModuleList()
        for level, multiplier in enumerate(multipliers):
            if level:
                self.down.append(Downsample(current))
            for _ in range(blocks):
                self.down.append(PlainBlock(current, multiplier * channels, width, norm))
                current = multiplier * channels
        self.middle = Middle(current, width, norm, attends)
        self.norm, self.head = norm(current), nn.Conv2d(current, 2 * latent_channels, 3, padding=1)

    def forward(self, x: Tensor, cond: Tensor | None = None) -> Tensor:
        embedding = _embedded(self.class_embedding, cond, x)
        h = self.stem(pixel_unshuffle(x, self.patch))
        for layer in self.down:
            h = layer(h, embedding)
        out: Tensor = self.head(silu(self.norm(self.middle(h, embedding))))
        return out


class Decoder(nn.Module):
    """decoder(z, cond) -> x: (B, C, H, W), not kept in any range. z: (B, latent_channels, H / f, W / f).

    The arguments are the encoder's: multipliers are from the image's resolution down.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        latent_channels: int = 4,
        channels: int = 64,
        multipliers: Sequence[int] = (1, 2, 4),
        blocks: int = 1,
        attends: bool = False,
        classes: int = 0,
        patch: int = 1,
    ) -> None:
        super().__init__()
        self.latent_shape, self.patch = latent_shape(image_shape, latent_channels, multipliers, patch), patch
        norm, width, current = Norm(), 4 * channels if classes else 0, multipliers[-1] * channels
        self.class_embedding = ClassEmbedding(classes, width) if classes else None
        self.stem = nn.Conv2d(latent_channels, current, 3, padding=1)
        self.middle = Middle(current, width, norm, attends)
        self.up = nn.ModuleList()
        for level, multiplier in reversed(list(enumerate(multipliers))):
            for _ in range(blocks):
                self.up.append(PlainBlock(current, multiplier * channels, width, norm))
                current = multiplier * channels
            if level:
                self.up.append(Upsample(current))
        self.norm, self.head = norm(current), nn.Conv2d(current, image_shape[0] * patch**2, 3, padding=1)

    def forward(self, z: Tensor, cond: Tensor | None = None) -> Tensor:
        embedding = _embedded(self.class_embedding, cond, z)
        h = self.middle(self.stem(z), embedding)
        for layer in self.up:
            h = layer(h, embedding)
        return pixel_shuffle(self.head(silu(self.norm(h))), self.patch)


class ToVector(nn.Module):
    """An encoder whose latents are vectors of ``dims`` numbers: (B, 2 dims), means and log-variances."""

    def __init__(self, encoder: Encoder, dims: int) -> None:
        super().__init__()
        self.encoder, self.latent_shape = encoder, (dims,)
        self.dense = nn.Linear(2 * math.prod(encoder.latent_shape), 2 * dims)

    def forward(self, x: Tensor, cond: Tensor | None = None) -> Tensor:
        out: Tensor = self.dense(silu(self.encoder(x, cond)).flatten(1))
        return out


class FromVector(nn.Module):
    """A decoder of such latents. z: (B, dims)."""

    def __init__(self, decoder: Decoder, dims: int) -> None:
        super().__init__()
        self.decoder, self.latent_shape = decoder, (dims,)
        self.dense = nn.Linear(dims, math.prod(decoder.latent_shape))

    def forward(self, z: Tensor, cond: Tensor | None = None) -> Tensor:
        out: Tensor = self.decoder(self.dense(z).unflatten(1, self.decoder.latent_shape), cond)
        return out


def latent_shape(
    image_shape: tuple[int, int, int], latent_channels: int, multipliers: Sequence[int], patch: int = 1
) -> tuple[int, int, int]:
    """(latent_channels, H / f, W / f). ValueError where f = patch x 2^(resolutions - 1) does not divide H and W."""
    _, height, width = image_shape
    factor = patch * 2 ** (len(multipliers) - 1)
    if height % factor or width % factor:
        raise ValueError(f"images of {height} x {width} pixels cannot be made {factor} times smaller")
    return latent_channels, height // factor, width // factor


def _embedded(classes: ClassEmbedding | None, cond: Tensor | None, x: Tensor) -> Tensor | None:
    return None if classes is None else silu(classes(cond, len(x)))
