"""Snapshots of a real training: what they hold, what is made of them, and that no kill changes them."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import nn

from langevin.errors import CheckpointError
from langevin.training import checkpoint as checkpoints
from langevin.training import snapshots
from langevin.training.ema import EMA, PowerEMA
from langevin.training.loop import fit
from langevin.training.optimiser import adamw
from langevin.training.posthoc import Profile, nearest
from langevin.training.state import TrainState

from .example import BATCH, CutOffError, Diary, fresh, plan, stream

STDS = (0.05, 0.1)


def contents(folder: Path) -> dict[str, str]:
    """The sha256 of every file below, by its path; what is unfinished does not count."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.relative_to(folder).parts[0].startswith(".")
    }


def training(folder: Path, until: int | None = None) -> tuple[TrainState, Diary]:
    """Goes on where the last checkpoint in the folder ends: 12 steps, a snapshot every second, a checkpoint every fifth."""
    state = fresh(channels=8, stds=STDS)
    if last := checkpoints.latest(folder / "checkpoints"):
        checkpoints.load_state(last, state)
    diary = Diary(folder / "checkpoints", until, folder / "snapshots")
    steps = plan(12, checkpoint_every=5 * BATCH, snapshot_every=2 * BATCH)
    fit(state, stream(state.images), steps, diary)
    return state, diary


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    state, diary = training(folder)
    assert diary.kept == [2 * BATCH * n for n in range(1, 7)]
    assert [power.images for power in state.powers] == [12 * BATCH] * 2
    return folder


def test_snapshots_are_the_averages_by_name(whole: Path) -> None:
    found = snapshots.every(whole / "snapshots")
    assert [one.profile for one in found] == [Profile(std, 2 * BATCH * n) for n in range(1, 7) for std in STDS]
    assert found[0].checkpoint.folder.name == "000000000016-0.05"
    state = fresh(seed=5, channels=8, stds=STDS)
    last = checkpoints.latest(whole / "checkpoints")
    assert last is not None
    checkpoints.load_state(last, state)
    for snapshot, power in zip(found[-2:], state.powers, strict=True):
        kept = checkpoints.average(snapshot.checkpoint)
        assert kept.keys() == dict(power.model.named_parameters()).keys()
        assert all(torch.equal(kept[name], value) for name, value in power.model.named_parameters())


def test_the_first_power_average_serves(whole: Path) -> None:
    state = fresh(seed=5, channels=8, stds=STDS)
    last = checkpoints.latest(whole / "checkpoints")
    assert last is not None
    checkpoints.load_state(last, state)
    assert state.serving is state.powers[0].model
    served = checkpoints.average(last)
    assert all(torch.equal(served[name], value) for name, value in state.powers[0].model.state_dict().items())
    assert fresh().serving is not None
    plain = fresh()
    assert plain.serving is plain.ema.model


