"""A small convolutional classifier of a data set's own images. Its last hidden layer is what FID is measured in.

Inception's features say little about images that are not photographs: on 8x8 digits most of them do not move.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional

from langevin.randomness import Keys, Noise

FEATURES = 64
EPOCHS, BATCH, LEARNING_RATE, WEIGHT_DECAY = 30, 64, 2e-3, 0.05
VISITS = 40_000  # images seen at the most: a large set needs no thirty epochs
WHOLE = 32  # pixels a side up to which the first layer looks at every pixel


class Classifier(nn.Module):
    """Images (B, C, H, W) uint8 -> features (B, 64) >= 0, logits (B, classes). The side is halved until it is 4, from more
    than 32 pixels by the first layer at once.
    """

    def __init__(self, channels: int, side: int, classes: int) -> None:
        super().__init__()
        stride = max(1, side // WHOLE)
        blocks = [_block(channels, 32, stride)]
        for stage in range(max(1, math.ceil(math.log2(side / stride / 4)))):
            blocks += [_block(32 if stage == 0 else FEATURES, FEATURES, stride=2), _block(FEATURES, FEATURES, stride=1)]
        self.body = nn.Sequential(
            *blocks,
            nn.AdaptiveAvgPool2d(4),
            nn.Flatten(),
            nn.Linear(16 * FEATURES, FEATURES, bias=False),
            # on the digits: without it one to four features die, and the rest vary in 6 effective dimensions, not 9
            nn.BatchNorm1d(FEATURES),
            nn.ReLU(),
        )
        self.head = nn.Linear(FEATURES, classes)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.body(images.float() / 127.5 - 1)
        return features, self.head(features)


def train_classifier(images: Tensor, labels: Tensor, classes: int, seed: int) -> Classifier:
    """A classifier after 30 epochs of shifted images, or fewer of many. images: (N, C, H, W) uint8; labels: (N,) int64.

    5 s for 1,300 images of 8x8 on one core; a pure function of its arguments on one kind of CPU. No label smoothing: it
    draws each class to a point, and then FID no longer sees how samples differ within a class.
    """
    with _one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # for the initial weights; fork_rng gives the caller's state back
        network = Classifier(images.shape[1], min(images.shape[2:]), classes).train()
        noise = Noise(Keys.range(seed, 0, len(images)))
        size = min(BATCH, len(images))
        steps, epochs = len(images) // size, min(EPOCHS, math.ceil(VISITS / len(images)))
        optimiser = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=epochs * steps)
        for epoch in range(epochs):
            moved = shifted(images, noise, f"shift/{epoch}")
            order = noise.uniform(f"order/{epoch}", torch.empty(len(images), dtype=torch.float64)).argsort()
            for batch in order[: steps * size].split(size):
                _, logits = network(moved[batch])
                optimiser.zero_grad()
                functional.cross_entropy(logits, labels[batch]).backward()
                optimiser.step()
                schedule.step()
    return network.eval()


def shifted(images: Tensor, noise: Noise, stream: str) -> Tensor:
    """Each image moved by up to an eighth of its side in both directions, its edge repeated. (N, C, H, W) uint8."""
    count, _, height, width = images.shape
    reach = max(1, min(height, width) // 8)
    padded = functional.pad(images.float(), (reach,) * 4, mode="replicate").to(images.dtype)
    offsets = (noise.uniform(stream, torch.empty(count, 2)) * (2 * reach + 1)).long()
    rows = offsets[:, :1] + torch.arange(height)
    columns = offsets[:, 1:] + torch.arange(width)
    picked = padded[torch.arange(count)[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    return picked.permute(0, 3, 1, 2)


def _block(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, kernel_size=3, stride=stride, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sums in one order: else the weights, and with them the extractor's hash, depend on the number of cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
