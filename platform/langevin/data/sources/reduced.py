"""Another source's images, smaller: the means over square blocks of their pixels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from langevin.data.sources.source import Source, SourceImage
from langevin.errors import ConfigError


class Reduced(Source):
    """The same images at ``size`` pixels of height, each the mean over a block, rounded to the nearest level.

    So a cascade's small images are what its large ones are made smaller to. ConfigError where blocks do not fit.
    """

    def __init__(self, source: Source, size: int) -> None:
        channels, height, width = source.info.shape
        if height % size or width % (height // size):
            raise ConfigError(f"makes no whole blocks of {height} x {width} pixels", field="data.size", value=size,
                              mend="give a divisor")  # fmt: skip
        self._source, self._factor = source, height // size
        self.info = replace(source.info, shape=(channels, size, width // self._factor))
        self.keys = source.keys

    def read(self, index: int) -> SourceImage:
        image, factor = self._source.read(index), self._factor
        height, width = image.pixels.shape[:2]
        blocks = image.pixels.reshape(height // factor, factor, width // factor, factor, *image.pixels.shape[2:])
        means = blocks.mean(axis=(1, 3), dtype=np.float64)
        return replace(image, pixels=np.floor(means + 0.5).astype(np.uint8))

    def split_of(self, index: int) -> str | None:
        return self._source.split_of(index)
