"""Work in processes of its own beside a training: real children, on real checkpoints that the training removes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
import torch

from langevin.cluster.alone import NICE, Call, ChildProcess
from langevin.cluster.beside import beside
from langevin.cluster.training import Training
from langevin.training import checkpoint as checkpoints
from langevin.training.checkpoint import EMA, Checkpoint

SCRIPT = """
import os, shutil, sys, time
from pathlib import Path
held, result = Path({held!r}), Path({result!r})
result.with_suffix(".begun").write_text(str(os.getpid()))
while not result.with_suffix(".go").exists():
    time.sleep(0.02)
if result.with_suffix(".go").read_text() == "fail":
    raise ValueError("no features today")
shutil.copy(held / "ema.safetensors", result)
"""
PATIENCE_S = 120


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@dataclass
class Copies:
    """Copies a checkpoint's weights once it is let go: the evaluation of a test."""

    folder: Path
    said: list[str] = field(default_factory=list)
    landed: list[str] = field(default_factory=list)
    delivered: int = 0

    def result(self, images: int) -> Path:
        return self.folder / f"{images:012d}"

    def knows(self, checkpoint: Checkpoint) -> bool:
        return self.result(checkpoint.images).exists()

    def call(self, folder: Path) -> Call:
        script = self.folder / f"{folder.name}.py"
        script.write_text(SCRIPT.format(held=str(folder), result=str(self.folder / folder.name)))
        return Call("runpy", "run_path", {"path_name": str(script)})

    def land(self) -> None:
        self.landed = sorted(path.name for path in self.folder.iterdir() if not path.suffix)

    def deliver(self) -> None:
        self.delivered += 1

    def say(self, text: str) -> None:
        self.said.append(text)

    def begun(self, images: int) -> bool:
        path = self.result(images).with_suffix(".begun")
        return path.exists() and path.read_text() != ""

    def pid(self, images: int) -> int:
        return int(self.result(images).with_suffix(".begun").read_text())

    def let_go(self, images: int, how: str = "on") -> None:
        unfinished = self.result(images).with_suffix(".unfinished")
        unfinished.write_text(how)
        os.replace(unfinished, self.result(images).with_suffix(".go"))


@pytest.fixture
def training(tmp_path: Path) -> Training:
    return Training({"train": {"images": 1024}}, "", "", str(tmp_path / "run"), str(tmp_path), "", {})


@pytest.fixture
def copies(tmp_path: Path) -> Copies:
    (tmp_path / "results").mkdir()
    return Copies(tmp_path / "results")


def commit(training: Training, images: int, keep: int = 1) -> None:
    """A checkpoint, as a training of one kept checkpoint leaves it."""
    checkpoints.save_average(training.checkpoints / f"{images:012d}", {"w": torch.full((2,), images)}, images, {})
    checkpoints.prune(training.checkpoints, keep)


def test_a_checkpoint_stays_readable_and_those_that_come_meanwhile_are_thinned(
    training: Training, copies: Copies
) -> None:
    with beside(training, copies, ChildProcess):
        commit(training, 128)
        wait_until(lambda: copies.begun(128))
        assert psutil.Process(copies.pid(128)).nice() == min(NICE + os.nice(0), 19)
        for images in (256, 384, 512):
            commit(training, images, keep=2)
        time.sleep(1.2)  # looked at twice
        assert not copies.begun(512)
        assert [one.images for one in checkpoints.every(training.checkpoints)] == [384, 512]
        copies.let_go(128)
        wait_until(lambda: copies.begun(512))
        commit(training, 1024)
        for images in (512, 1024):
            copies.let_go(images)
    assert copies.landed == [f"{images:012d}" for images in (128, 512, 1024)]
    for images in (128, 512, 1024):
        assert copies.result(images).read_bytes() == _weights(training, images)
    assert any(line.startswith("evaluate beside: 512 images; thinned:") and "384" in line for line in copies.said)
    assert copies.delivered == 1
    assert not (Path(training.folder) / "evaluating").exists()

    with beside(training, copies, ChildProcess):  # again: all is known
        pass
    assert not copies.result(1024).with_suffix(".unfinished").exists()
    assert copies.delivered == 2


def test_a_failure_is_told_and_fails_nothing(training: Training, copies: Copies) -> None:
    with beside(training, copies, ChildProcess):
        commit(training, 128)
        copies.let_go(128, "fail")
        wait_until(lambda: bool(copies.said))
        commit(training, 256)
        wait_until(lambda: copies.begun(256))
        os.kill(copies.pid(256), signal.SIGKILL)
    told = [line for line in copies.said if "failed" in line]
    assert told == [
        "evaluate beside: 128 images failed: ValueError: no features today",
        "evaluate beside: 256 images failed: killed by SIGKILL",
    ]
    assert copies.landed == []

    copies.let_go(256)
    with beside(training, copies, ChildProcess):  # another life tries again what it finds
        pass
    assert copies.landed == [f"{256:012d}"]


def test_a_training_that_fails_ends_what_goes_on_beside_it(training: Training, copies: Copies) -> None:
    def fails() -> None:
        with beside(training, copies, ChildProcess):
            commit(training, 128)
            wait_until(lambda: copies.begun(128))
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        fails()
    assert not psutil.pid_exists(copies.pid(128))
    assert copies.delivered == 0


def test_a_companion_that_breaks_is_told_and_the_training_goes_on(training: Training, copies: Copies) -> None:
    copies.land = lambda: 1 / 0  # type: ignore[method-assign,assignment,return-value]
    with beside(training, copies, ChildProcess):
        commit(training, 128)
    assert copies.said == ["evaluate beside: no more of it, ZeroDivisionError: division by zero"]


def test_a_child_dies_with_its_parent(tmp_path: Path) -> None:
    begun = tmp_path / "result.begun"
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(held="", result=str(tmp_path / "result")))
    code = (
        "import time\nfrom pathlib import Path\nfrom langevin.cluster.alone import Call, ChildProcess\n"
        f"ChildProcess(Call('runpy', 'run_path', {{'path_name': {str(script)!r}}}), Path({str(tmp_path / 'log')!r}))\n"
        "time.sleep(600)\n"
    )
    with killed_at_last(subprocess.Popen([sys.executable, "-c", code])) as parent:
        wait_until(lambda: begun.exists() and begun.read_text() != "")
        child = psutil.Process(int(begun.read_text()))
        parent.kill()
        child.wait(PATIENCE_S)


@contextmanager
def killed_at_last(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _weights(training: Training, images: int) -> bytes:
    again = Path(training.home) / "again" / f"{images:012d}"
    made = checkpoints.save_average(again, {"w": torch.full((2,), images)}, images, {})
    return (made.folder / EMA).read_bytes()
