"""What happens beside the steps of a training: tracking, progress, validation, sample sheets, snapshots, checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from langevin.cluster.progress import write_progress
from langevin.cluster.training import Training
from langevin.config.load import description
from langevin.config.recipe import Recipe
from langevin.data.manifest import Manifest
from langevin.data.quantisation import quantise, to_bytes
from langevin.data.reader import read_split
from langevin.data.version import version_of
from langevin.protocols import Conditioned, Samples, condition_of, own_device
from langevin.randomness import Keys
from langevin.reporting.sheets import contact_sheet
from langevin.tracking.runs import Tracker
from langevin.tracking.system import SystemMonitor
from langevin.training import checkpoint as checkpoints
from langevin.training import snapshots
from langevin.training.state import TrainState
from langevin.training.validation import validation_loss

VALIDATION_SEED = 7_000_001  # not a training seed that anyone would choose
SHEET_SEED, SHEET_PER_CLASS, SHEET = 7_000_002, 4, 40


class Bystander:
    """What the workers beside the first one observe: nothing but the common report."""

    def log(self, images: int, metrics: dict[str, float]) -> None: ...
    def skipped(self, images: int, ordinals: list[int]) -> None: ...
    def validate(self, state: TrainState) -> None: ...
    def snapshot(self, state: TrainState) -> None: ...

    def checkpoint(self, state: TrainState) -> None:
        _report(state.images)


class FirstWorker:
    """The first worker's observer: tracking, progress, validation, sample sheets, snapshots, checkpoints."""

    def __init__(self, training: Training, recipe: Recipe, manifest: Manifest) -> None:
        self.training, self.recipe, self.manifest = training, recipe, manifest
        self.validation = read_split(training.data, "validation")
        folder = Path(training.folder)
        self.tracker = Tracker(training.tracking_uri, recipe.name, folder.name, folder)
        self.tracker.params(_flat(recipe.plain()))
        self.tracker.tags(training.lineage)
        read = Manifest.load(training.data)
        self.tracker.dataset(f"{read.name}/train", version_of(read, training.data), training.data, "training")
        self.machine = SystemMonitor()

    def log(self, images: int, metrics: dict[str, float]) -> None:
        self.tracker.metrics(images, {f"train/{name}": value for name, value in metrics.items()} | self.machine.read())
        write_progress(Path(self.training.folder), {"images": images, **metrics})

    def skipped(self, images: int, ordinals: list[int]) -> None:
        self.tracker.metrics(images, {"train/skipped": float(len(ordinals))})
        self.tracker.text(f"no finite gradient; samples {ordinals}\n", f"skipped/{images}.txt")

    def validate(self, state: TrainState) -> None:
        loss = validation_loss(state.serving, self.validation, VALIDATION_SEED)  # type: ignore[arg-type]
        self.tracker.metrics(state.images, {"validation/loss": loss})

    def snapshot(self, state: TrainState) -> None:
        snapshots.save(self.training.snapshots, state)

    def checkpoint(self, state: TrainState) -> None:
        folder = self.training.checkpoints / f"{state.images:012d}"
        checkpoints.save(folder, state, description(self.recipe, self.manifest))
        checkpoints.prune(self.training.checkpoints, self.recipe.train.keep)
        self.tracker.image("samples", state.images, self._sheet(state.serving))
        _report(state.images)

    def _sheet(self, model: Any) -> Any:
        """Some of each class; of what the first validation images are, where that is no class; of a codec, those again."""
        device, levels = own_device(), self.manifest.levels
        some = self.validation[:SHEET].to(device)
        if not isinstance(model, Samples):
            images = model.reconstruct(some.images)
        else:
            labels = torch.arange(len(self.manifest.classes)).repeat_interleave(SHEET_PER_CLASS).to(device)
            cond = condition_of(model, some) if isinstance(model, Conditioned) else labels
            count = len(some) if isinstance(model, Conditioned) else len(labels)
            images = model.sample(Keys.range(SHEET_SEED, 0, count).to(device), cond)
        return contact_sheet(to_bytes(quantise(images.cpu(), levels), levels).numpy(), SHEET_PER_CLASS)


def _report(images: int) -> None:
    """Tells Ray Train where we are. A barrier over the group, so once a checkpoint and not once a step."""
    if dist.is_initialized():  # it was Ray Train that made the group
        import ray.train

        ray.train.report({"images": images})


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat
