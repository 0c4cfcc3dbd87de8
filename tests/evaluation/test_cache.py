"""Features of real images are computed once, and again where what lies there cannot be trusted."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from langevin.evaluation.cache import FeatureCache
from langevin.evaluation.extractors import Features


@dataclass(frozen=True)
class Counting:
    """Sums of pixels, and how often they were asked for."""

    name: str = "sums"
    sha256: str = "ab" * 32
    dim: int = 3
    classes: int = 2
    accuracy: float | None = None
    calls: list[int] = field(default_factory=list)

    def features(self, images: Tensor) -> Features:
        self.calls.append(len(images))
        return Features(images.flatten(1)[:, :3].float(), torch.zeros(len(images), 2))


IMAGES = torch.arange(200 * 16).remainder(251).byte().view(200, 1, 4, 4)
CONTENT = {"dataset": "d1", "split": "train", "levels": "17"}


def test_a_set_is_looked_at_once(tmp_path: Path) -> None:
    extractor, cache = Counting(), FeatureCache(tmp_path / "features")
    first = cache.features(extractor, IMAGES, CONTENT)
    again = FeatureCache(tmp_path / "features").features(extractor, IMAGES, CONTENT)
    assert extractor.calls == [200]
    assert torch.equal(first, again)
    assert torch.equal(first, extractor.features(IMAGES).features)
    assert [path.suffix for path in (tmp_path / "features").iterdir()] == [".safetensors"]


@pytest.mark.parametrize("other", [{"dataset": "d2"}, {"split": "test"}, {"levels": "256"}])
def test_other_content_is_another_set(tmp_path: Path, other: dict[str, str]) -> None:
    extractor, cache = Counting(), FeatureCache(tmp_path)
    cache.features(extractor, IMAGES, CONTENT)
    cache.features(extractor, IMAGES, CONTENT | other)
    cache.features(replace(extractor, sha256="cd" * 32), IMAGES, CONTENT)
    assert extractor.calls == [200, 200, 200]


def test_a_damaged_file_is_made_again(tmp_path: Path) -> None:
    extractor, cache = Counting(), FeatureCache(tmp_path)
    whole = cache.features(extractor, IMAGES, CONTENT)
    (path,) = tmp_path.iterdir()
    content = path.read_bytes()
    flipped = bytearray(content)
    flipped[-5] ^= 1
    for damaged in (b"", content[: len(content) // 2], bytes(flipped), b"nothing of the kind" * 100):
        path.write_bytes(damaged)
        assert torch.equal(cache.features(extractor, IMAGES, CONTENT), whole)
        assert torch.equal(cache.features(extractor, IMAGES, CONTENT), whole)  # now it is whole again
    assert extractor.calls == [200] * 5
    cache.features(extractor, IMAGES[:150], CONTENT)  # a set that lost images without anyone saying so
    assert extractor.calls[-1] == 150