def flat(parameters: Mapping[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([value.detach().flatten() for _, value in sorted(parameters.items())])


def test_a_mixture_of_snapshots_is_the_average_tracked_directly(whole: Path) -> None:
    """All parameters at once: a tracked length to rounding; another ten times nearer than the tracked ones are to it."""
    stored = snapshots.every(whole / "snapshots")
    profiles, end = [one.profile for one in stored], 12 * BATCH
    tracked = {one.profile.std: flat(checkpoints.average(one.checkpoint)) for one in stored[-2:]}
    for std in STDS:
        torch.testing.assert_close(
            flat(snapshots.mix(stored, nearest(profiles, Profile(std, end)))), tracked[std], rtol=0, atol=1e-7
        )
    other = fresh(channels=8, stds=(0.07,))
    fit(other, stream(), plan(12), Diary())
    directly = flat(dict(other.powers[0].model.named_parameters()))
    mixed = snapshots.mix(stored, nearest(profiles, Profile(0.07, end)))
    assert all(value.dtype == torch.float32 for value in mixed.values())
    assert (flat(mixed) - directly).norm() < 0.1 * min((one - directly).norm() for one in tracked.values())


def test_snapshots_are_the_same_after_an_interruption(whole: Path, tmp_path: Path) -> None:
    """Cut off at the fifth step's checkpoint; what the sixth step would have left is there already, damaged."""
    with pytest.raises(CutOffError):
        training(tmp_path, until=5 * BATCH)
    assert len(snapshots.every(tmp_path / "snapshots")) == 4
    later = tmp_path / "snapshots" / f"{6 * BATCH:012d}-0.05"
    checkpoints.save_average(later, {"x": torch.ones(1)}, 6 * BATCH, {"std": 0.05, "images": 6 * BATCH})
    training(tmp_path)
    assert contents(tmp_path / "snapshots") == contents(whole / "snapshots")
    assert contents(tmp_path / "checkpoints") == contents(whole / "checkpoints")


def killed(folder: Path) -> None:
    """Trains until the file of the seventh snapshot is half written, and dies without a word."""
    torch.set_num_threads(1)
    save, written = checkpoints.save_file, []

    def dies(tensors: dict[str, torch.Tensor], path: Path) -> None:
        save(tensors, path)
        written.append(path)
        if "-" in path.parent.name and sum("-" in one.parent.name for one in written) == 7:
            os.truncate(path, 100)
            os.kill(os.getpid(), signal.SIGKILL)

    checkpoints.save_file = dies  # type: ignore[assignment]
    training(folder)


def test_snapshots_are_the_same_after_kill_9(whole: Path, tmp_path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(target=killed, args=(tmp_path,))
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
    found = snapshots.every(tmp_path / "snapshots")
    assert len(found) == 6
    assert snapshots.mix(found[:1], nearest([found[0].profile], found[0].profile))  # each is whole
    training(tmp_path)
    assert contents(tmp_path / "snapshots") == contents(whole / "snapshots")


def test_damaged_snapshots_are_named(whole: Path, tmp_path: Path) -> None:
    said = {"std": 0.05, "images": 8}
    small = {"a": torch.ones(2)}
    checkpoints.save_average(tmp_path / "1-0.05", small, 8, said)
    checkpoints.save_average(tmp_path / "2-0.05", {"a": torch.ones(3)}, 16, said | {"images": 16})
    found = snapshots.every(tmp_path)
    with pytest.raises(CheckpointError, match="another architecture than the first snapshot"):
        snapshots.mix(found, nearest([one.profile for one in found], Profile(0.05, 16)))
    checkpoints.save_average(tmp_path / "3-0.05", small, 8, {"std": 0.05})
    with pytest.raises(CheckpointError, match=r"3-0\.05.*does not say which average it is"):
        snapshots.every(tmp_path)


def test_averages_without_a_state_serve_but_train_no_further(tmp_path: Path) -> None:
    state, again = fresh(), fresh(seed=5)
    made = checkpoints.save_average(tmp_path / "average", state.ema.model.state_dict(), 24, {"any": 1})
    checkpoints.load_average(made, again.model)
    assert all(torch.equal(value, again.model.state_dict()[n]) for n, value in state.model.state_dict().items())
    with pytest.raises(CheckpointError, match=r"state\.safetensors: is missing"):
        checkpoints.load_state(made, again)


class Counting(nn.Module):
    """A weight, and a buffer that moves with every step."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.register_buffer("steps", torch.zeros(1))


def test_an_average_keeps_the_first_buffers() -> None:
    model = Counting()
    state = TrainState(model, EMA(model, 0.5), adamw(model, 0.0, (0.9, 0.99)), powers=(PowerEMA(model, 0.1),))
    model.get_buffer("steps").add_(3)
    state.images = 8
    state.update_averages()
    for average in (state.ema.model, state.powers[0].model):
        assert average.get_buffer("steps").item() == 0
    assert state.tensors()["model/steps"].item() == 3
