"""Checkpoints: whole or not there, what they say they are, and never code."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from langevin.errors import CheckpointError
from langevin.randomness import Keys
from langevin.training import checkpoint as checkpoints
from langevin.training.checkpoint import EMA, MANIFEST, STATE
from langevin.training.loop import fit
from langevin.training.state import TrainState

from .example import Diary, differing, fresh, model, plan, stream

MODEL = {"recipe": "example", "nested": {"numbers": [1, 2.5, None]}}


@pytest.fixture(scope="module")
def trained() -> TrainState:
    state = fresh()
    fit(state, stream(), plan(3), Diary())
    return state


@pytest.fixture
def folder(trained: TrainState, tmp_path: Path) -> Path:
    return checkpoints.save(tmp_path / "checkpoints" / "000000000024", trained, MODEL).folder


def load(folder: Path, name: str, channels: int = 16) -> None:
    """Reads the checkpoint and loads its file of that name into what it belongs to."""
    checkpoint = checkpoints.read(folder)
    if name == EMA:
        checkpoints.load_average(checkpoint, model(5, channels))
    else:
        checkpoints.load_state(checkpoint, fresh(5, channels))


def forge(folder: Path, name: str, content: bytes) -> None:
    """Puts the content in the place of a file, with a manifest that agrees with it."""
    (folder / name).write_bytes(content)
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["files"][name] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (folder / MANIFEST).write_text(json.dumps(manifest))


def test_a_state_survives_to_the_bit(trained: TrainState, folder: Path) -> None:
    again = fresh(seed=5)
    assert differing(trained, again) != []
    checkpoint = checkpoints.read(folder)
    checkpoints.load_state(checkpoint, again)
    assert differing(trained, again) == []
    assert (again.images, again.ema.updates) == (24, 3)
    assert (checkpoint.images, checkpoint.model, checkpoint.folder) == (24, MODEL, folder)


def test_an_untrained_state_survives_too(tmp_path: Path) -> None:
    state, again = fresh(), fresh(seed=5)
    fit(again, stream(), plan(2), Diary())
    checkpoints.load_state(checkpoints.save(tmp_path / "0", state, MODEL), again)
    assert differing(state, again) == []


def test_the_average_is_what_samples(trained: TrainState, folder: Path) -> None:
    again = model(seed=5)
    checkpoint = checkpoints.read(folder)
    checkpoints.load_average(checkpoint, again)
    keys, labels = Keys.range(0, 0, 4), torch.tensor([0, 1, 2, -1])
    assert torch.equal(again.sample(keys, labels), trained.ema.model.sample(keys, labels))  # type: ignore[operator]
    assert checkpoint.sha256 == hashlib.sha256((folder / EMA).read_bytes()).hexdigest()


def test_the_same_state_has_the_same_name(trained: TrainState, folder: Path, tmp_path: Path) -> None:
    again = checkpoints.save(tmp_path / "elsewhere", trained, MODEL)
    assert again.sha256 == checkpoints.read(folder).sha256
    assert (again.folder / STATE).read_bytes() == (folder / STATE).read_bytes()


def test_a_checkpoint_replaces_one_of_the_same_name(trained: TrainState, folder: Path) -> None:
    (folder / "stranger").write_text("of an earlier attempt")
    other = fresh(seed=7)
    checkpoints.save(folder, other, MODEL)
    assert sorted(path.name for path in folder.iterdir()) == sorted([EMA, STATE, MANIFEST])
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    again = fresh(seed=5)
    checkpoints.load_state(checkpoints.read(folder), again)
    assert differing(again, other) == []


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.marker),)


def as_pickle(payload: Payload) -> bytes:
    return pickle.dumps({"ema": payload})


def as_torch_file(payload: Payload) -> bytes:
    buffer = io.BytesIO()
    torch.save({"ema": payload}, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("name", [EMA, STATE])
@pytest.mark.parametrize(
    ("craft", "careless"),
    [(as_pickle, pickle.load), (as_torch_file, functools.partial(torch.load, weights_only=False))],
    ids=["pickle", "torch file"],
)
def test_code_in_a_checkpoint_is_refused_and_never_run(
    folder: Path,
    tmp_path: Path,
    name: str,
    craft: Callable[[Payload], bytes],
    careless: Callable[[io.BytesIO], object],
) -> None:
    """The manifest agrees with the crafted file, so it is the loading itself that has to be safe."""
    marker = tmp_path / "the payload ran"
    crafted = craft(Payload(marker))
    forge(folder, name, crafted)
    with pytest.raises(CheckpointError, match="code in a checkpoint is never run") as caught:
        load(folder, name)
    assert not marker.exists()
    assert str(folder / name) in str(caught.value)
    assert "\n" not in str(caught.value)
    careless(io.BytesIO(crafted))
    assert marker.exists()  # it would have run


@pytest.mark.parametrize("name", [EMA, STATE])
def test_another_architecture_is_named(trained: TrainState, folder: Path, name: str) -> None:
    with pytest.raises(CheckpointError, match="is of another architecture") as caught:
        load(folder, name, channels=8)
    line = str(caught.value)
    assert line.startswith(f"{folder}: model")
    assert "denoiser.network" in line or "size mismatch" in line
    assert "train under another name" in line
    assert "\n" not in line


@pytest.mark.parametrize("missing", ["counters/images", "counters/ema_updates"])
def test_a_state_without_its_counters_is_refused(folder: Path, missing: str) -> None:
    tensors = load_file(folder / STATE)
    del tensors[missing]
    save_file(tensors, folder / "changed")
    forge(folder, STATE, (folder / "changed").read_bytes())
    with pytest.raises(CheckpointError):
        load(folder, STATE)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("name", [EMA, STATE])
@pytest.mark.parametrize("damage", [truncate, flip, empty, Path.unlink])
def test_a_damaged_file_is_named(folder: Path, name: str, damage: Callable[[Path], None]) -> None:
    damage(folder / name)
    with pytest.raises(CheckpointError, match=r"is damaged|is missing") as caught:
        load(folder, name)
    assert caught.value.file == folder / name
    assert "train again" in str(caught.value)


@pytest.mark.parametrize(
    "manifest",
    ["", "{", "[]", "3", "null", "{}", '{"schema": 1, "images": 3, "model": {}, "files": {}}',
     '{"schema": 1, "images": "many", "model": {}, "files": {"ema.safetensors": {"sha256": ""}}}',
     '{"schema": 99, "images": 3, "model": {}, "files": {"ema.safetensors": {"sha256": ""}}}'],
)  # fmt: skip
def test_a_manifest_that_says_nothing_is_refused(folder: Path, manifest: str) -> None:
    (folder / MANIFEST).write_text(manifest)
    with pytest.raises(CheckpointError) as caught:
        checkpoints.read(folder)
    assert caught.value.file == folder / MANIFEST
    assert "\n" not in str(caught.value)


def test_a_folder_without_a_manifest_is_no_checkpoint(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(CheckpointError, match="is no checkpoint"):
            checkpoints.read(folder)


def test_the_latest_is_the_complete_one_of_most_images(trained: TrainState, tmp_path: Path) -> None:
    """Unfinished ones, however far, do not count; nor does the order of their names or of their making."""
    assert checkpoints.latest(tmp_path) is None
    assert checkpoints.latest(tmp_path / "nowhere") is None
    for images in (900, 1000, 80):
        trained_at(trained, images, tmp_path / str(images))
    shutil.copytree(tmp_path / "1000", tmp_path / ".5000.unfinished")
    shutil.copytree(tmp_path / "1000", tmp_path / "6000")
    (tmp_path / "6000" / MANIFEST).unlink()
    last = checkpoints.latest(tmp_path)
    assert last is not None
    assert last.images == 1000
    assert [one.images for one in checkpoints.every(tmp_path)] == [80, 900, 1000]


def test_prune_keeps_the_newest(trained: TrainState, tmp_path: Path) -> None:
    for images in (900, 1000, 80, 7):
        trained_at(trained, images, tmp_path / str(images))
    checkpoints.prune(tmp_path, 9)
    assert len(checkpoints.every(tmp_path)) == 4
    checkpoints.prune(tmp_path, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1000", "900"]


def test_an_attempt_that_was_cut_off_leaves_what_was_there(
    trained: TrainState, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed while the tensors are written: the earlier checkpoint stays the latest, and the next attempt succeeds."""

    def killed(tensors: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "save_file", killed)
        with pytest.raises(KeyboardInterrupt):
            checkpoints.save(folder.with_name("000000000032"), trained, MODEL)
    last = checkpoints.latest(folder.parent)
    assert last is not None
    assert last.folder == folder
    trained_at(trained, 32, folder.with_name("000000000032"))
    assert [one.images for one in checkpoints.every(folder.parent)] == [24, 32]
    assert len(list(folder.parent.iterdir())) == 2


def trained_at(state: TrainState, images: int, folder: Path) -> None:
    checkpoints.save(folder, TrainState(state.model, state.ema, state.optimiser, images), MODEL)


def test_a_removal_that_was_cut_off_leaves_no_manifest_without_its_files(
    trained: TrainState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for images in (8, 16):
        trained.images = images
        checkpoints.save(tmp_path / f"{images:012d}", trained, {})

    def killed(folder: Path, **_: object) -> None:
        if folder.exists():
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints.shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        checkpoints.prune(tmp_path, keep=1)
    monkeypatch.undo()
    for found in checkpoints.every(tmp_path):
        checkpoints.load_state(found, trained)
    assert [found.images for found in checkpoints.every(tmp_path)] == [16]
