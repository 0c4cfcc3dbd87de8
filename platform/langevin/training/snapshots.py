"""Snapshots of power-function averages, from which the average of any other length is made after the training.

000000150016-0.05/     the average of std 0.05 after 150,016 images
    ema.safetensors    its parameters
    checkpoint.json    written last: std, images, size and sha256
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from langevin.errors import CheckpointError
from langevin.training import checkpoint as checkpoints
from langevin.training.checkpoint import RETRAIN, Checkpoint
from langevin.training.posthoc import Mixture, Profile
from langevin.training.state import TrainState


@dataclass(frozen=True)
class Snapshot:
    """A complete snapshot on disk, and how the weights of each time count in it."""

    checkpoint: Checkpoint
    profile: Profile


def save(folder: Path, state: TrainState) -> None:
    """Writes one snapshot for each power-function average below ``folder``; what has its name already is replaced."""
    for power in state.powers:
        parameters = dict(power.model.named_parameters())
        said = {"std": power.std, "images": power.images}
        checkpoints.save_average(folder / f"{state.images:012d}-{power.std}", parameters, state.images, said)


def every(folder: Path) -> list[Snapshot]:
    """All complete snapshots below ``folder``, by images and std. CheckpointError where one is damaged."""
    found = [Snapshot(one, _profile(one)) for one in checkpoints.every(folder)]
    return sorted(found, key=lambda snapshot: (snapshot.profile.end, snapshot.profile.std))


def mix(snapshots: Sequence[Snapshot], mixture: Mixture) -> dict[str, Tensor]:
    """sum_i x_i theta_i of the snapshots' parameters, added up in float64, each in its own type by its name.

    CheckpointError where a snapshot is damaged or of another architecture than the first.
    """
    sums: dict[str, Tensor] = {}
    types: dict[str, torch.dtype] = {}
    for snapshot, coefficient in zip(snapshots, mixture.coefficients, strict=True):
        tensors = checkpoints.average(snapshot.checkpoint)
        shapes = {name: value.shape for name, value in tensors.items()}
        if not sums:
            sums = {name: torch.zeros_like(value, dtype=torch.float64) for name, value in tensors.items()}
            types = {name: value.dtype for name, value in tensors.items()}
        if shapes != {name: value.shape for name, value in sums.items()}:
            raise CheckpointError("is of another architecture than the first snapshot",
                                  file=snapshot.checkpoint.folder, mend=RETRAIN)  # fmt: skip
        for name, value in tensors.items():
            sums[name].add_(value.double(), alpha=coefficient)
    return {name: value.to(types[name]) for name, value in sums.items()}


def _profile(checkpoint: Checkpoint) -> Profile:
    try:
        return Profile(float(checkpoint.model["std"]), int(checkpoint.model["images"]))
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"does not say which average it is ({error!r})", file=checkpoint.folder,
                              mend=RETRAIN) from None  # fmt: skip
