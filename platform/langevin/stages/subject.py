"""What a page is about: one model with all that the stages found out about it, and the parts that a page is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from langevin.config.load import restore
from langevin.config.paths import home, within_home
from langevin.config.recipe import Recipe
from langevin.data.reader import read_split
from langevin.evaluation.suite import Evaluation
from langevin.generation.plan import Request
from langevin.protocols import Batch, Samples
from langevin.reporting.page import Picture, Section, Table
from langevin.stages.extractor import as_bytes
from langevin.stages.outputs import Outputs, read_json
from langevin.tracking.registry import ModelVersion, Registry
from langevin.tracking.store import tracking_uri
from langevin.training import checkpoint as checkpoints


@dataclass(frozen=True)
class Part:
    """A section of a page. pictures: by the names of their files."""

    title: str
    text: str = ""
    pictures: Mapping[str, Picture] = field(default_factory=dict)
    table: Table | None = None

    @property
    def section(self) -> Section:
        return Section(self.title, self.text, tuple(self.pictures.values()), self.table)


@dataclass(frozen=True)
class Subject:
    """The model that images were generated from, as the recipe samples it; of one that nobody can ask for images, a codec
    or an enlarging stage alone, the promoted one. said: its description; generated: the batch job's manifest, or None.
    """

    recipe: Recipe
    path: Path
    evaluated: Mapping[str, Any]
    promoted: Mapping[str, Any]
    generated: Mapping[str, Any] | None
    version: ModelVersion
    said: Mapping[str, Any]
    model: Any

    @classmethod
    def of(cls, recipe: Recipe, path: Path) -> Subject:
        """DataError where a stage that it needs has not run."""
        outputs = Outputs.of(recipe)
        evaluated, promoted = read_json(outputs.evaluation, "evaluate"), read_json(outputs.promotion, "promote")
        manifest = outputs.generated / "manifest.json"
        generated = read_json(manifest, "generate") if manifest.is_file() else None
        registry = Registry(tracking_uri(home()))
        version = registry.resolve(generated["request"]["model"] if generated else promoted["model"])
        checkpoint = checkpoints.read(Path(version.source))
        model = restore(checkpoint, recipe.sample)
        if generated is None and isinstance(model, Samples) and "upsampling" not in checkpoint.model:
            read_json(manifest, "generate")  # which says what to do
        return cls(recipe, path, evaluated, promoted, generated, version, checkpoint.model, model)

    @property
    def outputs(self) -> Outputs:
        return Outputs.of(self.recipe)

    @cached_property
    def ours(self) -> Evaluation:
        return Evaluation.from_json(self.evaluated["evaluation"])

    @cached_property
    def request(self) -> Request | None:
        """What was asked for in the batch job."""
        return Request.of(self.generated["request"]) if self.generated else None

    @cached_property
    def test(self) -> Batch:
        """The test images."""
        return read_split(within_home(self.recipe.data.root), "test")

    def various(self, count: int) -> Batch:
        """So many test images: the classes in turn, each one's own in stored order."""
        return various(self.test, count)

    def bytes_of(self, images: Tensor) -> NDArray[np.uint8]:
        """(N, C, H, W) in [-1, 1] as they are stored."""
        stored: NDArray[np.uint8] = as_bytes(images, self.said["data"]["levels"]).numpy()
        return stored


def various(images: Batch, count: int) -> Batch:
    """So many of the images: the classes in turn, each one's own in stored order."""
    labels = images.labels
    if labels is None:
        return images[:count]
    one_hot = torch.nn.functional.one_hot(labels)
    # a class's first before another's second
    turn = (one_hot.cumsum(0) * one_hot).sum(1) * one_hot.shape[1] + labels
    return images[turn.argsort()[:count]]
