"""What goes on beside a training with each of its checkpoints. It holds up no step, and no failure of it is the training's."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from langevin.cluster.alone import Call, Running
from langevin.cluster.training import Training
from langevin.evaluation.thinning import Thinning, Turn
from langevin.training import checkpoint as checkpoints
from langevin.training.checkpoint import EMA, MANIFEST, Checkpoint

POLL_S = 0.5


class Companion(Protocol):
    """Who evaluates a training's checkpoints. Results are files of its own: a kill loses none that is there."""

    def knows(self, checkpoint: Checkpoint) -> bool: ...  # whether its result is there
    def call(self, folder: Path) -> Call: ...  # what computes the result of the checkpoint that lies there
    def land(self) -> None: ...  # reports the results that are there and were not reported
    def deliver(self) -> None: ...  # sees to it that what was reported is where it belongs, after the training
    def say(self, text: str) -> None: ...


@contextmanager
def beside(training: Training, companion: Companion | None, start: Callable[[Call, Path], Running]) -> Iterator[None]:
    """The body trains; meanwhile its checkpoints are evaluated, one at a time, and after it the last one. A body that
    fails or is interrupted ends the evaluation where it is. start: how a call gets a process of its own.
    """
    if companion is None:
        yield
        return
    attendant = _Attendant(training, companion, start)
    try:
        yield
        attendant.finish()
    finally:
        attendant.stop()
    companion.deliver()


class _Attendant:
    """A thread that looks after the evaluations, in the process of the driver: workers may die and come back."""

    def __init__(self, training: Training, companion: Companion, start: Callable[[Call, Path], Running]) -> None:
        self.training, self.companion, self.start = training, companion, start
        self.held = Path(training.folder) / "evaluating"
        known = [one.images for one in checkpoints.every(training.checkpoints) if companion.knows(one)]
        self.thinning = Thinning(max(known, default=0))
        self.running: Running | None = None
        self.last, self.stopped = threading.Event(), threading.Event()
        self.thread = threading.Thread(target=self._attend, name=f"beside {training.name}", daemon=True)
        self.thread.start()

    def finish(self) -> None:
        """Waits for the evaluation of the last checkpoint."""
        self.last.set()
        self.thread.join()

    def stop(self) -> None:
        self.stopped.set()
        self.thread.join()

    def _attend(self) -> None:
        waiting = False
        try:
            self.companion.land()  # what an earlier life computed and could not report any more
            while not self.stopped.wait(POLL_S):
                ending = self.last.is_set()  # asked before the checkpoints are: none comes after
                self.thinning.offer(self._committed())
                if self.running and self.running.is_over():
                    self._ended(self.running)
                if turn := self.thinning.take():
                    self._begin(turn)
                elif ending and not self.running:
                    return
                if ending and not waiting:
                    waiting = True
                    self.companion.say(f"evaluate beside: trained; waiting for {self.thinning.newest:,} images")
        except Exception as error:  # whatever storage, Ray or the system raise: the training goes on
            self.companion.say(
                f"evaluate beside: no more of it, {type(error).__name__}: {' '.join(str(error).split())}"
            )
        finally:
            if self.running:
                self.running.kill()
            shutil.rmtree(self.held, ignore_errors=True)

    def _committed(self) -> list[int]:
        return [int(path.parent.name) for path in self.training.checkpoints.glob(f"[!.]*/{MANIFEST}")]

    def _begin(self, turn: Turn) -> None:
        if turn.thinned:
            left_out = ", ".join(f"{images:,}" for images in turn.thinned)
            self.companion.say(f"evaluate beside: {turn.images:,} images; thinned: {left_out}")
        folder = self.held / f"{turn.images:012d}"
        if _hold(self.training.checkpoints / folder.name, folder):
            self.running = self.start(self.companion.call(folder), self.held / "log")
        else:  # gone meanwhile, so there is a newer one
            self.thinning.over()

    def _ended(self, running: Running) -> None:
        self.running = None
        if failure := running.failure():
            self.companion.say(f"evaluate beside: {self.thinning.newest:,} images failed: {failure}")
        self.companion.land()
        self.thinning.over()


def _hold(checkpoint: Path, folder: Path) -> bool:
    """What evaluates a checkpoint, under a second name: it stays readable when the training removes the checkpoint. False
    where it was removed already.
    """
    shutil.rmtree(folder.parent, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        for name in (EMA, MANIFEST):
            _link(checkpoint / name, folder / name)
    except FileNotFoundError:
        return False
    return True


def _link(file: Path, name: Path) -> None:
    try:
        os.link(file, name)
    except FileNotFoundError:
        raise
    except OSError:  # storage without a second name for a file
        shutil.copyfile(file, name)
