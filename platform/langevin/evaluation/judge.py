"""An independent judge of class-conditional samples: it sees pixels, and nothing else in the pipeline uses it.

A support vector machine shares no features, no training procedure and no code with the extractor behind FID, so a model
cannot please both by the same flaw.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.svm import SVC
from torch import Tensor

from langevin.data.sources.shapes import BACKGROUNDS, COLOURS, RADII, SHAPES, Scene
from langevin.errors import DataError
from langevin.evaluation import spread
from langevin.evaluation.attributes import parse
from langevin.evaluation.audit import Table, categorical
from langevin.evaluation.intervals import Figure, proportion, share
from langevin.evaluation.nearest import distances

NAME = "svc-rbf-pixels"
ATTRIBUTES = {"shape": tuple(SHAPES), "colour": tuple(COLOURS), "size": tuple(RADII)}
MANY = 4  # objects of an image, or more
COUNTS = (*map(str, range(MANY)), f"{MANY} or more")


class Verdicts(ABC):
    """Which images (N, C, H, W) uint8 are of their class."""

    name: str

    @abstractmethod
    def right(self, images: Tensor, labels: Tensor) -> NDArray[np.bool_]:
        """(N,), one for each image. labels: (N,) int64."""

    @abstractmethod
    def tables(self, images: Tensor, classes: Sequence[str]) -> dict[str, Table]:
        """What the judge sees in the images, for the audit. classes: their names, by label."""

    def accuracy(self, images: Tensor, labels: Tensor) -> float:
        """The share of images that the judge puts into their class, in [0, 1]."""
        return self.recognised(images, labels).value

    def recognised(self, images: Tensor, labels: Tensor) -> Figure:
        """The same share with its interval: of class-conditional samples, how many are what they were asked to be."""
        return share(self.right(images, labels).tolist())


def by_class(recognised: Figure, labels: Tensor) -> dict[str, Figure]:
    """The share of each class that occurs in the labels (N,), by the class's number. recognised: of these very images."""
    assert isinstance(recognised.spread, spread.Verdicts)
    right = recognised.spread.values
    return {
        str(number): proportion(int(right[labels == number].sum()), int((labels == number).sum()))
        for number in labels.unique().tolist()
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
        pixels = _pixels(images).double().numpy()
        machine = SVC(C=10.0, kernel="rbf", gamma=1 / (pixels.shape[1] * pixels.var() or 1.0))
        return cls(machine.fit(pixels, labels.numpy()))

    def right(self, images: Tensor, labels: Tensor) -> NDArray[np.bool_]:
        _check(images, labels)
        return np.asarray(self.classes(images) == labels.numpy())

    def tables(self, images: Tensor, classes: Sequence[str]) -> dict[str, Table]:
        return {"class": categorical(self.classes(images).tolist(), classes)}

    def classes(self, images: Tensor) -> NDArray[np.int64]:
        """(N,) what ``machine.predict`` says, whose loop over support vectors takes several times as long as matrix products."""
        machine, votes = self.machine, []
        known = torch.from_numpy(machine.support_vectors_).float()
        weights, firsts, seconds = _duels(machine)
        for _, between in distances(_pixels(images), known):
            likeness = between.mul_(-machine.gamma).exp_().double()
            first = likeness @ weights + torch.from_numpy(machine.intercept_) > 0
            winner = torch.where(first, firsts, seconds)
            votes.append(torch.nn.functional.one_hot(winner, len(machine.classes_)).sum(dim=1))
        found: NDArray[np.int64] = machine.classes_[torch.cat(votes).argmax(dim=1).numpy()]
        return found


def _duels(machine: SVC) -> tuple[Tensor, Tensor, Tensor]:
    """What each support vector says for the first of two classes: (S, pairs); and which the two are, (pairs,) each.

    dual_coef_ holds of a vector of class i a row for each other class j, which is j's number, or j - 1 where j > i. Where
    there are but two classes, scikit-learn turns the sign round.
    """
    count = len(machine.classes_)
    first, second = torch.triu_indices(count, count, 1)
    of = torch.arange(count).repeat_interleave(torch.from_numpy(machine.n_support_).long())
    coefficients = torch.from_numpy(np.asarray(machine.dual_coef_))
    place = torch.arange(len(of))[:, None]
    weights = torch.where(of[:, None] == first, coefficients[second - 1, place], 0.0)
    weights += torch.where(of[:, None] == second, coefficients[first, place], 0.0)
    return (weights, first, second) if count > 2 else (weights, second, first)


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

    def tables(self, images: Tensor, classes: Sequence[str]) -> dict[str, Table]:
        scenes = [parse(image) for image in images]
        grounds = list(BACKGROUNDS)
        return {
            **{name: _objects(scenes, name, values) for name, values in ATTRIBUTES.items()},
            "background": categorical([grounds.index(scene.background) for scene in scenes], grounds),
            "objects": categorical([min(len(scene.objects), MANY) for scene in scenes], COUNTS),
        }


def _objects(scenes: Sequence[Scene], name: str, values: Sequence[str]) -> Table:
    """How many objects of each value of an attribute an image shows."""
    shown = torch.zeros(len(scenes), len(values), dtype=torch.float64)
    for image, scene in enumerate(scenes):
        for thing in scene.objects:
            shown[image, values.index(getattr(thing, name))] += 1
    return Table(shown, tuple(values), "objects")


def _pixels(images: Tensor) -> Tensor:
    """(N, dims) float32 in [0, 1]."""
    return images.flatten(1).float() / 255


def _check(images: Tensor, labels: Tensor) -> None:
    if len(images) != len(labels) or len(images) == 0:
        raise DataError(f"{len(images)} images with {len(labels)} labels cannot be judged")
