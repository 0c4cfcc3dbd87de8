"""Copies of training images are found, new images are not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from langevin.evaluation.memorisation import authenticity


def drawn(n: int, seed: int) -> Tensor:
    return torch.randn(n, 4, generator=torch.Generator().manual_seed(seed)) * 50


def test_copies_are_no_new_images() -> None:
    train, test = drawn(500, 0), drawn(400, 1)
    floor = authenticity(test, train)
    assert floor.value == pytest.approx(0.5, abs=0.1)
    nearly = train[:300] + torch.randn(300, 4) * 1e-3
    assert authenticity(train[:300], train).value == authenticity(nearly, train).value == 0
    half = authenticity(torch.cat([nearly[:200], test[:200]]), train)
    assert half.value == pytest.approx(floor.value / 2, abs=0.06)
    assert half.high < floor.low
    assert authenticity(test + 1000, train).value == 1


def test_by_hand() -> None:
    """On a line: 0, 1, 3 are known. 0.4 lies nearer to 0 than 1 does; 5.1 farther from 3 than 1 does, which is 2 away."""
    train = torch.tensor([[0.0], [1.0], [3.0]])
    assert authenticity(torch.tensor([[0.4]]), train).value == 0
    assert authenticity(torch.tensor([[5.1]]), train).value == 1
    assert authenticity(torch.tensor([[4.9], [5.1], [0.4]]), train).value == pytest.approx(1 / 3)
