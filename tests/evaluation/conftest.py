"""Real digits, and one extractor trained on them for the whole session."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor

from langevin.evaluation.extractors import ConvExtractor, train_extractor


@dataclass(frozen=True)
class Split:
    images: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Digits:
    train: Split
    test: Split


@pytest.fixture(scope="session")
def digits() -> Digits:
    """1,300 training and 360 test images: (N, 1, 8, 8) uint8 of 17 levels."""
    found = load_digits()
    images = torch.tensor((found.images * 255 / 16).round().astype("uint8"))[:, None]
    labels = torch.tensor(found.target)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    train, test = order[:1300], order[-360:]
    return Digits(Split(images[train], labels[train]), Split(images[test], labels[test]))


@pytest.fixture(scope="session")
def extractor(digits: Digits) -> ConvExtractor:
    return train_extractor(
        digits.train.images, digits.train.labels, digits.test.images, digits.test.labels, 10, 0, "cnn-digits-64", "d1"
    )


@pytest.fixture
def saved(extractor: ConvExtractor, tmp_path: Path) -> Path:
    """A folder that holds the extractor."""
    extractor.save(tmp_path / "extractor")
    return tmp_path / "extractor"
