"""Checkpoints: a folder of tensors and a manifest that is written last. Loading never runs code from a file.

000150016/
    ema.safetensors      the averaged weights, all that sampling needs
    state.safetensors    raw weights, every average of them, optimiser moments, counters
    checkpoint.json      images seen, what the model is, sizes and sha256 of the files
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from langevin.errors import CheckpointError
from langevin.training.state import TrainState

MANIFEST, STATE, EMA = "checkpoint.json", "state.safetensors", "ema.safetensors"
SCHEMA = 1
RETRAIN = "use another checkpoint, or remove this folder and train again"


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint on disk. sha256: of the averaged weights; model: what builds them (plain JSON)."""

    folder: Path
    images: int
    sha256: str
    model: dict[str, Any]
    files: dict[str, dict[str, Any]]


def save(folder: Path, state: TrainState, model: dict[str, Any]) -> Checkpoint:
    """Writes the state to ``folder`` so that at any moment there is a complete checkpoint there or none."""
    return _write(folder, {EMA: state.serving.state_dict(), STATE: state.tensors()}, state.images, model)


def save_average(folder: Path, average: Mapping[str, Tensor], images: int, model: dict[str, Any]) -> Checkpoint:
    """As ``save``, of averaged weights alone: they can sample, but no training goes on from them."""
    return _write(folder, {EMA: average}, images, model)


def read(folder: Path) -> Checkpoint:
    """The manifest of a checkpoint. CheckpointError where it is missing, damaged or not what it says."""
    path = folder / MANIFEST
    if not path.is_file():
        raise CheckpointError("is no checkpoint", file=folder, mend=f"name a folder that holds {MANIFEST}")
    try:
        manifest = json.loads(path.read_text())
        schema, images, files = manifest["schema"], int(manifest["images"]), manifest["files"]
        sha256, model = files[EMA]["sha256"], manifest["model"]
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"cannot be read ({error!r})", file=path, mend=RETRAIN) from None
    if schema != SCHEMA:
        raise CheckpointError(
            f"was written by another version (this one reads {SCHEMA})", file=path, field="schema", value=schema
        )
    return Checkpoint(folder, images, sha256, model, files)


def load_state(checkpoint: Checkpoint, state: TrainState) -> None:
    """Puts the checkpoint's state into ``state``. CheckpointError where it is damaged or of another architecture."""
    tensors = _tensors(checkpoint, STATE)
    try:
        state.load(tensors)
    except (KeyError, RuntimeError, ValueError) as error:
        raise _other_architecture(checkpoint, error) from None


def load_average(checkpoint: Checkpoint, model: nn.Module) -> None:
    """Puts the averaged weights into ``model``. CheckpointError where they are damaged or of another architecture."""
    tensors = _tensors(checkpoint, EMA)
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise _other_architecture(checkpoint, error) from None


def average(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """The averaged weights by name. CheckpointError where they are damaged."""
    return _tensors(checkpoint, EMA)


def latest(folder: Path) -> Checkpoint | None:
    """The complete checkpoint of most images below ``folder``, or None."""
    found = every(folder)
    return found[-1] if found else None


def every(folder: Path) -> list[Checkpoint]:
    """All complete checkpoints below ``folder``, by images. Unfinished ones, named ``.*``, do not count."""
    places = (path.parent for path in folder.glob(f"[!.]*/{MANIFEST}"))
    return sorted((read(place) for place in places), key=lambda checkpoint: checkpoint.images)


def prune(folder: Path, keep: int) -> None:
    """Removes all but the ``keep`` newest checkpoints below ``folder``."""
    for checkpoint in every(folder)[:-keep]:
        _remove(checkpoint.folder)


def _write(
    folder: Path, contents: Mapping[str, Mapping[str, Tensor]], images: int, model: dict[str, Any]
) -> Checkpoint:
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    for file, tensors in contents.items():
        save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, unfinished / file)
    files = {file: _fingerprint(unfinished / file) for file in contents}
    manifest = {"schema": SCHEMA, "images": images, "model": model, "files": files}
    (unfinished / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True))
    _remove(folder)
    os.replace(unfinished, folder)
    return read(folder)


def _remove(folder: Path) -> None:
    """Out of sight first: a kill half-way must not leave a manifest without its files."""
    if folder.exists():
        away = folder.with_name(f".{folder.name}.removed")
        shutil.rmtree(away, ignore_errors=True)
        os.replace(folder, away)
        shutil.rmtree(away)


def _tensors(checkpoint: Checkpoint, name: str) -> dict[str, Tensor]:
    path, expected = checkpoint.folder / name, checkpoint.files.get(name, {})
    if not path.is_file():
        raise CheckpointError("is missing", file=path, mend=RETRAIN)
    if (found := _fingerprint(path)) != expected:
        raise CheckpointError("is damaged: it is not the file of its manifest", file=path, field="sha256",
                              value=found["sha256"][:12], mend=RETRAIN)  # fmt: skip
    try:
        return load_file(path)
    except (SafetensorError, ValueError) as error:
        raise CheckpointError(
            f"holds no plain tensors ({error}); code in a checkpoint is never run", file=path, mend=RETRAIN
        ) from None


def _other_architecture(checkpoint: Checkpoint, error: Exception) -> CheckpointError:
    first = str(error).split("\n")[1 if "\n" in str(error) else 0].strip()
    return CheckpointError(
        f"is of another architecture ({first[:160]})",
        file=checkpoint.folder,
        field="model",
        mend="set the recipe's model section to the checkpoint's, or train under another name",
    )


def _fingerprint(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"size": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
