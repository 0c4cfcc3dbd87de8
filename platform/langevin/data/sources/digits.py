"""Real handwritten digits: 1,797 images of 8 x 8 pixels with 17 grey levels, shipped with scikit-learn.

Alpaydin and Kaynak 1998, "Optical Recognition of Handwritten Digits" (the test half; UCI Machine Learning Repository).
"""

from __future__ import annotations

import torch

from langevin.data.quantisation import to_bytes
from langevin.data.sources.source import Source, SourceImage, SourceInfo


class Digits(Source):
    """Keys "digits-0000" .. "digits-1796", classes "0" .. "9"."""

    info = SourceInfo("digits", shape=(1, 8, 8), levels=17, classes=tuple("0123456789"))

    def __init__(self) -> None:
        from sklearn.datasets import load_digits  # here: it takes a second, and readers of shards never need it

        digits = load_digits()
        self._pixels = to_bytes(torch.from_numpy(digits.images), self.info.levels).numpy()
        self._labels = digits.target.tolist()
        self.keys = tuple(f"digits-{number:04d}" for number in range(len(self._labels)))

    def read(self, index: int) -> SourceImage:
        return SourceImage(self.keys[index], self._pixels[index], self._labels[index])
