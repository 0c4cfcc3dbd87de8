"""The classifier that FID sees by: what it is of small sets is what it always was, and large ones cost no more than they must."""

from __future__ import annotations

import hashlib
import math
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional

from langevin.evaluation import classifier
from langevin.evaluation.classifier import BATCH, EPOCHS, VISITS, WHOLE, Classifier, shifted, train_classifier
from langevin.randomness import Keys, Noise


def images(count: int, channels: int, side: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, channels, side, side), dtype=torch.uint8, generator=generator), (
        torch.arange(count) % 3
    )


def digest(network: nn.Module) -> str:
    return hashlib.sha256(safetensors.torch.save(network.state_dict())).hexdigest()


class Before(nn.Module):
    """The rule without an end: every image at its own resolution first, thirty times."""

    def __init__(self, channels: int, side: int, classes: int) -> None:
        super().__init__()

        def block(inputs: int, outputs: int, stride: int) -> nn.Sequential:
            convolution = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
            return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())

        blocks = [block(channels, 32, 1)]
        for stage in range(max(1, math.ceil(math.log2(side / 4)))):
            blocks += [block(32 if stage == 0 else 64, 64, 2), block(64, 64, 1)]
        self.body = nn.Sequential(
            *blocks,
            nn.AdaptiveAvgPool2d(4),
            nn.Flatten(),
            nn.Linear(1024, 64, bias=False),
            nn.BatchNorm1d(64),
            nn.ReLU(),
        )
        self.head = nn.Linear(64, classes)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.body(x.float() / 127.5 - 1))
        return out


def trained_before(x: Tensor, labels: Tensor, classes: int, seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Before(x.shape[1], min(x.shape[2:]), classes).train()
        noise, size = Noise(Keys.range(seed, 0, len(x))), min(64, len(x))
        steps = len(x) // size
        optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=0.05)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=30 * steps)
        for epoch in range(30):
            moved = shifted(x, noise, f"shift/{epoch}")
            order = noise.uniform(f"order/{epoch}", torch.empty(len(x), dtype=torch.float64)).argsort()
            for batch in order[: steps * size].split(size):
                optimiser.zero_grad()
                functional.cross_entropy(network(moved[batch]), labels[batch]).backward()
                optimiser.step()
                schedule.step()
    return network.eval()


@pytest.mark.parametrize(("channels", "side", "count"), [(1, 8, 70), (3, 16, 20)])
def test_of_a_small_set_of_small_images_the_weights_are_what_they_were(channels: int, side: int, count: int) -> None:
    """Bit for bit: figures that were measured by them can be compared with new ones."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    x, labels = images(count, channels, side)
    expected = digest(trained_before(x, labels, 3, seed=5))
    assert digest(train_classifier(x, labels, 3, seed=5)) == expected
    torch.set_num_threads(threads)


def visits(monkeypatch: pytest.MonkeyPatch, count: int) -> int:
    """How many images a training of so many looks at."""
    seen: list[int] = []

    class Seeing(Classifier):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            seen.append(len(x))
            logits: Any = self.head.bias.expand(len(x), -1)
            return x, logits

    monkeypatch.setattr(classifier, "Classifier", Seeing)
    x, labels = images(count, 1, 8)
    train_classifier(x, labels, 3, seed=0)
    return sum(seen)


@pytest.mark.parametrize("count", [64, 1300, 4000, 17_000, 50_000])
def test_a_large_set_gets_fewer_epochs(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    whole = count - count % BATCH
    epochs, left = divmod(visits(monkeypatch, count), whole)
    assert left == 0
    assert epochs == (EPOCHS if count * EPOCHS <= VISITS else math.ceil(VISITS / count))
    assert 1 <= epochs <= EPOCHS
    assert epochs * count >= min(VISITS, EPOCHS * count)


@pytest.mark.parametrize(("side", "stride"), [(8, 1), (28, 1), (32, 1), (63, 1), (64, 2), (128, 4), (256, 8)])
def test_from_more_than_32_pixels_the_first_layer_makes_the_side_smaller(side: int, stride: int) -> None:
    """What is left for the rest has 32 to 63 pixels, halved until it is 4."""
    network: Any = Classifier(3, side, 5).eval()
    x = torch.zeros(1, 3, side, side)
    first = network.body[0](x)
    assert first.shape[-1] == side // stride == math.ceil(side / stride)
    assert first.shape[-1] < 2 * WHOLE
    h, sides = x, []
    for layer in network.body:
        if isinstance(layer, nn.AdaptiveAvgPool2d):
            break
        h = layer(h)
        sides.append(h.shape[-1])
    assert sides[1::2] == [math.ceil(first.shape[-1] / 2**k) for k in range(1, len(sides) // 2 + 1)]
    assert 2 < sides[-1] <= 4
    assert network(torch.zeros(2, 3, side, side, dtype=torch.uint8))[0].shape == (2, 64)
