"""How different two images look: the distance of a classifier's features (Zhang et al. 2018, "The unreasonable effectiveness
of deep features as a perceptual metric")."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

# of ImageNet's colours in [0, 1], at which torchvision's weights were trained
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
WIDTHS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
LEAST_SIDE = 2 ** (len(WIDTHS) - 1)  # pixels of which the halvings leave one


class VGG16(nn.Module):
    """The convolutions of VGG16 (Simonyan & Zisserman 2014, configuration D), under torchvision's names.

    x: (B, 3 or 1, H, W) in [-1, 1], grey as three equal colours, H and W at least 16 -> what relu1_2, 2_2, 3_3, 4_3 and
    5_3 say: five maps (B, C, h, w), each of half the side of the one before.
    """

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        current, ends = 3, []
        for number, widths in enumerate(WIDTHS):
            if number:
                layers.append(nn.MaxPool2d(2))
            for width in widths:
                layers += [nn.Conv2d(current, width, 3, padding=1), nn.ReLU()]
                current = width
            ends.append(len(layers) - 1)
        self.features, self.ends = nn.Sequential(*layers), frozenset(ends)

    def forward(self, x: Tensor) -> list[Tensor]:
        mean, deviation = (x.new_tensor(colours)[:, None, None] for colours in (MEAN, DEVIATION))
        found, h = [], ((x + 1) / 2 - mean) / deviation  # one colour becomes three here
        for place, layer in enumerate(self.features):
            h = layer(h)
            if place in self.ends:
                found.append(h)
        return found


class Perceptual:
    """perceptual(x, y) -> (B,): how far images y look from x, both (B, C, H, W); the gradient is y's alone.

    read() -> a network with several maps of features; read when it is first looked through, so that who only encodes and
    decodes needs none. It is no part of a model that uses it: neither trained, averaged nor stored with it, and a copy of
    the model looks through the same one.
    """

    def __init__(self, read: Callable[[], nn.Module]) -> None:
        self._read = read
        self._network: nn.Module | None = None

    def __deepcopy__(self, memo: Any) -> Perceptual:
        return self

    def load(self) -> nn.Module:
        if self._network is None:
            self._network = self._read().eval().requires_grad_(False)
        return self._network

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        network = self.load().to(x.device)
        with torch.no_grad():
            real = network(x)
        return distance(real, network(y))


def distance(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> Tensor:
    """sum_l mean_hw |f_l / |f_l| - g_l / |g_l||^2: (B,). Their eq. 1 with w = 1. Maps (B, C_l, h_l, w_l), the lengths over C_l.

    Where a map is nothing but zeros its direction is zero, and so is its gradient.
    """
    layers = zip(ours, theirs, strict=True)
    return sum((_direction(f) - _direction(g)).square().sum(1).mean((1, 2)) for f, g in layers)  # type: ignore[return-value]


def _direction(features: Tensor) -> Tensor:
    return normalize(features, dim=1, eps=1e-10)
