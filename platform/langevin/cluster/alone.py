"""A function in a process of its own, behind everything else on the machine: a child of this one, or a task of Ray."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from langevin.errors import LangevinError

NICE = 10  # a tenth of the CPU of those who want all of it: slow, but it never stands still


@dataclass(frozen=True)
class Call:
    """A module's function by its name, with texts as arguments: what travels to another process."""

    module: str
    function: str
    arguments: dict[str, str]

    @classmethod
    def of(cls, function: Callable[..., None], **arguments: str) -> Call:
        return cls(function.__module__, function.__qualname__, arguments)

    def __call__(self) -> None:
        getattr(importlib.import_module(self.module), self.function)(**self.arguments)


class Running(Protocol):
    """A call on its way. ``failure``: in one line, of one that is over; None where it did its work."""

    def is_over(self) -> bool: ...
    def failure(self) -> str | None: ...
    def kill(self) -> None: ...


class ChildProcess:
    """In a child, which dies with this process. log: a file for what it prints."""

    def __init__(self, call: Call, log: Path) -> None:
        self.log = log
        with log.open("wb") as printed:
            self.process = subprocess.Popen(
                [sys.executable, "-m", __name__], stdin=subprocess.PIPE, stdout=printed, stderr=printed, text=True
            )
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(asdict(call)) + "\n")
        self.process.stdin.flush()  # and stays open: its end tells the child that we are no more

    def is_over(self) -> bool:
        return self.process.poll() is not None

    def failure(self) -> str | None:
        code = self.process.wait()
        if code < 0:
            return f"killed by {signal.Signals(-code).name}"
        return _last_line(self.log.read_text(errors="replace")) if code else None

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


class RayTask:
    """In a task of the Ray that this process works with, which dies with this process. It asks for no CPU: the training
    has them all, and a task that waited for one would wait for its end. It gets a GPU where one is free.
    """

    def __init__(self, call: Call, log: Path) -> None:
        import ray

        gpus = min(1, int(ray.available_resources().get("GPU", 0)))
        # a worker that was made nice once must not become one of the training's
        task: Any = ray.remote(num_cpus=0, num_gpus=gpus, max_calls=1, max_retries=0)(_nicely)
        self.result = task.remote(call, gpus)

    def is_over(self) -> bool:
        import ray

        return bool(ray.wait([self.result], timeout=0)[0])

    def failure(self) -> str | None:
        import ray

        try:
            ray.get(self.result)
        except ray.exceptions.WorkerCrashedError:
            return "its process was killed"
        except ray.exceptions.RayTaskError as error:
            cause = error.cause or error
            said = _last_line(str(cause))
            return said if isinstance(cause, LangevinError) else f"{type(cause).__name__}: {said}"
        except ray.exceptions.RayError as error:
            return str(error).strip().partition("\n")[0]
        return None

    def kill(self) -> None:
        import ray

        ray.cancel(self.result, force=True)


def _nicely(call: Call, gpus: int = 0) -> None:
    os.nice(NICE)
    if not gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # those that there are may be the training's, and full
    call()


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else "it said nothing"


def _die_with_parent() -> None:
    os.read(sys.stdin.fileno(), 1)
    os._exit(1)


def main() -> None:
    """The child: reads its call from the first line of stdin, and ends when stdin does."""
    asked: dict[str, Any] = json.loads(sys.stdin.readline())
    threading.Thread(target=_die_with_parent, daemon=True).start()
    try:
        _nicely(Call(**asked))
    except LangevinError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
