"""FID over images seen: a point a checkpoint, computed once, beside the training or after it.

runs/NAME/curve/000000150016-1f0c88aa-5b3f9c11d2e0.json    images seen, the weights' sha256, the spec's hash
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from langevin.cluster.alone import Call
from langevin.cluster.training import Training
from langevin.config.paths import within_home
from langevin.config.recipe import Recipe
from langevin.data.manifest import Manifest
from langevin.evaluation.crew import ALONE
from langevin.evaluation.specification import MetricSpec
from langevin.stages.evaluator import Evaluator, spec_of
from langevin.stages.extractor import extractor_of
from langevin.stages.outputs import write_json, write_text
from langevin.stages.progress import Stage, say
from langevin.tracking.runs import Tracker, leave
from langevin.tracking.store import locked
from langevin.training import checkpoint as checkpoints
from langevin.training.checkpoint import Checkpoint


@dataclass(frozen=True)
class Curve:
    """The points of one run that were measured alike. count: images generated for each; spec: the hash of its spec."""

    folder: Path
    count: int
    spec: str

    @classmethod
    def of(cls, recipe: Recipe, run: Path, spec: MetricSpec) -> Curve:
        """run: its folder; spec: of the recipe's evaluations."""
        count = min(recipe.evaluate.curve_images, recipe.evaluate.images)
        return cls(run / "curve", count, replace(spec, generated_n=count).hash)

    def known(self, checkpoint: Checkpoint) -> float | None:
        """The checkpoint's FID, where it was computed."""
        place = self._place(checkpoint)
        return float(json.loads(place.read_text())["fid"]) if place.exists() else None

    def fid(self, checkpoint: Checkpoint, evaluator: Evaluator, stage: Stage, before: int = 0) -> float:
        """The checkpoint's FID, computed and kept where it is not known. before: images that the stage has done."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with locked(self.folder / "lock"):  # what a killed driver left may still be at it
            value = self.known(checkpoint)
            if value is None:
                started = time.perf_counter()
                value = evaluator.fid(evaluator.images(evaluator.model(checkpoint), self.count, stage, before))
                said = {"images": checkpoint.images, "fid": value, "n": self.count, "seed": evaluator.recipe.evaluate.seed,
                        "sha256": checkpoint.sha256, "spec": self.spec, "seconds": time.perf_counter() - started}  # fmt: skip
                write_json(self._place(checkpoint), said)
        return value

    def points(self) -> dict[int, float]:
        """FID by images seen, as far as it is known."""
        found = [json.loads(path.read_text()) for path in sorted(self.folder.glob(f"[!.]*-{self.spec}.json"))]
        return {one["images"]: one["fid"] for one in found}

    def _place(self, checkpoint: Checkpoint) -> Path:
        return self.folder / f"{checkpoint.images:012d}-{checkpoint.sha256[:8]}-{self.spec}.json"


@dataclass
class BesideTraining:
    """The curve while the training goes on: what cluster/beside.py asks for. key: of its points in the training's run."""

    training: Training
    recipe: Recipe
    curve: Curve
    key: str
    landed: set[int] = field(default_factory=set)
    is_behind: bool = False

    @classmethod
    def of(cls, recipe: Recipe, training: Training) -> BesideTraining | None:
        """None where the recipe does not ask for it. ConfigError where its extractor is not there."""
        if not recipe.evaluate.beside:
            return None
        folder = Path(training.folder)
        spec = spec_of(recipe, Manifest.load(within_home(recipe.data.root)), extractor_of(recipe))
        return cls(training, recipe, Curve.of(recipe, folder, spec), f"{prefix(folder, spec.hash)}/fid_curve")

    def knows(self, checkpoint: Checkpoint) -> bool:
        return self.curve.known(checkpoint) is not None

    def call(self, folder: Path) -> Call:
        return Call.of(measure, home=self.training.home, recipe=self.recipe.model_dump_json(), checkpoint=str(folder),
                       run=self.training.folder)  # fmt: skip

    def land(self) -> None:
        new = {images: value for images, value in self.curve.points().items() if images not in self.landed}
        if new:
            self.is_behind |= leave(self.recipe.name, self.training.name, Path(self.training.folder), self.key, new) > 0
            self.landed |= new.keys()

    def deliver(self) -> None:
        """The training's own tracker may have been closed before the last point came."""
        if self.is_behind:
            with Tracker(self.training.tracking_uri, self.recipe.name, self.training.name, Path(self.training.folder)):
                pass

    def say(self, text: str) -> None:
        say(text)


def measure(home: str, recipe: str, checkpoint: str, run: str) -> None:
    """Computes a checkpoint's point, in a process of its own with one thread. recipe: as JSON; run: the run's folder."""
    os.environ["LANGEVIN_HOME"] = home
    torch.set_num_threads(1)
    evaluator = Evaluator(Recipe.model_validate_json(recipe), ALONE)
    curve = Curve.of(evaluator.recipe, Path(run), evaluator.spec)
    with Stage("evaluate beside", curve.count) as stage:
        curve.fid(checkpoints.read(Path(checkpoint)), evaluator, stage)


def prefix(folder: Path, spec: str) -> str:
    """Under which name a spec's figures stand in the run: "test" for the first spec that it is measured with, and a name
    of its own for every other. Figures of two specs in one series would be compared. folder: the run's.
    """
    first = folder / "spec"
    if not first.exists():
        write_text(first, spec)
    return "test" if first.read_text() == spec else f"test-{spec}"
