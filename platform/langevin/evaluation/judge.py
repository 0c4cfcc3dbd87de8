"""An independent judge of class-conditional samples: it sees pixels, and nothing else in the pipeline uses it.

A support vector machine shares no features, no training procedure and no code with the extractor behind FID, so a model
cannot please both by the same flaw.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.svm import SVC
from torch import Tensor

from langevin.errors import DataError
from langevin.evaluation.intervals import Figure, proportion

NAME = "svc-rbf-pixels"


@dataclass(frozen=True)
class Judge:
    """A trained classifier of uint8 images (N, C, H, W)."""

    machine: SVC

    @classmethod
    def train(cls, images: Tensor, labels: Tensor) -> Judge:
        """RBF kernel, C = 10, gamma = 1 / (dims x variance). images: (N, C, H, W) uint8; labels: (N,) int64."""
        _check(images, labels)
        if len(labels.unique()) < 2:
            raise DataError(
                "a judge needs images of at least two classes", field="labels", value=labels.unique().tolist()
            )
        return cls(SVC(C=10.0, kernel="rbf", gamma="scale").fit(_pixels(images), labels.numpy()))

    def accuracy(self, images: Tensor, labels: Tensor) -> float:
        """The share of images that the judge puts into their class, in [0, 1]."""
        return self.recognised(images, labels).value

    def recognised(self, images: Tensor, labels: Tensor) -> Figure:
        """The same share with its interval: of class-conditional samples, how many are what they were asked to be."""
        right = self._right(images, labels)
        return proportion(int(right.sum()), len(right))

    def by_class(self, images: Tensor, labels: Tensor) -> dict[str, Figure]:
        """The share of each class that occurs in the labels, by the class's number."""
        right, classes = self._right(images, labels), labels.numpy()
        return {
            str(number): proportion(int(right[classes == number].sum()), int((classes == number).sum()))
            for number in np.unique(classes)
        }

    def _right(self, images: Tensor, labels: Tensor) -> NDArray[np.bool_]:
        _check(images, labels)
        return np.asarray(self.machine.predict(_pixels(images)) == labels.numpy())


def _pixels(images: Tensor) -> NDArray[np.float64]:
    return images.flatten(1).numpy().astype(np.float64) / 255


def _check(images: Tensor, labels: Tensor) -> None:
    if len(images) != len(labels) or len(images) == 0:
        raise DataError(f"{len(images)} images with {len(labels)} labels cannot be judged")
