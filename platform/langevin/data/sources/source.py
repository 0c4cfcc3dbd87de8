"""Where images come from: named, labelled, in an order that never changes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class SourceInfo:
    """shape: (C, H, W); levels: grey levels of a channel; classes: names, an image's label counts into them.

    captions: whether every image has one.
    """

    name: str
    shape: tuple[int, int, int]
    levels: int
    classes: tuple[str, ...]
    captions: bool = False


@dataclass(frozen=True)
class SourceImage:
    """pixels: the BYTES that a picture file stores, uint8, (H, W) for one channel, (H, W, 3) for three.

    key: unique in the source, without a dot, because WebDataset ends a key at the first one; caption: a text;
    attributes: what the image shows, as JSON can hold it.
    """

    key: str
    pixels: np.ndarray
    label: int
    caption: str | None = None
    attributes: Mapping[str, Any] | None = None


class Source(ABC):
    """Images that can be read one by one, so that a writer may put them in any order without holding them all."""

    info: SourceInfo
    keys: Sequence[str]

    @abstractmethod
    def read(self, index: int) -> SourceImage:
        """The image of ``keys[index]``."""

    def split_of(self, index: int) -> str | None:
        """The split that ``keys[index]`` must go to, by the key alone; None: the one that the key's hash gives it."""
        return None

    def __len__(self) -> int:
        return len(self.keys)

    def __iter__(self) -> Iterator[SourceImage]:
        return (self.read(index) for index in range(len(self)))
