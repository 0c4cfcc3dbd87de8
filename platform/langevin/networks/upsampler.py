"""Super-resolution networks: a network that sees a smaller image beside x. Ho et al. 2021 (cascaded diffusion), section 3."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from langevin.networks.embeddings import NoiseEmbedding
from langevin.networks.unet import UNet


class LowResolution(NamedTuple):
    """What a stage of a cascade is told. image: (B, C, h, w), in [-1, 1] but for its augmentation; level: (B,) of the
    augmentation's noise, in [0, 1), 0 for none; cond: (B,) labels or (B, L) captions, None for none of them."""

    image: Tensor
    level: Tensor
    cond: Tensor | None = None


class BothLevels(nn.Module):
    """The noise of x and that of the smaller image as one vector: the sum of an embedding of each.

    levels: (B, 2), x's noise and the augmentation's -> (B, width). Ho et al. 2021, section 4.2.
    """

    def __init__(self, noise: nn.Module, augmentation: nn.Module) -> None:
        super().__init__()
        self.noise, self.augmentation = noise, augmentation

    def forward(self, levels: Tensor) -> Tensor:
        embedded: Tensor = self.noise(levels[:, 0]) + self.augmentation(levels[:, 1])
        return embedded


class Upsampler(nn.Module):
    """network(x, noise, cond): x (B, C, H, W), noise (B,), cond: LowResolution with an image of C channels.

    The smaller image is enlarged to x's size, bilinearly, and stands beside x as C more channels, as in Dhariwal & Nichol
    2021, section 4.5. unet: for 2 C channels in; it becomes a part of this module, and its embedding of the noise one of
    both noises.
    """

    def __init__(self, unet: UNet) -> None:
        super().__init__()
        colours = unet.image_shape[0]
        if unet.channels_in != 2 * colours:
            raise ValueError(
                f"a smaller image beside x makes {2 * colours} channels, the UNet reads {unet.channels_in}"
            )
        with torch.no_grad():
            width = unet.noise_embedding(torch.zeros(1, device=next(unet.parameters()).device)).shape[1]
        unet.noise_embedding = BothLevels(unet.noise_embedding, NoiseEmbedding(width))  # type: ignore[assignment]
        self.unet, self.image_shape = unet, unet.image_shape

    def forward(self, x: Tensor, noise: Tensor, cond: LowResolution) -> Tensor:
        beside = enlarged(cond.image.to(x), x.shape[-2:])
        levels = torch.stack([noise, cond.level.to(noise)], dim=1)
        out: Tensor = self.unet(torch.cat([x, beside], dim=1), levels, cond.cond)
        return out


def enlarged(image: Tensor, size: Any) -> Tensor:
    """(B, C, h, w) -> (B, C, H, W), bilinear between the pixels' centres; size: (H, W), at least (h, w)."""
    return interpolate(image, size=tuple(size), mode="bilinear", align_corners=False)
