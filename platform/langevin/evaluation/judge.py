"""An independent judge of class-conditional samples: it sees pixels, and nothing else in the pipeline uses it.

A support vector machine shares no features, no training procedure and no code with the extractor behind FID, so a model
cannot please both by the same flaw.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.svm import SVC
from torch import Tensor

from langevin.errors import DataError
from langevin.evaluation.attributes import parse
from langevin.evaluation.intervals import Figure, proportion, share

NAME = "svc-rbf-pixels"


class Verdicts(ABC):
    """Which images (N, C, H, W) uint8 are of their class."""

    name: str

    @abstractmethod
    def right(self, images: Tensor, labels: Tensor) -> NDArray[np.bool_]:
        """(N,), one for each image. labels: (N,) int64."""

    def accuracy(self, images: Tensor, labels: Tensor) -> float:
        """The share of images that the judge puts into their class, in [0, 1]."""
        return self.recognised(images, labels).value

    def recognised(self, images: Tensor, labels: Tensor) -> Figure:
        """The same share with its interval: of class-conditional samples, how many are what they were asked to be."""
        return share(self.right(images, labels).tolist())

    def by_class(self, images: Tensor, labels: Tensor) -> dict[str, Figure]:
        """The share of each class that occurs in the labels, by the class's number."""
        right, classes = self.right(images, labels), labels.numpy()
        return {
            str(number): proportion(int(right[classes == number].sum()), int((classes == number).sum()))
            for number in np.unique(classes)
        }


@dataclass(frozen=True)
class Judge(Verdicts):
    """A trained classifier."""

    machine: SVC
    name: str = NAME

    @classmethod
    def train(cls, images: Tensor, labels: Tensor) -> Judge:
        """RBF kernel, C = 10, gamma = 1 / (dims x variance). images: (N, C, H, W) uint8; labels: (N,) int64."""
        _check(images, labels)
        if len(labels.unique()) < 2:
            raise DataError(
                "a judge needs images of at least two classes", field="labels", value=labels.unique().tolist()
            )
        return cls(SVC(C=10.0, kernel="rbf", gamma="scale").fit(_pixels(images), labels.numpy()))

    def right(self, images: Tensor, labels: Tensor) -> NDArray[np.bool_]:
        _check(images, labels)
        return np.asarray(self.machine.predict(_pixels(images)) == labels.numpy())


@dataclass(frozen=True)
class Parser(Verdicts):
    """The judge of pictures of shapes, which reads them (attributes.py): right where one of the objects is of the class.

    classes: "red circle", ..., by label.
    """

    classes: tuple[str, ...]
    name: str = "parser-shapes"

    def right(self, images: Tensor, labels: Tensor) -> NDArray[np.bool_]:
        _check(images, labels)
        shown = [{f"{thing.colour} {thing.shape}" for thing in parse(image).objects} for image in images]
        asked = [self.classes[label] for label in labels.tolist()]
        return np.array([wanted in found for wanted, found in zip(asked, shown, strict=True)])


def _pixels(images: Tensor) -> NDArray[np.float64]:
    return images.flatten(1).numpy().astype(np.float64) / 255


def _check(images: Tensor, labels: Tensor) -> None:
    if len(images) != len(labels) or len(images) == 0:
        raise DataError(f"{len(images)} images with {len(labels)} labels cannot be judged")
