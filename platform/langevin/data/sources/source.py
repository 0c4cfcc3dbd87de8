"""Where images come from: named, labelled, in an order that never changes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class SourceInfo:
    """shape: (C, H, W); levels: grey levels of a channel; classes: names, an image's label counts into them."""

    name: str
    shape: tuple[int, int, int]
    levels: int
    classes: tuple[str, ...]


@dataclass(frozen=True)
class SourceImage:
    """pixels: the BYTES that a picture file stores, uint8, (H, W) for one channel, (H, W, 3) for three.

    key: unique in the source, without a dot, because WebDataset ends a key at the first one.
    """

    key: str
    pixels: np.ndarray
    label: int


class Source(ABC):
    """Images that can be read one by one, so that a writer may put them in any order without holding them all."""

    info: SourceInfo
    keys: Sequence[str]

    @abstractmethod
    def read(self, index: int) -> SourceImage:
        """The image of ``keys[index]``."""

    def __len__(self) -> int:
        return len(self.keys)

    def __iter__(self) -> Iterator[SourceImage]:
        return (self.read(index) for index in range(len(self)))
