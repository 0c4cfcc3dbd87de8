"""Where a training begins that does not begin at the beginning: at another one's checkpoint, copied into its own run.

RUN/start/        the checkpoint as it was: weights, averages, optimiser, images seen
RUN/snapshots/    the snapshots of the run that it is of, up to there, of which averages of other lengths are made

The other run may go on, and remove old checkpoints of its own.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from langevin.cluster.training import Training
from langevin.config.paths import within_home
from langevin.config.recipe import WarmStart
from langevin.errors import CheckpointError, ConfigError
from langevin.training import checkpoint as checkpoints
from langevin.training.checkpoint import STATE, Checkpoint


def bring(training: Training) -> None:
    """Copies what the training begins from, unless it is there: whole at any moment, or not at all.

    CheckpointError where the recipe's checkpoint is missing, another one or averaged weights alone; ConfigError where it has
    seen as many images as the training is to see.
    """
    section = training.parsed().train
    if section.warm_start is None or every(training):
        return
    source = _named(section.warm_start)
    if source.images >= section.images:
        raise ConfigError(f"has seen {source.images} images, and the training ends at {section.images}",
                          field="train.warm_start.checkpoint", value=section.warm_start.checkpoint,
                          mend="take an earlier one, or more images")  # fmt: skip
    for snapshot in checkpoints.every(source.folder.parent.with_name(training.snapshots.name)):
        if snapshot.images <= source.images:
            _copy(snapshot.folder, training.snapshots / snapshot.folder.name)
    _copy(source.folder, training.start)  # last: with it everything is there


def every(training: Training) -> list[Checkpoint]:
    """The training's complete checkpoints, by images, the one that it begins from first."""
    start = [checkpoints.read(training.start)] if training.start.is_dir() else []
    return start + checkpoints.every(training.checkpoints)


def _named(section: WarmStart) -> Checkpoint:
    found = checkpoints.read(within_home(section.checkpoint))
    if found.sha256 != section.sha256:
        raise CheckpointError("is not the one that the recipe names", file=found.folder, field="train.warm_start.sha256",
                              value=section.sha256[:12], mend=f"this one's is {found.sha256}")  # fmt: skip
    if STATE not in found.files:
        raise CheckpointError("holds averaged weights alone, from which no training goes on", file=found.folder,
                              mend="name one in a run's folder checkpoints")  # fmt: skip
    return found


def _copy(source: Path, place: Path) -> None:
    unfinished = place.with_name(f".{place.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    shutil.copytree(source, unfinished)
    shutil.rmtree(place, ignore_errors=True)
    os.replace(unfinished, place)
