"""A discriminator that judges patches: one number for each of many overlapping squares of an image (Isola et al. 2017)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from langevin.networks.layers import Norm


class PatchDiscriminator(nn.Module):
    """discriminator(x) -> (B, 1, h, w), above 0 where a patch looks real. x: (B, colours, H, W).

    4x4 convolutions, the first ``halvings`` >= 1 of stride 2, of ``channels`` times 1, 2, 4, 8, 8, ...: with 3 of them a patch
    is 70 pixels wide (their appendix 6.1.2). Group instead of batch normalisation: an image is judged by itself.
    ValueError where so many halvings leave no patch.
    """

    def __init__(self, image_shape: tuple[int, int, int], channels: int = 64, halvings: int = 3) -> None:
        super().__init__()
        colours, height, width = image_shape
        if min(height, width) >> halvings < 3:
            raise ValueError(f"{halvings} halvings leave no patch of {height} x {width} pixels: use fewer")
        norm, current = Norm(), channels
        parts: list[nn.Module] = [nn.Conv2d(colours, channels, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        for depth in range(1, halvings + 1):
            out, stride = channels * min(2**depth, 8), 2 if depth < halvings else 1
            # no bias: the norm takes most of it away
            parts.append(nn.Conv2d(current, out, 4, stride=stride, padding=1, bias=False))
            parts += [norm(out), nn.LeakyReLU(0.2)]
            current = out
        self.layers = nn.Sequential(*parts, nn.Conv2d(current, 1, 4, padding=1))
        self.apply(_small)

    def forward(self, x: Tensor) -> Tensor:
        judged: Tensor = self.layers(x)
        return judged


@torch.no_grad()
def _small(module: nn.Module) -> None:
    """Weights of N(0, 0.02^2), as in their appendix 6.2."""
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
